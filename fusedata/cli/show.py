"""Text and tables on standard output: drawn for a terminal; elsewhere plain, and tables as wide as they need to be."""

import shutil
import sys
from collections.abc import Collection, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from fusedata.shards import Shard

    Cell = str | tuple[str, str] | Text
    """A text, a text with its style, or a text that is ready."""

PIPE_WIDTH = 100
"""Columns that text is wrapped to where the output is no terminal and COLUMNS is not set."""


def width() -> int:
    """Columns to fill: the terminal's, or those of COLUMNS, or PIPE_WIDTH."""
    return max(40, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns)


def text(cell: "Cell") -> "Text":
    """Text as it is shown: nothing in it is markup, and control characters are escaped."""
    from rich.text import Text

    from fusedata.plots import clean

    if isinstance(cell, Text):
        return cell
    content, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text(clean(content), style, overflow="fold")


def line(*cells: "Cell") -> "Text":
    """Join texts to one line."""
    from rich.text import Text

    return Text("", overflow="fold").append_text(Text("").join([text(cell) for cell in cells]))


def table(
    headers: Sequence[str], rows: "Sequence[Sequence[Cell]]", *, left: Collection[int] = (0,), header: bool = True
) -> "Table":
    """Lay out a table without lines: the columns at `left` stand left and may be folded, the others right."""
    from rich.table import Table

    drawn = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(headers):
        if number in left:
            drawn.add_column(text(name), overflow="fold")
        else:
            drawn.add_column(text(name), justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(text, row))
    return drawn


def say(*parts: "RenderableType", whole: bool = False) -> None:
    """Print texts and tables, one below the other; `whole`: where there is no terminal nothing is folded."""
    from rich.console import Console, Group

    if not parts:
        return
    if sys.stdout.isatty():
        Console(width=width(), markup=False, highlight=False, emoji=False).print(Group(*parts))
        return
    file = StringIO()
    columns = 10_000 if whole else width()
    Console(file=file, width=columns, color_system=None, markup=False, highlight=False, emoji=False).print(
        Group(*parts)
    )
    click.echo("\n".join(row.rstrip() for row in file.getvalue().splitlines()))


def heading(title: str, note: str = "") -> "Text":
    """A heading with a blank line above it."""
    return line("\n", (title, "bold"), (f"  {note}" if note else "", "dim"))


def hung(content: "RenderableType", by: int = 2) -> "RenderableType":
    """Indent by `by` columns."""
    from rich.padding import Padding

    return Padding(content, (0, 0, 0, by), expand=False)


def say_shard_is_done(shard: "Shard", folder: "Path", as_json: bool) -> None:
    """Tell that a shard ended before others did."""
    import json

    if as_json:
        click.echo(json.dumps({"run": str(folder), "shard": str(shard)}))
        return
    click.echo(f"Shard {shard} is done; the last shard writes the datasets. What is left: fusedata status {folder}")
