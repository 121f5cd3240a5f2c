"""What `fusedata train` shows: progress while a stage runs, and its curves at the end."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import click

from fusedata.plots import number

Points = Sequence[tuple[float, float]]
_LOGGED = ("loss", "eval_loss", "rewards/accuracies", "rewards/margins", "eval_rewards/accuracies", "learning_rate")
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a Braille cell, by column and row."""
_EMPTY, _HELD_OUT = 0x2800, "o"


@contextmanager
def watching(name: str) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Show what is logged: a bar with step, time left and loss in a terminal, else a line each time."""
    with ExitStack() as stack:
        yield _bar(name, stack) if sys.stderr.isatty() else _line


def _line(entry: Mapping[str, float]) -> None:
    if shown := _values(entry, _LOGGED):
        click.echo(f"step {entry['step']}/{entry['total']}: {shown}", err=True)


def _values(entry: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {float(entry[name]):.4g}" for name in names if name in entry)


def _bar(name: str, stack: ExitStack) -> Callable[[Mapping[str, float]], None]:
    """Give a listener that draws a bar from what it hears first on: until then the model is loaded."""
    from rich import progress
    from rich.console import Console

    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[said]}"),
    ]
    bars = progress.Progress(*columns, console=Console(stderr=True))

    def said(entry: Mapping[str, float]) -> None:
        if not bars.tasks:
            stack.enter_context(bars)
            bars.add_task(name, total=entry["total"], said="")
        shown = _values(entry, _LOGGED[:2])
        task = bars.tasks[0]
        bars.update(task.id, completed=entry["step"], said=shown or task.fields["said"])

    return said


def plot(trained: Points, held_out: Points, width: int = 60, height: int = 8) -> list[str]:
    """Draw a curve of `trained` in dots, a mark for each point of `held_out`, and the values at both ends.

    Gives `height` lines, and one with the steps; nothing where there are fewer than two points in all.
    """
    points = [*trained, *held_out]
    if len(points) < 2:  # noqa: PLR2004 - a single point is no curve
        return []
    (left, right), (low, high) = (_ends([point[axis] for point in points]) for axis in (0, 1))
    cells = [[_EMPTY] * width for _ in range(height)]
    for x, y in _dots([((a - left) / (right - left), (high - b) / (high - low)) for a, b in trained], width * 2):
        row = min(round(y * (height * 4 - 1)), height * 4 - 1)
        cells[row // 4][x // 2] |= _DOTS[x % 2][row % 4]
    lines = [[chr(cell) for cell in row] for row in cells]
    for a, b in held_out:
        line = lines[round((high - b) / (high - low) * (height - 1))]
        line[round((a - left) / (right - left) * (width - 1))] = _HELD_OUT
    labels = [number(high, high - low), *[""] * (height - 2), number(low, high - low)]
    margin = max(map(len, labels))
    drawn = [f"{label:>{margin}} ┤{''.join(line)}".rstrip() for label, line in zip(labels, lines, strict=True)]
    ends = number(left), number(right)
    return [*drawn, f"{'step':>{margin}}  {ends[0]}{ends[1]:>{width - len(ends[0])}}"]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Give the lowest and the highest value, a little apart where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _dots(points: Points, columns: int) -> Iterator[tuple[int, float]]:
    """Give a height for each column of dots between the first point and the last, on straight lines; x is in [0, 1]."""
    places = sorted((round(x * (columns - 1)), y) for x, y in points)
    yield from places[:1]
    for (a, first), (b, second) in pairwise(places):
        for x in range(a + 1, b + 1):
            yield x, first + (second - first) * (x - a) / (b - a)
