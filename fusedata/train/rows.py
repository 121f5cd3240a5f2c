"""The rows that a stage is trained on: any dataset that fusedata reads, in the columns that TRL takes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from fusedata.audit.expected import recipe_in
from fusedata.errors import ConfigError
from fusedata.publish.folder import sha256
from fusedata.schema import digest, prompt_id, rank
from fusedata.sources import Dataset, Hub, datasets_in, fetched
from fusedata.train.settings import Stage

_MODELSCOPE = "ms:"
_TEST = frozenset({"test", "validation", "valid", "val", "eval", "dev"})
_COLUMNS = {"sft": {"completion": "response"}, "dpo": {"chosen": "chosen", "rejected": "rejected"}}


class Rows(NamedTuple):
    """The rows of one stage: `prompt` and `completion`, or `prompt`, `chosen` and `rejected`, lists of turns each.

    `split` and `row` say where they stand in the dataset.

    `test` is empty where nothing can be held out; `identity` says what was read: name, revision, and a digest of the
    files, and the licences of its sources.
    """

    stage: Stage
    train: pl.DataFrame
    test: pl.DataFrame
    identity: dict[str, Any]


def read_rows(name: str, stage: Stage | None, *, share: float, seed: int, revision: str | None = None) -> Rows:
    """Read the dataset `name`: a run, a folder or file, an id on Hugging Face, or `ms:` and an id on ModelScope.

    An id may end with `:SPLIT`. The stage is told from the columns where it is None. Where there is no test split,
    `share` of the prompts is held out, by a hash. Raises ConfigError, CorpusError, HubError, RunError.
    """
    hub: Hub = "modelscope" if name.startswith(_MODELSCOPE) else "huggingface"
    path, wanted = _split_off(name.removeprefix(_MODELSCOPE))
    local = Path(path).expanduser()
    found = fetched(local / "dataset" if (local / "dataset").is_dir() else path, hub=hub, revision=revision)
    dataset = _of_stage(name, datasets_in(found.folder, found.files), stage)
    columns = {"prompt": "prompt", **_COLUMNS[dataset.kind]}
    rows = dataset.rows.select("split", "row", **{to: pl.col(of) for to, of in columns.items()}).collect()
    trained, tested = _splits(name, sorted(rows["split"].unique()), wanted)
    train, held = (rows.filter(pl.col("split").is_in(splits)) for splits in (trained, tested))
    if not held.height:
        train, held = _held_out(train, share, seed)
    train, held = (frame.sort("split", "row") for frame in (train, held))
    identity = {"dataset": name, "revision": found.commit, "files": _digest(dataset), "licences": _licences(dataset)}
    return Rows(dataset.kind, train, held, identity)


def _split_off(path: str) -> tuple[str, str | None]:
    """Take the split off `owner/name:split`; what is there by its whole name has none."""
    before, colon, split = path.rpartition(":")
    return (before, split) if colon and not Path(path).expanduser().exists() else (path, None)


def _splits(name: str, splits: Sequence[str], wanted: str | None) -> tuple[list[str], list[str]]:
    """Give the splits that are trained on and those held out: `test_sft` belongs to `train_sft`, `test` to `train`.

    Raises ConfigError where there are several such pairs and none is named. Files of any other name are no splits: all
    are trained on.
    """
    words = {split: re.split(r"[-_.]", split) for split in splits}
    rest = {split: [word for word in parts if word not in {*_TEST, "train"}] for split, parts in words.items()}
    tests = [split for split, parts in words.items() if _TEST.intersection(parts)]
    trains = [split for split in splits if split not in tests]
    named = [split for split in trains if "train" in words[split]]
    if wanted is None and named and len(trains) > 1:
        found = f"holds several splits to train on ({', '.join(trains)})"
        raise ConfigError(f"--dataset {name}: {found}: name one (--dataset {name}:{named[0]}).")
    if wanted is None:
        return trains, tests
    if wanted not in trains:
        raise ConfigError(f"--dataset {name}: holds no split {wanted} to train on, but {', '.join(trains)}.")
    return [wanted], [split for split in tests if rest[split] == rest[wanted]]


def _licences(dataset: Dataset) -> dict[str, list[list[str | None]]]:
    """Give the licences of corpora and models that the dataset's own recipe states; empty where it has none."""
    folders = (folder for path in dataset.files[:1] for folder in path.parents[:2])
    recipe = next((found for found in map(recipe_in, folders) if found), None)
    if recipe is None:
        return {}
    carried = [(c.responses.source_model, c.responses.license) for c in recipe.corpora if c.responses]
    models = dict(carried + [(m.id, m.license) for m in recipe.source_models])
    return {"corpora": [[c.id, c.license] for c in recipe.corpora], "models": [list(pair) for pair in models.items()]}


def _of_stage(name: str, found: Sequence[Dataset], stage: Stage | None) -> Dataset:
    kinds = sorted({dataset.kind for dataset in found})
    if stage is None and len(kinds) > 1:
        raise ConfigError(f"--dataset {name}: holds SFT rows and pairs: say which with --stage sft, dpo or fuse.")
    fitting = [dataset for dataset in found if stage in {None, dataset.kind}]
    if not fitting:
        what = {"sft": "SFT rows", "dpo": "preference pairs"}
        raise ConfigError(f"--dataset {name}: holds no {what[stage or 'sft']}, only {what[kinds[0]]}.")
    if len(fitting) > 1:
        names = ", ".join(dataset.name for dataset in fitting)
        raise ConfigError(f"--dataset {name}: holds several datasets ({names}): name the folder of one of them.")
    return fitting[0]


def _held_out(rows: pl.DataFrame, share: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Hold out `share` of the prompts by a hash of what they say, one at least where there are two."""
    ids = [prompt_id([turn for turn in turns or () if turn["content"]]) for turns in rows["prompt"].to_list()]
    order = dict(zip(ids, rank("train", seed, ids), strict=True))
    chosen = {prompt for prompt, number in order.items() if number < int(share * 2**64)}
    if len(order) > 1:
        chosen = chosen or {min(order, key=order.__getitem__)}
    if len(chosen) == len(order):
        chosen = set()
    test = pl.Series([prompt in chosen for prompt in ids], dtype=pl.Boolean)
    return rows.filter(~test), rows.filter(test)


def _digest(dataset: Dataset) -> str:
    """Identify the content of the files that were read."""
    return digest(*(f"{path.name} {sha256(path)}" for path in sorted(dataset.files)))
