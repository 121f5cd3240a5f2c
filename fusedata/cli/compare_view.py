"""What `fusedata inspect A --compare B` draws."""

from typing import TYPE_CHECKING

from fusedata.cli.show import heading, line, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.cli.show import Cell
    from fusedata.compare import Compared, Comparison


def comparison_parts(found: "Comparison") -> "list[RenderableType]":
    """Draw two releases side by side."""
    parts: list[RenderableType] = [line((str(found.before), "bold"), "  →  ", (str(found.after), "bold"))]
    for dataset in found.datasets:
        parts += _dataset(dataset)
    return parts if found.datasets else [*parts, line(("Neither has a dataset.", "yellow"))]


def _dataset(found: "Compared") -> "list[RenderableType]":
    from fusedata.plots import number

    same = found.after - found.added - found.any_change
    told = f"{found.before:,} → {found.after:,} rows"
    parts: list[RenderableType] = [heading(found.dataset.upper(), told)]
    facts = {"added": found.added, "removed": found.removed, "changed": found.any_change, "the same": same}
    parts.append(line("  ", ", ".join(f"{what} {count:,}" for what, count in facts.items())))
    if found.changed:
        parts.append(line("  changed: ", ", ".join(f"{c} {n:,}" for c, n in found.changed.items())))
    counts: list[list[Cell]] = [
        [f"  {column} {value}", f"{before:,}", f"{after:,}", f"{after - before:+,}"]
        for column, value, before, after in found.counts
    ]
    parts += [line(), table(["  rows", "before", "after", ""], counts)]
    numbers: list[list[Cell]] = [
        [
            f"  {name}",
            *(number(getattr(side.summary, what)) for what in ("min", "median", "mean", "max") for side in pair),
        ]
        for name, pair in found.numbers.items()
    ]
    if numbers:
        heads = [f"{what}{side}" for what in ("min", "median", "mean", "max") for side in ("", " after")]
        parts += [line(), table(["  numbers", *heads], numbers)]
    shown = [(what, ids) for what, ids in found.examples.items() if ids]
    return [*parts, line(), *(line((f"  {what}: ", "dim"), ", ".join(ids)) for what, ids in shown)]
