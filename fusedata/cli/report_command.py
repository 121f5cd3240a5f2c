"""`fusedata report`."""

from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--html", is_flag=True, required=True, help="Write one HTML file that needs no network.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The file to write  [default: RUN/report.html].")
@click.option(
    "--pairs",
    type=click.IntRange(min=0),
    help="Pairs whose texts are shown  [default: 2,000, while the file stays below 25 MB]. Numbers are of all pairs.",
)
def report_command(run: Path, html: bool, out: Path | None, pairs: int | None) -> None:  # noqa: ARG001 - the one form so far
    """Write a page about RUN: where prompts went, rewards, lengths, win rates, and the pairs side by side."""
    from fusedata.report.page import write_report

    path = out or run / "report.html"
    size = write_report(run, path, pairs)
    click.echo(f"{path}: {size / 1e6:.1f} MB")
