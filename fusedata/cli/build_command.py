"""`fusedata build`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fusedata.build import Build
    from fusedata.dataset import Datasets

DEFAULT_PROFILE = "local"


@click.command("build")
@click.argument("recipe")
@click.option("--profile", help="Where and how to run: a shipped name or a .toml file (default: local).")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder (default: runs/RECIPE).")
@click.option("--limit", type=click.IntRange(min=1), help="Keep this many prompts, chosen by hash.")
@click.option("--dry-run", is_flag=True, help="Print what would be drawn, and draw nothing.")
@click.option(
    "--force-stage", multiple=True, metavar="STAGE", help="Make a stage anew: prompts, responses, verdicts or rewards."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build_command(
    recipe: str,
    profile: str | None,
    out: Path | None,
    limit: int | None,
    dry_run: bool,
    force_stage: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build the SFT and DPO datasets of RECIPE (a shipped name or a .toml file).

    A build that was stopped goes on where it stopped: run the same command again.
    """
    from fusedata.build import Build, failures
    from fusedata.cli.progress import TerminalReporter
    from fusedata.profile import find_profile, load_profile
    from fusedata.recipe import find_recipe, load_recipe

    asked = load_recipe(find_recipe(recipe))
    if profile is None:
        click.echo(f"No --profile given: using the profile {DEFAULT_PROFILE}.", err=True)
    host = profile or DEFAULT_PROFILE
    typed = _lasting(recipe), _lasting(host)
    task = Build(asked, load_profile(find_profile(host)), reporter=TerminalReporter(), typed=typed)
    folder = out or Path("runs") / asked.name
    if dry_run:
        _dry_run(task, limit, as_json)
        return
    datasets = task.run(folder, limit=limit, force=force_stage)
    _show_result(folder, datasets, failures(folder), as_json)


def _lasting(name: str) -> str:
    """Name a recipe or profile so that it is found from any folder."""
    return str(Path(name).resolve()) if Path(name).suffix == ".toml" else name


def _dry_run(task: "Build", limit: int | None, as_json: bool) -> None:
    import json

    from fusedata.cli.show import heading, say, table

    plan = task.plan(limit=limit)
    if as_json:
        click.echo(json.dumps(plan))
        return
    rows = [["?" if value is None else _shown(value) for value in row.values()] for row in plan]
    headers = [name.replace("_", " ") for name in plan[0]] if plan else ["no source model is sampled"]
    say(heading("Would be drawn", "nothing was; ?: not known before the corpora are fetched"), table(headers, rows))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _show_result(folder: Path, datasets: "Datasets", failed: int, as_json: bool) -> None:
    import json

    counts = {
        kind: {"train": int((~rows["test"]).sum()), "test": int(rows["test"].sum())}
        for kind, rows in (("sft", datasets.sft), ("dpo", datasets.dpo))
    }
    dropped = dict(datasets.places["dropped"].drop_nulls().value_counts(sort=True).iter_rows())
    if as_json:
        click.echo(json.dumps({"run": str(folder), **counts, "dropped": dropped, "failed": failed}))
        return
    for kind, rows in counts.items():
        where = folder / "dataset" / kind
        total = sum(rows.values())
        click.echo(
            f"{kind.upper()}  {total:,} rows ({rows['train']:,} train, {rows['test']:,} test)"
            + (f"  {where}" if total else "")
        )
    if not datasets.sft.height + datasets.dpo.height:
        click.echo(f"No prompt gave a row; fusedata status {folder} says why.", err=True)
    if dropped:
        click.echo("Left out: " + ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()))
    if failed:
        click.echo(f"{failed:,} samples failed (see: fusedata status {folder}); the same command tries them again.")
    click.echo(f"Look inside: fusedata inspect {folder}")
