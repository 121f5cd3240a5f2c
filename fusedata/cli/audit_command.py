"""`fusedata audit`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.show import heading, hung, line, say, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.audit import Finding, Report
    from fusedata.cli.show import Cell

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green", "skipped": "dim"}


@click.command("audit")
@click.argument("sources", metavar="RUN|FOLDER|HUB-ID...", nargs=-1, required=True)
@click.option("--gap", type=(float, float), help="The window that reward gaps are held to (default: the recipe's).")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens of a conversation (default: 2,048).")
@click.option("--language", "languages", multiple=True, help="A language that texts may be in, such as en; repeatable.")
@click.option("--quick", is_flag=True, help="Leave out the checks that read every text: language, secrets, …")
@click.option("--recheck", is_flag=True, help="Judge a run's answers again, by the recipe's own check.")
@click.option(
    "--benchmarks",
    type=click.Path(path_type=Path),
    help="A folder of benchmarks that no text may be of (default: what the build, or the user's profile, found).",
)
@click.option("--tokenizer", help="Count tokens by this one: a folder, or a hub's model (default: the rows' columns).")
@click.option("--hub", type=click.Choice(["huggingface", "modelscope"]), default="huggingface", show_default=True)
@click.option("--revision", help="The hub's revision of the dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def audit_command(
    sources: tuple[str, ...],
    *,
    gap: tuple[float, float] | None,
    max_tokens: int | None,
    languages: tuple[str, ...],
    quick: bool,
    recheck: bool,
    benchmarks: Path | None,
    tokenizer: str | None,
    hub: str,
    revision: str | None,
    as_json: bool,
) -> None:
    """Audit datasets, ours or anyone's: schema, leakage, duplicates, lengths, verdicts and more.

    Each source is a run, a folder or file of SFT rows or pairs (Parquet or JSON), or a dataset on a hub. Several are
    held against each other too. Exits with 1 where there is an error, with 2 on bad input.
    """
    from fusedata.audit import READ_ALL, audit, usual_benchmarks
    from fusedata.audit.expected import MAX_TOKENS
    from fusedata.plots import json_text

    report = audit(
        *sources,
        gap=gap,
        max_tokens=max_tokens or MAX_TOKENS,
        languages=languages,
        skip=READ_ALL if quick else (),
        recheck=recheck,
        benchmarks=benchmarks,
        usual=usual_benchmarks(),
        tokenizer=tokenizer,
        hub=hub,  # type: ignore[arg-type]
        revision=revision,
    )
    if as_json:
        click.echo(json_text({**asdict(report), "errors": len(report.errors)}))
    else:
        say(*report_parts(report), whole=True)
    if report.errors:
        sys.exit(1)


def report_parts(report: "Report") -> "list[RenderableType]":
    """Draw a report: the sizes, the findings, examples of those that matter, and one line that sums up."""
    sizes: list[list[Cell]] = [
        [size.dataset, size.shape, ", ".join(f"{split} {rows:,}" for split, rows in size.splits.items())]
        for size in report.datasets
    ]
    parts: list[RenderableType] = [table(["dataset", "shape", "rows"], sizes, left=range(3)), line()]
    found = [finding for finding in report.findings if finding.severity != "ok"]
    parts.append(table(["", "check", "dataset", "rows", "what was found"], [_row(f) for f in found], left=(0, 1, 2, 4)))
    passed = list(dict.fromkeys(finding.check for finding in report.of("ok")))
    parts += [line(), line(("nothing found: ", "green"), ", ".join(passed))] if passed else []
    for finding in report.of("error", "warning"):
        parts += _examples(finding)
    errors, warnings = len(report.errors), len(report.warnings)
    style = "bold red" if errors else "bold green"
    return [*parts, line("\n", (f"{errors} errors, {warnings} warnings", style))]


def _row(finding: "Finding") -> "list[Cell]":
    share = f" ({finding.count / finding.of:.1%})" if finding.of and finding.count else ""
    splits = ", ".join(f"{split} {count:,}" for split, count in finding.splits.items())
    rate = f"; {finding.rate / 1e6:,.1f} M characters a second" if finding.rate else ""
    told = f"{finding.message}{f' [{splits}]' if splits else ''}{rate}"
    style = _STYLES[finding.severity]
    return [(finding.severity, style), finding.check, finding.dataset, f"{finding.count:,}{share}", told]


def _examples(finding: "Finding") -> "list[RenderableType]":
    from fusedata.plots import one_line

    if not finding.examples:
        return []
    parts: list[RenderableType] = [heading(finding.check, finding.dataset)]
    for example in finding.examples:
        place = f"{example.split} {example.row}" if example.row >= 0 else example.split
        said = one_line(example.detail or "", 90)
        parts.append(hung(line(place, (f"  {example.prompt_id or ''}", "dim"), f"  {said}")))
    return parts
