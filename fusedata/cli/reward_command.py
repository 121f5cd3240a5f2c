"""`fusedata reward`."""

import sys
from typing import TYPE_CHECKING, Literal

import click

from fusedata.cli.lines import opened, parsed, put

if TYPE_CHECKING:
    from fusedata.profile import RewardHost

_MANY = click.IntRange(1, 2**31 - 1)


@click.command("reward")
@click.argument("file")
@click.option("--model", required=True, help="The reward model: a hub id, a folder, or the stand-in's name.")
@click.option("--profile", help="Take its [reward] table: a shipped name or a .toml file (default: none).")
@click.option("--revision", help="A commit, tag or branch of the model.")
@click.option("--weights", help="A folder with its weights, or package:DISTRIBUTION/FILE.gguf (default: the hub).")
@click.option("--device", help="cpu, cuda, cuda:1, … (default: the profile's, else cpu).")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Precision of the model's body.")
@click.option("--output", type=click.IntRange(min=0), help="Which of the model's outputs is the reward.")
@click.option("--batch-tokens", type=_MANY, help="Tokens that go through the model at once.")
@click.option("--batch-size", type=_MANY, help="Rows that are scored at once.")
def reward_command(
    *,
    file: str,
    model: str,
    profile: str | None,
    revision: str | None,
    weights: str | None,
    device: str | None,
    dtype: Literal["float32", "bfloat16", "float16"] | None,
    output: int | None,
    batch_tokens: int | None,
    batch_size: int | None,
) -> None:
    """Score rows {"prompt", "response"} or {"messages", "response"} of FILE (`-`: standard input) by a reward model.

    Other keys are ignored. Prints for each row, in order, {"reward", "tokens"}; where "reward" is null, "error" says
    why. --weights, --device and --dtype load the model here, even where the profile names a server.
    """
    from fusedata.config import validate
    from fusedata.errors import ConfigError
    from fusedata.recipe import Reward
    from fusedata.reward.models import make_reward
    from fusedata.reward.rows import score_rows

    asked: dict[str, object] = {"model": model, "revision": revision, "output": output}
    here = {"weights": weights, "device": device, "dtype": dtype}
    host = _host(profile, here, {"batch_tokens": batch_tokens, "batch_size": batch_size})
    broken: list[str] = []
    with opened(file) as lines:
        scorer = make_reward(validate(Reward, asked, "fusedata reward"), host)
        for scored in score_rows(parsed(file, lines, broken), scorer, host.batch_size):
            why = {} if scored.error is None else {"error": scored.error}
            put({"reward": scored.score, "tokens": scored.tokens, **why})
    sys.stdout.buffer.flush()
    if broken:
        raise ConfigError(broken[0])


def _host(profile: str | None, here: dict[str, str | None], limits: dict[str, int | None]) -> "RewardHost":
    """Give the profile's host with what the command line says instead."""
    from fusedata.profile import RewardHost, find_profile, load_profile

    host = load_profile(find_profile(profile)).reward if profile else RewardHost()
    said = {key: value for key, value in {**here, **limits}.items() if value is not None}
    alone = {"server": None} if any(here.values()) else {}
    return host.model_copy(update={**said, **alone})
