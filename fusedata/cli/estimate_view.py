"""How `fusedata build --dry-run` shows what a build would take."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusedata.cli.show import Cell
    from fusedata.estimate import Estimate, Work


def show_estimate(found: "Estimate", as_json: bool) -> None:
    """Print an estimate: a line a model, then disk and rows, then what the numbers rest on."""
    import json

    from fusedata.cli.show import heading, hung, line, say, table

    if as_json:
        click.echo(json.dumps(estimate_json(found)))
        return
    headers = ["model", "prompts", "requests", "done", "tokens in", "tokens out", "at most"]
    headers += ["tokens/s", "hours", "GPU-hours"]
    rows = [_row(w) for w in found.work]
    if not any(w.done for w in found.work):
        headers, rows = [h for h in headers if h != "done"], [[*row[:3], *row[4:]] for row in rows]
    if any(w.side_by_side > 1 for w in found.work):
        headers.insert(-3, "GPUs")
        rows = [[*row[:-3], _engines(w), *row[-3:]] for row, w in zip(rows, found.work, strict=True)]
    judging = found.verify_core_hours
    say(
        heading("A build would take", "nothing was begun; ?: not known"),
        table(headers, rows),
        heading("All together"),
        table(
            ["", ""],
            [
                ["hours", _number(found.hours, ",.1f")],
                *most_of_them([found]),
                ["GPU-hours", _number(found.gpu_hours, ",.1f")],
                *([["verification", f"{_number(judging, ',.1f')} core-hours"]] if judging != 0 else []),
                ["disk", "?" if found.disk_bytes is None else f"{_short(found.disk_bytes)}B"],
                ["SFT rows", _number(found.sft_rows)],
                ["DPO pairs", _number(found.dpo_pairs)],
            ],
            header=False,
        ),
        heading("These numbers rest on"),
        *(hung(line(assumption)) for assumption in found.assumptions),
    )


def estimate_json(found: "Estimate") -> dict[str, Any]:
    """Give an estimate as JSON, hours and GPU-hours among it."""
    work = [asdict(w) | {"hours": w.hours, "gpu_hours": w.gpu_hours} for w in found.work]
    return asdict(found) | {"work": work, "hours": found.hours, "gpu_hours": found.gpu_hours}


def most_of_them(plans: "Iterable[Estimate]") -> "list[list[Cell]]":
    """Give the line that names what limits these plans, one after another, where their hours are known."""
    from fusedata.estimate import longest

    found = longest(plans)
    return [["most of them", f"{found[0]} {found[1]:.0%}"]] if found else []


def _engines(work: "Work") -> str:
    """How many engines work at a time, and the GPUs of each."""
    return "" if work.gpus is None else f"{work.side_by_side}x{work.gpus}"


def _row(work: "Work") -> list[str]:
    if work.completion_tokens_at_most is None:  # a reward model, which writes nothing
        shown = ["", _short(work.requests), "", _short(work.prompt_tokens), "", ""]
    else:
        counts = [work.prompts, work.requests, work.done, work.prompt_tokens, work.completion_tokens]
        shown = [*map(_short, counts), _short(work.completion_tokens_at_most)]
    times = [_number(hours, ",.1f") for hours in (work.hours, work.gpu_hours)]
    return [work.model, *shown, _number(work.tokens_per_second, ",.0f"), *times]


def _short(value: int | None) -> str:
    """Three digits are enough of an estimate."""
    if value is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,} "


def _number(value: float | None, form: str = ",") -> str:
    return "?" if value is None else format(value, form)
