"""`fusedata inspect`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from fusedata.cli.run_folder import RunFolder
from fusedata.cli.show import line, say

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from fusedata.inspect_ import Opened, Overview
    from fusedata.inspect_rows import Known, Sample
    from fusedata.lineage import Lineage

ResultT = TypeVar("ResultT")
ROWS = 10
"""Rows that --table shows where --samples does not say."""
SQL_ROWS = 100
"""Most rows of a query that are drawn; --json prints them all."""


@click.command("inspect")
@click.argument("run", metavar="RUN|FOLDER|HUB-ID", type=RunFolder())
@click.option("--table", help="Show the head of a table: prompts, responses, verdicts, rewards, dropped, sft or dpo.")
@click.option("--prompt", metavar="ID", help="Show everything known of a prompt; the beginning of its id is enough.")
@click.option("--sql", metavar="QUERY", help="Run SQL over the tables, by their names (polars' dialect).")
@click.option("--where", metavar="CONDITION", help="Keep dataset rows of which this SQL condition holds.")
@click.option(
    "--compare", type=click.Path(path_type=Path), help="Compare with a later release: added, removed, changed."
)
@click.option(
    "--samples", "--sample", type=click.IntRange(min=0), help=f"Rows to show (default: 2 a dataset; {ROWS} of a table)."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the sample rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON; rows as JSON lines.")
def inspect_command(  # noqa: PLR0917 - one an option
    run: Path,
    table: str | None,
    prompt: str | None,
    sql: str | None,
    where: str | None,
    compare: Path | None,
    samples: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Look into a run, a dataset folder or a dataset on a hub: counts, distributions, sample rows.

    Works while a build writes the run.
    """
    if sum(option is not None for option in (table, prompt, sql, compare)) > 1:
        raise click.UsageError("--table, --prompt, --sql and --compare exclude one another.")
    if where is not None and (prompt is not None or sql is not None):
        raise click.UsageError("--where goes with the default view, --table and --compare.")
    if compare is not None:
        _show_comparison(run, compare, where, as_json)
    elif table is not None:
        _show_table(run, table, where, ROWS if samples is None else samples, as_json)
    elif prompt is not None:
        _show_prompt(run, prompt, as_json)
    elif sql is not None:
        _show_query(run, sql, as_json)
    else:
        _show_overview(run, where, 2 if samples is None else samples, seed, as_json)


def _read(run: Path, read: "Callable[[Opened], ResultT]", where: str | None = None) -> ResultT:
    from fusedata.inspect_ import opened
    from fusedata.inspect_rows import filtered
    from fusedata.readers import settled

    def look() -> ResultT:
        source = opened(run)
        return read(source if where is None else filtered(source, where))

    return settled(look)


def _show_comparison(first: Path, second: Path, where: str | None, as_json: bool) -> None:
    from fusedata.cli.compare_view import comparison_parts
    from fusedata.compare import compare
    from fusedata.plots import json_text

    found = _read(first, lambda before: _read(second, lambda after: compare(before, after), where), where)
    if as_json:
        click.echo(json_text(asdict(found)))
        return
    say(*comparison_parts(found), whole=True)


def _show_overview(run: Path, where: str | None, count: int, seed: int, as_json: bool) -> None:
    from fusedata.cli.inspect_view import overview_parts, sample_parts
    from fusedata.inspect_ import overview
    from fusedata.inspect_rows import samples
    from fusedata.plots import json_text

    def read(source: "Opened") -> "tuple[Overview, list[Sample]]":
        found = overview(source)
        kinds = dict.fromkeys(row.dataset for row in reversed(found.counts))
        return found, [sample for kind in kinds if count for sample in samples(source, kind, count, seed)]

    found, rows = _read(run, read, where)
    if as_json:
        click.echo(json_text({**asdict(found), "samples": [asdict(row) for row in rows]}))
        return
    say(*overview_parts(found), whole=True)
    say(*(part for row in rows for part in sample_parts(row)))


def _show_table(run: Path, name: str, where: str | None, count: int, as_json: bool) -> None:
    from fusedata.inspect_rows import head, total

    frame, rows = _read(run, lambda source: (head(source, name, count), total(source, name)), where)
    if not as_json:
        say(line((name, "bold"), f"  {rows:,} rows, {frame.width} columns"))
    _show_frame(frame, as_json, rows)


def _show_query(run: Path, sql: str, as_json: bool) -> None:
    from fusedata.inspect_rows import query

    frame = _read(run, lambda source: query(source, sql, None if as_json else SQL_ROWS + 1))
    cut = not as_json and frame.height > SQL_ROWS
    _show_frame(frame.head(SQL_ROWS) if cut else frame, as_json, None if cut else frame.height)


def _show_frame(frame: "pl.DataFrame", as_json: bool, total: int | None) -> None:
    from fusedata.cli.inspect_view import frame_parts
    from fusedata.plots import json_text

    if as_json:
        for row in frame.iter_rows(named=True):
            click.echo(json_text(row))
        return
    say(*frame_parts(frame, total), whole=True)


def _show_prompt(run: Path, beginning: str, as_json: bool) -> None:
    from fusedata.cli.inspect_view import known_parts
    from fusedata.cli.lineage_view import lineage_parts
    from fusedata.inspect_rows import known
    from fusedata.lineage import lineage
    from fusedata.plots import json_text

    def read(source: "Opened") -> "tuple[Known, Lineage | None]":
        found = known(source, beginning)
        return found, lineage(source.run, found.prompt_id) if source.run else None

    found, way = _read(run, read)
    if as_json:
        click.echo(json_text({**asdict(found), "lineage": asdict(way) if way else None}))
        return
    say(*known_parts(found), *(lineage_parts(way) if way else ()))
