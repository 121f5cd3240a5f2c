"""`fusedata build`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusedata.cli.push_command import chosen_target, push_json, show_pushed, target_options
from fusedata.cli.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusedata.build import Build
    from fusedata.dataset import Datasets
    from fusedata.mixing import MixtureBuild
    from fusedata.mixture import Mixture
    from fusedata.publishing import HubName, Publish

DEFAULT_PROFILE = "local"


@click.command("build")
@click.argument("recipe")
@click.option(
    "--profile", help="Where and how to run: a shipped name or a .toml file (default: the user's, else local)."
)
@click.option(
    "--out", type=RunFolder(), help="The run folder, or its URL: s3://, gs:// or oss:// (default: runs/RECIPE)."
)
@click.option("--limit", type=click.IntRange(min=1), help="Keep this many prompts, chosen by hash.")
@click.option(
    "--on",
    "place",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Run models and verifiers here, or on the Ray cluster of RAY_ADDRESS (absent: one is started here).",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Build the I-th of N shares of the prompts, beside other shards in one run folder; the last one assembles.",
)
@click.option("--dry-run", is_flag=True, help="Print what a build would take, and begin none.")
@click.option(
    "--calibrate",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --dry-run: build N prompts for real first, beside the run, and reckon from what that took.",
)
@click.option(
    "--force-stage",
    multiple=True,
    metavar="STAGE",
    help="Make a stage anew: prompts, responses, verdicts, rewards or flaws.",
)
@click.option("--push", is_flag=True, help="Push the datasets when they are built; what follows says where.")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build_command(
    recipe: str,
    *,
    profile: str | None,
    out: Path | None,
    limit: int | None,
    place: str,
    shard: str | None,
    dry_run: bool,
    calibrate: int | None,
    force_stage: tuple[str, ...],
    push: bool,
    hubs: "tuple[HubName, ...]",
    repo: str | None,
    public: bool,
    tag: str | None,
    allow_stand_ins: bool,
    as_json: bool,
) -> None:
    """Build the SFT and DPO datasets of RECIPE (a shipped name or a .toml file), or of a mixture of recipes.

    Each recipe of a mixture is built in a run of its own, RUN/RECIPE; --limit and --force-stage hold for each.

    A build that was stopped goes on where it stopped: run the same command again.
    """
    from fusedata.build import Build, failures
    from fusedata.cli.estimate_view import show_estimate
    from fusedata.cli.progress import TerminalReporter
    from fusedata.errors import ConfigError
    from fusedata.mixture import Mixture, find_named, load_named
    from fusedata.profile import find_profile, load_profile

    asked = load_named(find_named(recipe))
    host = profile or default_profile()
    typed = _lasting(recipe), _lasting(host)
    on_ray = place == "ray"
    alone = {"--dry-run": dry_run, "--on ray": on_ray, "--force-stage": force_stage}
    _check_together({"--push": push}, alone, shard, out)
    if isinstance(asked, Mixture):
        from fusedata.cli.mixture_view import build_mixture

        build_mixture(
            _mixture_build(asked, host, typed, on_ray=on_ray, push=push),
            out or Path("runs") / asked.name,
            limit=limit,
            shard=shard,
            dry_run=dry_run,
            calibrate=calibrate,
            force=force_stage,
            as_json=as_json,
        )
        return
    task = Build(asked, load_profile(find_profile(host)), reporter=TerminalReporter(), typed=typed)
    task = replace(task, on_ray=on_ray)
    folder = out or Path("runs") / asked.name
    if dry_run:
        show_estimate(task.plan(folder, limit=limit, calibrate=calibrate), as_json)
        return
    if calibrate:
        raise ConfigError("--calibrate measures for an estimate: give --dry-run with it.")
    if not push and (hubs or repo or public or tag or allow_stand_ins):
        raise ConfigError("--to, --repo, --public, --tag and --allow-stand-ins say how to push: give --push with them.")
    target = chosen_target(asked.name, asked.publish, hubs, repo, public=public) if push else None
    if target:
        _check_push(task, target, limit, allow_stand_ins=allow_stand_ins)
    if shard:
        _build_shard(task, folder, shard, limit, as_json)
        return
    datasets = task.run(folder, limit=limit, force=force_stage)
    if not (as_json and target):
        _show_result(folder, datasets, failures(folder), as_json)
    if target:
        from fusedata.push import push as push_datasets

        stage = task.reporter.stage
        pushed = push_datasets(folder, target, tag=tag, allow_stand_ins=allow_stand_ins, stage=stage)
        if as_json:
            _show_result(folder, datasets, failures(folder), as_json, pushed=push_json(pushed))
        else:
            show_pushed(pushed, public=target.public)


def _check_push(task: "Build", target: "Publish", limit: int | None, *, allow_stand_ins: bool) -> None:
    """Refuse what could not be pushed before anything is built. Raises ConfigError, HubError."""
    from fusedata.errors import ConfigError
    from fusedata.ledger import stand_ins
    from fusedata.push import STAND_INS, check_target

    recipe = task.recipe(limit)
    if stand_ins(task.asked, recipe) and not allow_stand_ins:
        raise ConfigError(f"The profile {task.profile.name} replaces choices of the recipe by stand-ins: {STAND_INS}")
    check_target(recipe.name, ("sft", "dpo") if recipe.dpo else ("sft",), target)


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


def _mixture_build(asked: "Mixture", host: str, typed: tuple[str, str], *, on_ray: bool, push: bool) -> "MixtureBuild":
    from fusedata.cli.progress import TerminalReporter
    from fusedata.errors import ConfigError
    from fusedata.mixing import make_mixture_build
    from fusedata.profile import find_profile, load_profile

    if push:
        raise ConfigError("--push goes with one recipe: build the mixture, then give its run to fusedata push.")
    whole = make_mixture_build(asked, load_profile(find_profile(host)), TerminalReporter(), typed)
    return replace(whole, builds={name: replace(build, on_ray=on_ray) for name, build in whole.builds.items()})


def _check_together(
    given: "Mapping[str, object]", alone: "Mapping[str, object]", shard: str | None, out: Path | None
) -> None:
    """Refuse what goes neither with --shard nor with a URL as --out, and what takes a build `alone`."""
    if shard:
        _refuse({**given, **alone}, "--shard")
    if out is not None and not isinstance(out, Path):
        _refuse(given, f"--out {out}")


def _refuse(given: "Mapping[str, object]", option: str) -> None:
    """Refuse what is given and does not go with an option. Raises ConfigError."""
    from fusedata.errors import ConfigError

    for other in (name for name, value in given.items() if value):
        raise ConfigError(f"{other} does not go with {option}: leave out one of them.")


def _build_shard(task: "Build", folder: Path, shard: str, limit: int | None, as_json: bool) -> None:
    """Build one shard; where it is the last, show what all of them gave."""
    from fusedata.build import failures
    from fusedata.cli.show import say_shard_is_done
    from fusedata.shards import read_shard

    share = read_shard(shard)
    datasets = task.run_shard(folder, share, limit=limit)
    if datasets:
        _show_result(folder, datasets, failures(folder), as_json, **({"shard": str(share)} if as_json else {}))
    else:
        say_shard_is_done(share, folder, as_json)


def _show_result(folder: Path, datasets: "Datasets", failed: int, as_json: bool, **more: object) -> None:
    import json

    counts = datasets.counts
    dropped = dict(datasets.places["dropped"].drop_nulls().value_counts(sort=True).iter_rows())
    if as_json:
        click.echo(json.dumps({"run": str(folder), **counts, "dropped": dropped, "failed": failed, **more}))
        return
    for kind, rows in counts.items():
        where = folder / "dataset" / kind
        total = sum(rows.values())
        click.echo(
            f"{kind.upper()}  {total:,} rows ({rows['train']:,} train, {rows['test']:,} test)"
            + (f"  {where}" if total else "")
        )
    if not any(sum(rows.values()) for rows in counts.values()):
        click.echo(f"No prompt gave a row; fusedata status {folder} says why.", err=True)
    if dropped:
        click.echo("Left out: " + ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()))
    if failed:
        click.echo(f"{failed:,} samples failed (see: fusedata status {folder}); the same command tries them again.")
    click.echo(f"Look inside: fusedata inspect {folder}")
