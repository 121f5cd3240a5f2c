"""`fusedata build`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fusedata.dataset import Datasets

DEFAULT_PROFILE = "local"


@click.command("build")
@click.argument("recipe")
@click.option(
    "--profile", help="Where and how to run: a shipped name or a .toml file (default: the user's, else local)."
)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder (default: runs/RECIPE).")
@click.option("--limit", type=click.IntRange(min=1), help="Keep this many prompts, chosen by hash.")
@click.option("--dry-run", is_flag=True, help="Print what a build would take, and begin none.")
@click.option(
    "--calibrate",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --dry-run: build N prompts for real first, beside the run, and reckon from what that took.",
)
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
    calibrate: int | None,
    force_stage: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build the SFT and DPO datasets of RECIPE (a shipped name or a .toml file).

    A build that was stopped goes on where it stopped: run the same command again.
    """
    from fusedata.build import Build, failures
    from fusedata.cli.estimate_view import show_estimate
    from fusedata.cli.progress import TerminalReporter
    from fusedata.errors import ConfigError
    from fusedata.profile import find_profile, load_profile
    from fusedata.recipe import find_recipe, load_recipe

    asked = load_recipe(find_recipe(recipe))
    host = profile or default_profile()
    typed = _lasting(recipe), _lasting(host)
    task = Build(asked, load_profile(find_profile(host)), reporter=TerminalReporter(), typed=typed)
    folder = out or Path("runs") / asked.name
    if dry_run:
        show_estimate(task.plan(folder, limit=limit, calibrate=calibrate), as_json)
        return
    if calibrate:
        raise ConfigError("--calibrate measures for an estimate: give --dry-run with it.")
    datasets = task.run(folder, limit=limit, force=force_stage)
    _show_result(folder, datasets, failures(folder), as_json)


def default_profile() -> str:
    """Give the profile of a command that names none, with a line that says so: the user's own, else `local`."""
    from fusedata.user_config import load_user_config, user_config_path

    chosen = load_user_config().profile
    source = f" of {user_config_path()}" if chosen else ""
    click.echo(f"No --profile given: using the profile {chosen or DEFAULT_PROFILE}{source}.", err=True)
    return chosen or DEFAULT_PROFILE


def _lasting(name: str) -> str:
    """Name a recipe or profile so that it is found from any folder."""
    return str(Path(name).resolve()) if Path(name).suffix == ".toml" else name


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
