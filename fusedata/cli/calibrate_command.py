"""`fusedata calibrate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.show import heading, hung, line, say, width

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.calibrate import Calibration, Reference
    from fusedata.scored import Scores

_SHARE = click.FloatRange(0, 1)


@click.command("calibrate")
@click.argument("scores", type=click.Path(path_type=Path))
@click.option("--model", help="The reward model to find a window for (default: the run's, or the only one).")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="ArmoRM's rewards of the same responses: a run or a file (default: those in SCORES, if any).",
)
@click.option(
    "--quantiles", nargs=2, type=_SHARE, metavar="LOW HIGH", help="Or: where the window lies among the gaps, 0 to 1."
)
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as one JSON object.")
def calibrate_command(
    scores: Path, model: str | None, reference: Path | None, quantiles: tuple[float, float] | None, as_json: bool
) -> None:
    """Propose a `reward_gap` for another reward model than ArmoRM, from a sample of scored responses.

    SCORES is a run folder, built with a recipe that has that [reward] and no reward_gap (--limit 500 is a sample), or a
    file of JSON lines {"prompt_id" or "prompt", "source_model", "reward"}, with "passed" where answers are checked.
    The window lies among this model's gaps between best and worst response where 0.01 to 0.1 lies among ArmoRM's.
    """
    from fusedata.calibrate import calibrate
    from fusedata.plots import json_text
    from fusedata.scored import read_scores

    source = read_scores(scores)
    name = model or source.chosen()
    found = calibrate(
        source.of(name),
        name,
        _reference(source, reference, quantiles),
        checked=source.checked,
        same_source_model=source.same_source_model,
    )
    if as_json:
        click.echo(json_text({**asdict(found), "toml": found.toml()}))
        return
    say(*_facts(found))
    say(*_histogram(found), whole=True)
    say(*_result(found))


def _reference(source: "Scores", path: Path | None, quantiles: tuple[float, float] | None) -> "Reference":
    """Choose what is known of ArmoRM's gaps, the best first. Raises ConfigError."""
    from fusedata.calibrate import PUBLISHED, Reference
    from fusedata.rules import ARMORM
    from fusedata.scored import read_scores

    if path is not None and quantiles is not None:
        raise click.UsageError("--reference and --quantiles exclude one another.")
    if quantiles is not None:
        if quantiles[0] >= quantiles[1]:
            raise click.UsageError("--quantiles: LOW must be below HIGH.")
        return Reference("the quantiles given", quantiles)
    if path is not None:
        return Reference(f"{ARMORM} in {path}", rows=read_scores(path).of(ARMORM))
    if ARMORM in source.models():
        return Reference(f"{ARMORM} in {source.path}", rows=source.of(ARMORM))
    return PUBLISHED


def _facts(found: "Calibration") -> "list[RenderableType]":
    low, high = found.quantiles
    head = f"  {found.gaps:,} gaps above 0 of {found.prompts:,} prompts, a prompt and source model each"
    rest = [
        f"{n:,} {what}"
        for n, what in ((found.inverted, "gaps at or below 0"), (found.unscored, "responses unscored"))
        if n
    ]
    lines: list[RenderableType] = [line((found.model, "bold"), head)]
    lines += [hung(line((f"left out: {', '.join(rest)}", "dim")))] if rest else []
    return [*lines, hung(line((f"window at quantiles {low:.3g} to {high:.3g}, by {found.origin}", "dim")))]


def _histogram(found: "Calibration") -> "list[RenderableType]":
    """Draw the gaps; the bars within the window are marked and coloured."""
    from fusedata.plots import bars, number

    low, high = found.window
    step = found.bars[0][1]
    labels = [f"{number(start, step):>10} " if end else f"{'above':>10} " for start, end, _ in found.bars]
    counts = [f" {count:,}" for *_, count in found.bars]
    room = max(8, min(width(), 72) - max(map(len, labels)) - max(map(len, counts)) - 6)
    drawn = bars([count for *_, count in found.bars], room)
    inside = [end is not None and end > low and start < high for start, end, _ in found.bars]
    rows = [
        line("  ", label, ("┃ " if within else "  ", "green"), (bar, "green" if within else "dim"), count)
        for label, within, bar, count in zip(labels, inside, drawn, counts, strict=True)
    ]
    return [heading("gaps", "┃ bars that the window reaches into"), *rows]


def _result(found: "Calibration") -> "list[RenderableType]":
    share = f"{found.pairs:,} of {found.prompts:,} prompts would give a pair ({found.pairs / found.prompts:.0%})"
    parts: list[RenderableType] = [
        heading("For the recipe", share),
        *(hung(line(row)) for row in found.toml().splitlines()),
    ]
    if found.interval:
        (a, b), (c, d) = found.interval
        parts.append(line(f"\n95 % intervals: lower end {a:g} to {b:g}, upper end {c:g} to {d:g}."))
    return [
        *parts,
        *(line(("\n" if number == 0 else "", ""), (note, "yellow")) for number, note in enumerate(found.notes)),
    ]
