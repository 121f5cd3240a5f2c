"""`fusedata push`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusedata.publish.send import Pushed
    from fusedata.publishing import HubName, ModelRepo, Publish


def target_options(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """Add the options that say where a dataset is pushed."""
    for option in (
        click.option("--allow-stand-ins", is_flag=True, help="Push although stand-in models made it."),
        click.option("--tag", help="Name the release (default: data- and a digest of its files)."),
        click.option("--public", is_flag=True, help="Make new repositories public; without it they are private."),
        click.option(
            "--repo",
            metavar="ORG/NAME-{split}-Data",
            help="The two repositories; {split} becomes SFT and DPO (default: the recipe's, else the user's). Of a"
            " model ORG/NAME-{stage}.",
        ),
        click.option(
            "--to",
            "hubs",
            multiple=True,
            type=click.Choice(["hf", "modelscope"]),
            help="A hub to push to, again for another (default: the recipe's, else the user's).",
        ),
    ):
        command = option(command)
    return command


@click.command("push")
@click.argument("run", type=click.Path(path_type=Path))
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def push_command(
    run: Path,
    hubs: "tuple[HubName, ...]",
    repo: str | None,
    public: bool,
    tag: str | None,
    allow_stand_ins: bool,
    as_json: bool,
) -> None:
    """Push the datasets of RUN (a run, or a dataset folder), or a trained model, to Hugging Face and ModelScope.

    Only files that changed are sent; a push that was cut goes on by the same command. Tokens come from HF_TOKEN and
    MODELSCOPE_API_TOKEN, or from the hubs' own logins.
    """
    from fusedata.cli.progress import TerminalReporter
    from fusedata.mixture import is_mixture
    from fusedata.publish.release import find_datasets, recipe_name, run_of
    from fusedata.push import push
    from fusedata.readers import recipe_of
    from fusedata.store import read_run
    from fusedata.train.push import is_model

    if is_model(run):
        show_or_json(push_trained([run], hubs, repo, tag, public=public), as_json, public=public)
        return
    root = run_of(run)
    recipe = recipe_of(read_run(root)) if root and not is_mixture(read_run(root)) else None
    name = recipe.name if recipe else recipe_name(find_datasets(run)[0])
    target = chosen_target(name, recipe.publish if recipe else None, hubs, repo, public=public)
    pushed = push(run, target, tag=tag, allow_stand_ins=allow_stand_ins, stage=TerminalReporter().stage)
    show_or_json(pushed, as_json, public=target.public)


def push_trained(
    folders: "Sequence[Path]", hubs: "Sequence[HubName]", repo: str | None, tag: str | None, *, public: bool
) -> "Sequence[Pushed]":
    """Push trained models of one target. Raises FusedataError."""
    import json

    from fusedata.cli.progress import TerminalReporter
    from fusedata.train.push import push_models
    from fusedata.train.record import RECORD

    name = json.loads((folders[0] / RECORD).read_bytes())["target"]
    target = chosen_model_target(name, hubs, repo, public=public)
    return push_models(folders, target, tag=tag, stage=TerminalReporter().stage)


def chosen_model_target(name: str, hubs: "Sequence[HubName]", repo: str | None, *, public: bool) -> "ModelRepo":
    """Say where a model is pushed: by the options, or the user's configuration. Raises ConfigError."""
    from fusedata.publishing import model_target
    from fusedata.user_config import load_user_config

    user = load_user_config()
    return model_target(name, hubs=hubs, repo=repo, public=public, user_hubs=user.hubs, namespace=user.namespace)


def show_or_json(pushed: "Sequence[Pushed]", as_json: bool, *, public: bool) -> None:
    """Print what was pushed."""
    if as_json:
        import json

        click.echo(json.dumps(push_json(pushed)))
    else:
        show_pushed(pushed, public=public)


def chosen_target(
    recipe: str, own: "Publish | None", hubs: "Sequence[HubName]", repo: str | None, *, public: bool
) -> "Publish":
    """Say where to push: by the options, the recipe's table, or the user's configuration. Raises ConfigError."""
    from fusedata.publishing import target
    from fusedata.user_config import load_user_config

    user = load_user_config()
    return target(recipe, own, hubs=hubs, repo=repo, public=public, user_hubs=user.hubs, namespace=user.namespace)


def push_json(pushed: "Sequence[Pushed]") -> "list[dict[str, Any]]":
    """Give what was pushed as JSON."""
    from dataclasses import asdict

    return [asdict(one) for one in pushed]


def show_pushed(pushed: "Sequence[Pushed]", *, public: bool) -> None:
    """Print where the datasets are now, by address, commit and tag."""
    for one in pushed:
        rows = ", ".join(f"{count:,} {split}" for split, count in one.rows.items())
        files = f"{one.sent:,} files sent" + (f", {one.removed:,} removed" if one.removed else "")
        state = "public" if one.public else "private"
        click.echo(f"{one.url}  {state}, commit {one.commit}, tag {one.tag}")
        told = f"{rows} rows; " if rows else ""
        click.echo(f"  {told}{files if one.sent or one.removed else 'nothing had changed'}; verified")
        if public and not one.public:
            click.echo(f"  It stays private, as it was: {one.hub} changes that on its page.")
