"""`fusedata status`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.run_folder import RunFolder
from fusedata.cli.show import heading, hung, line, say, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.cli.show import Cell
    from fusedata.status import Flow, Progress, Published, Status


@click.command("status")
@click.argument("run", type=RunFolder())
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as one JSON object.")
def status_command(run: Path, as_json: bool) -> None:
    """Say what the run in folder RUN has done, what failed and why, and what is left.

    Works while a build writes the run.
    """
    from fusedata.cli.mixture_view import show_mixture_status
    from fusedata.mixture_status import MixtureStatus, status_of
    from fusedata.plots import json_text

    found = status_of(run)
    if isinstance(found, MixtureStatus):
        show_mixture_status(found, as_json)
        return
    if as_json:
        click.echo(json_text(found))
        return
    say(*_head(found), *_stand_ins(found))
    say(*_progress(found), whole=True)
    say(*_reasons(found))
    say(*_flows(found), whole=True)
    say(*_contamination(found))
    say(*_end(found))


def _head(found: "Status") -> "list[RenderableType]":
    limit = f", limit {found.limit:,}" if found.limit else ""
    facts = f"  recipe {found.recipe}, profile {found.profile}{limit}, fusedata {found.fusedata}"
    return [line((str(found.run), "bold"), facts), line((found.description, "dim"))]


def _stand_ins(found: "Status") -> "list[RenderableType]":
    if not found.stand_ins:
        return [line("Nothing differs from the recipe: no stand-ins.")]
    title = heading("What differs from the recipe", f"stand-ins of the profile {found.profile}")
    return [title, *(hung(line((f"{key}  ", "yellow"), _change(*sides))) for key, *sides in found.stand_ins)]


def _change(before: object, after: object) -> str:
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        return "left out" if after is None else "added" if before is None else "replaced"
    sides = ("(none)" if side is None else str(side) for side in (before, after))
    return " → ".join(sides)


def _progress(found: "Status") -> "list[RenderableType]":
    longest = max((len(row.source) for row in found.progress), default=0)
    parts: list[RenderableType] = []
    for name in ("responses", "flaws", "verdicts", "rewards"):
        rows = [row for row in found.progress if row.table == name]
        if not rows and name == "flaws":
            continue
        if not rows:
            parts.append(heading(name, f"the recipe asks for no {name}"))
            continue
        extra = list(rows[0].verdicts or ["failed"])
        parts += [line(), table([name, "wanted", "done", "left", *extra], [_cells(row, longest) for row in rows])]
    return parts


def _cells(row: "Progress", longest: int) -> "list[Cell]":
    counts = ("?" if count is None else f"{count:,}" for count in (row.wanted, row.done, row.left))
    wanted, done, left = counts
    cells: list[Cell] = [f"{row.source:<{longest}}", wanted, (done, "" if row.left else "green")]
    cells.append((left, "yellow" if row.left else ""))
    if row.verdicts is not None:
        return cells + [f"{count:,}" for count in row.verdicts.values()]
    return [*cells, (f"{row.failed:,}", "red" if row.failed else "")]


def _reasons(found: "Status") -> "list[RenderableType]":
    """Why rows failed, why verdicts are open."""
    parts: list[RenderableType] = []
    for title, note, style, is_verdict in (
        ("Failed", "the next build tries these rows again", "red", False),
        ("Unjudged", "neither chosen nor rejected", "yellow", True),
    ):
        rows = [row for row in found.progress if row.reasons and (row.verdicts is not None) == is_verdict]
        if rows:
            parts.append(heading(title, note))
        for row in rows:
            parts.append(hung(line(f"{row.table} of {row.source}")))
            for reason in row.reasons:
                example = (f"  for example {reason.example}", "dim")
                parts.append(hung(line(f"{reason.count:,}  ", (reason.text, style), example), by=4))
    return parts


def _flows(found: "Status") -> "list[RenderableType]":
    """Where the rows of the corpora went, with the sums that must hold, and why they were left out or dropped."""
    if not found.flows:
        return [heading("prompts", "not collected yet")]
    names = {"rows_read": "rows read", "left_out": "left out", "prompts": "prompts", "sft": "SFT", "dpo": "DPO"}
    names |= {"both": "both"} if any(flow.both for flow in found.flows) else {}
    names |= {"dropped": "dropped"}
    rows = [[_count(flow, key) for key in names] for flow in found.flows]
    sums = [None if None in column else sum(n or 0 for n in column) for column in zip(*rows, strict=True)]
    corpora = [*(flow.corpus for flow in found.flows), "together"]
    cells = [
        [corpus, *("-" if n is None else f"{n:,}" for n in counts)]
        for corpus, counts in zip(corpora, [*rows, sums], strict=True)
    ]
    drawn = table(["prompts", *names.values()], cells)
    return [line(), drawn, _sums(found.flows, dict(zip(names, sums, strict=True))), *_why(found.flows)]


def _count(flow: "Flow", key: str) -> int | None:
    value = getattr(flow, key)
    return sum(value.values()) if isinstance(value, Mapping) else value


def _sums(flows: "Sequence[Flow]", sums: Mapping[str, int | None]) -> "RenderableType":
    text = f"{sums['rows_read']:,} rows read = {sums['prompts']:,} prompts + {sums['left_out']:,} left out"
    if sums["sft"] is not None:
        both = f" - {sums['both']:,} in both" if sums.get("both") else ""
        parts = f"{sums['sft']:,} SFT + {sums['dpo']:,} DPO{both} + {sums['dropped']:,} dropped"
        text += f"; {sums['prompts']:,} prompts = {parts}"
    wrong = [flow.corpus for flow in flows if not flow.holds]
    if wrong:
        return line(text, (f": does NOT hold for {', '.join(wrong)}", "bold red"))
    return line((text, "green"), (" ✓", "bold green"))


def _why(flows: "Sequence[Flow]") -> "list[RenderableType]":
    parts: list[RenderableType] = []
    for title, note, field in (
        ("Left out", "while collecting; (rows) are counted before prompts are", "left_out"),
        ("Dropped", "prompts that gave neither an SFT row nor a pair", "dropped"),
        ("No pair", "prompts that gave an SFT row only", "no_pair"),
    ):
        counts = Counter({(r, f.corpus): n for f in flows for r, n in (getattr(f, field) or {}).items()})
        if counts:
            rows: list[list[Cell]] = [[f"{n:>9,}", r, (c, "dim")] for (r, c), n in counts.most_common()]
            parts += [heading(title, note), table(["", "", ""], rows, left=range(3), header=False)]
    return parts


def _contamination(found: "Status") -> "list[RenderableType]":
    """What prompts were held against, and what not."""
    from fusedata.contamination.report import lines

    if not found.flows:
        return []
    return [heading("Benchmarks"), *(hung(line(text)) for text in lines(found.contamination))]


def _end(found: "Status") -> "list[RenderableType]":
    """The dataset, and what to type next."""
    parts: list[RenderableType] = [line(), *dataset_lines(found.dataset)]
    if found.left is None:
        parts.append(line(("The prompts are to be collected first; what is left is known then.", "yellow")))
    elif found.left:
        parts.append(line((f"{found.left:,} rows of the tables are left to do.", "yellow")))
    for number, command in enumerate(found.next):
        parts.append(line("Next: " if number == 0 else "  or: ", (command, "bold")))
    return parts


def dataset_lines(dataset: "Published | None") -> "list[RenderableType]":
    """Say how many rows a dataset has, and whether it is up to date."""
    if dataset is None:
        return [line(("No dataset yet.", "yellow"))]
    counts = "; ".join(_rows(kind, splits) for kind, splits in (("SFT", dataset.sft), ("DPO", dataset.dpo)))
    if dataset.stale:
        return [line(f"Dataset: {counts}. ", (f"Out of date: {', '.join(dataset.stale)}.", "yellow"))]
    near = f" {dataset.near_limits:,} pairs lie within the reward's noise of an end of the window."
    return [line(f"Dataset: {counts}. ", ("Up to date with the tables.", "green"), near if dataset.near_limits else "")]


def _rows(kind: str, splits: Mapping[str, int]) -> str:
    total = sum(splits.values())
    detail = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    return f"{kind} {total:,} row{'' if total == 1 else 's'}" + (f" ({detail})" if detail else "")
