"""Where datasets and models are pushed: hubs, the names of repositories, and whether everyone may see them."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fusedata.config import Model
from fusedata.corpus import Text
from fusedata.errors import ConfigError

HubName = Literal["hf", "modelscope"]
HUBS: tuple[HubName, ...] = ("hf", "modelscope")
_OWNER = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_SPLITS = {"sft": "SFT", "dpo": "DPO"}


def _pattern(repo: str) -> str:
    """Refuse a pattern that does not give one proper name for each of the two datasets."""
    if repo.count("{split}") != 1 or not re.fullmatch(f"{_OWNER}/{_OWNER}", repo.replace("{split}", "SFT")):
        raise ValueError(f'"{repo}" must be OWNER/NAME with one {{split}} in it, such as ORG/NAME-{{split}}-Data')
    return repo


Pattern = Annotated[str, AfterValidator(_pattern)]
Hubs = Annotated[tuple[HubName, ...], Field(min_length=1)]
Namespace = Annotated[str, Field(pattern=f"^{_OWNER}$", max_length=96)]


class Publish(Model):
    """The hubs that a dataset is pushed to, and its repositories there."""

    hubs: Hubs
    repo: Pattern
    """`{split}` stands for SFT or DPO: each dataset has a repository of its own."""
    public: bool = False
    """Make new repositories public. An existing one stays what it is; a public one is refused unless this is set."""

    def repo_of(self, kind: str) -> str:
        """Give the repository of the dataset `kind` ("sft", "dpo")."""
        return self.repo.replace("{split}", _SPLITS[kind])


def target(
    recipe: str,
    own: Publish | None,
    *,
    hubs: Sequence[HubName] = (),
    repo: str | None = None,
    public: bool = False,
    user_hubs: Sequence[HubName] = (),
    namespace: str | None = None,
) -> Publish:
    """Say where a dataset of `recipe` goes: by the command line, else its own table `own`, else the user's choices.

    A namespace alone names NAMESPACE/RECIPE-{split}-Data. Raises ConfigError where no hub or no repository is named.
    """
    chosen = tuple(dict.fromkeys(hubs or (own.hubs if own else ()) or user_hubs))
    named = repo or (own.repo if own else None) or (f"{namespace}/{recipe}-{{split}}-Data" if namespace else None)
    if not chosen or not named:
        missing = " and ".join(
            text for text, found in (("no hub (--to hf)", chosen), ("no repository (--repo)", named)) if not found
        )
        raise ConfigError(
            f"There is {missing} to push to: give --to and --repo ORG/NAME-{{split}}-Data, or a [publish] table in the "
            "recipe, or hubs and namespace in the user's configuration."
        )
    try:
        _pattern(named)
    except ValueError as error:
        raise ConfigError(f"--repo: {error}.") from None
    return Publish(hubs=chosen, repo=named, public=public or bool(own and own.public))


class ModelRepo(Model):
    """The hubs that a trained model is pushed to, and its repository there."""

    hubs: Hubs
    repo: Text
    """OWNER/NAME; `{stage}` stands for SFT or DPO."""
    public: bool = False
    """As of a dataset."""

    def repo_of(self, stage: str) -> str:
        """Give the repository of the model of `stage` ("sft", "dpo")."""
        return self.repo.replace("{stage}", _SPLITS[stage])


def model_target(
    name: str,
    *,
    hubs: Sequence[HubName] = (),
    repo: str | None = None,
    public: bool = False,
    user_hubs: Sequence[HubName] = (),
    namespace: str | None = None,
) -> ModelRepo:
    """Say where a model of the target `name` goes: by the command line, else the user's choices. Raises ConfigError."""
    chosen = tuple(dict.fromkeys(hubs or user_hubs))
    named = repo or (f"{namespace}/{name}-FuseChat-{{stage}}" if namespace else None)
    if not chosen or not named:
        raise ConfigError(
            "There is no hub or no repository to push the model to: give --to hf and --repo ORG/NAME-{stage}, or hubs "
            "and namespace in the user's configuration."
        )
    if not re.fullmatch(f"{_OWNER}/{_OWNER}", named.replace("{stage}", "SFT")):
        raise ConfigError(f'--repo: "{named}" must be OWNER/NAME, such as ORG/NAME-{{stage}}.')
    return ModelRepo(hubs=chosen, repo=named, public=public)
