"""`fusedata export`."""

from pathlib import Path

import click


@click.command("export")
@click.argument("source", metavar="RUN|FOLDER|HUB-ID")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "form",
    required=True,
    type=click.Choice(["trl", "llamafactory", "ms-swift", "sharegpt", "fuseai"]),
    help="Who is to read it.",
)
@click.option("--hub", type=click.Choice(["huggingface", "modelscope"]), default="huggingface", show_default=True)
@click.option("--revision", help="The hub's revision of the dataset.")
def export_command(source: str, out: Path, *, form: str, hub: str, revision: str | None) -> None:
    """Write datasets into OUT in the shape that a trainer reads: TRL, LLaMA-Factory, ms-swift, ShareGPT or FuseAI's.

    The source is a run, a folder or file of SFT rows or pairs, or a dataset on a hub. No row is left out.
    """
    from fusedata.cli.show import line, say, table
    from fusedata.export import export

    written = export(source, form, out, hub=hub, revision=revision)  # type: ignore[arg-type]
    rows = [[str(one.path), one.dataset, one.split, f"{one.rows:,}"] for one in written]
    say(table(["written", "dataset", "split", "rows"], rows, left=range(3)), whole=True)
    if form == "llamafactory":
        say(line("Give ", (str(out), "bold"), " to LLaMA-Factory as dataset_dir; dataset_info.json names the sets."))
