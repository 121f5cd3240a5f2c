"""A trained model, pushed: weights, tokenizer, card, curves and record, and nothing else of its folder."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusedata.errors import ConfigError, RunError
from fusedata.licenses import LICENSE_FILE
from fusedata.plan import Advance
from fusedata.publish.protocol import Hub, Stage
from fusedata.publish.release import Release, hashed
from fusedata.publish.send import Pushed, look, prepare, send
from fusedata.publishing import HubName, ModelRepo
from fusedata.push import make_hub as make_any_hub
from fusedata.store import first_line
from fusedata.train.card import licences, model_card, published
from fusedata.train.record import RECORD

_CONFIG = "config.json"
_TRAVELS = (
    _CONFIG,
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "curves.png",
    LICENSE_FILE,
)
"""What of a model's folder is pushed as it is; its record and card travel without the paths of this machine."""


def make_hub(name: HubName) -> Hub:
    """Open a hub's models by its short name. Raises MissingExtraError."""
    return make_any_hub(name, "model")


def is_model(folder: Path) -> bool:
    """Whether `folder` is one that a training wrote."""
    return all((folder / name).is_file() for name in (RECORD, _CONFIG))


def read_model(folder: Path, beside: Path) -> Release:
    """Read a trained model; its record and card as they may be published are written to `beside`. Raises RunError."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if "kept" not in record:
            raise RunError(f"{folder}: its training is not finished: run the same `fusedata train` again, then push.")
        found = licences(record)
        if found.forbids_publishing:
            raise RunError(f"{folder} must not be pushed. {found.forbids_publishing[0]}")
        (beside / RECORD).write_text(json.dumps(published(record), indent=1, ensure_ascii=False), encoding="utf-8")
        (beside / "README.md").write_text(model_card(record), encoding="utf-8")
        paths = {path.name: path for pattern in _TRAVELS for path in sorted(folder.glob(pattern)) if path.is_file()}
        paths |= {path.name: path for path in (beside / RECORD, beside / "README.md")}
        files = {name: hashed(path) for name, path in sorted(paths.items())}
        made_by, licence = (record["stage"], record["target"]), found.tag["license"]
        return Release(folder, *made_by, licence, stand_ins=False, rows={}, files=files, holds="model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: cannot be read as a trained model ({first_line(error)}). Train it again.") from error


@contextmanager
def _silent(name: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG001 - the signature of a stage
    yield lambda _: None


def push_models(
    folders: Sequence[Path],
    target: ModelRepo,
    *,
    tag: str | None = None,
    make_hub: Callable[[HubName], Hub] = make_hub,
    stage: Stage = _silent,
) -> list[Pushed]:
    """Push trained models, each to a repository of its own on every hub of `target`.

    All are looked at before the first is written; a push that was cut is continued by the same call, and every file's
    hash is compared afterwards. Raises FusedataError.
    """
    with tempfile.TemporaryDirectory() as place:
        besides = [Path(place, str(number)) for number in range(len(folders))]
        for beside in besides:
            beside.mkdir()
        with stage("check the model", None):
            releases = [read_model(folder, beside) for folder, beside in zip(folders, besides, strict=True)]
        _check_apart([release.kind for release in releases], target)
        hubs = [make_hub(name) for name in target.hubs]
        with stage("look at the hubs", None):
            for hub in hubs:
                hub.account()
            shipments = [
                prepare(hub, target.repo_of(release.kind), release, tag, public=target.public)
                for hub in hubs
                for release in releases
            ]
        return [send(shipment, stage, public=target.public) for shipment in shipments]


def check_models(
    name: str, stages: Collection[str], target: ModelRepo, make_hub: Callable[[HubName], Hub] = make_hub
) -> None:
    """Refuse, before a training begins, what a push after it would refuse: the token and the repositories.

    Raises ConfigError, HubError, MissingExtraError.
    """
    _check_apart(stages, target)
    for short in target.hubs:
        hub = make_hub(short)
        hub.account()
        for kind in stages:
            look(hub, target.repo_of(kind), name, kind, public=target.public)


def _check_apart(stages: Collection[str], target: ModelRepo) -> None:
    if len({target.repo_of(kind) for kind in stages}) < len(stages):
        raise ConfigError(f"--repo {target.repo}: two models go there: write {{stage}} into it, for SFT and DPO.")
