"""Progress in the terminal; plain lines where the output is no terminal."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from fusedata.plan import Advance

_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal to draw in."""


class TerminalReporter:
    """Shows a build's stages on standard error: bars with rate and time left, or a line every ten seconds."""

    def changed(self, fields: Sequence[tuple[str, object, object]], redone: Sequence[str]) -> None:
        """Print what changed since the run's last build, and what is made anew because of it."""
        click.echo("The recipe in force differs from this run's last build:", err=True)
        for key, before, after in fields:
            click.echo(f"  {key}: {_short(before)} → {_short(after)}", err=True)
        click.echo("What follows from it:", err=True)
        for line in (*redone, "the selection and the dataset: made anew"):
            click.echo(f"  {line}", err=True)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        """Show one stage."""
        with _bar(name, total) if sys.stderr.isatty() else _lines(name, total) as advance:
            yield advance


def _short(value: object) -> str:
    return "-" if value is None else str(value)[:120]


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console

    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn() if total else progress.TextColumn(""),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn() if total else progress.TimeElapsedColumn(),
    ]
    began = time.monotonic()
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=total, rate="")

        def advance(count: int) -> None:
            done = bars.tasks[0].completed + count
            bars.update(task, advance=count, rate=_rate(done, began))

        yield advance
        bars.update(task, total=total or 1, completed=total or 1)


@contextmanager
def _lines(name: str, total: int | None) -> Iterator[Advance]:
    began = shown = time.monotonic()
    done = 0
    click.echo(name + (f": {total:,} to do" if total else " …"), err=True)

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if total and time.monotonic() - shown >= _EVERY:
            shown = time.monotonic()
            left = (total - done) * (shown - began) / done
            click.echo(f"{name}: {done:,}/{total:,}, {_rate(done, began)}, about {left:,.0f} s left", err=True)

    yield advance
    click.echo(f"{name}: done in {time.monotonic() - began:.1f} s", err=True)


def _rate(done: float, began: float) -> str:
    return f"{done / max(time.monotonic() - began, 1e-9):,.1f}/s"
