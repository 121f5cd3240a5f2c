"""Datasets into the folder `RUN/dataset`: written beside it, then put in its place."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import orjson
import polars as pl
import tomli_w

from fusedata.assets import asset
from fusedata.card import Facts, licences, published_path, render
from fusedata.card_parts import license_file, pictures, shown, texts
from fusedata.dataset import Datasets
from fusedata.licenses import LICENSE_FILE
from fusedata.publish.folder import SplitWriter, Written, checksums, sums
from fusedata.recipe import Recipe
from fusedata.storage import scan
from fusedata.store import replacing, writing
from fusedata.winners import Winners

CARDS = {"README.md": "dataset.md.j2", "README_zh.md": "dataset_zh.md.j2"}
"""The cards of a dataset folder and their templates: English, and Chinese for ModelScope."""


def publish(folder: Path, found: Winners, facts: Facts) -> Datasets:
    """Write `folder`/sft and `folder`/dpo; a dataset without a row is not written. Raises RunError."""
    counts = {kind: dict.fromkeys(_SPLITS, 0) for kind in found.shares}
    kinds = [kind for kind, shares in found.shares.items() if shares]
    with replacing(folder) as new, ThreadPoolExecutor(len(counts)) as threads:
        made = threads.map(lambda kind: _publish(new / kind, kind, found, facts), kinds)
        for kind, data in zip(kinds, made, strict=True):
            counts[kind] |= {split: own.rows for split, own in data.items()}
    schemas = {kind: found.schema(kind) for kind in found.shares}
    places, flaws = found.decided.places, found.decided.flaws
    return Datasets(places, flaws, counts, lambda kind: _read(folder / kind, schemas[kind]))


_SPLITS = ("train", "test")


def _publish(folder: Path, kind: str, found: Winners, facts: Facts) -> dict[str, Written]:
    data, rows, whole = _write(folder, kind, found, facts.recipe.seed)
    known = sums(data.values())
    for name, template in CARDS.items():
        text = asset("cards", template).read_text(encoding="utf-8")
        _text(folder / name, render(text, kind, rows, data, facts, known, whole))
    for name, picture in pictures(kind, rows, facts.recipe).items():
        _text(folder / name, picture)
    _text(folder / LICENSE_FILE, license_file(licences(rows, facts.recipe)))
    _text(folder / "recipe.toml", recipe_toml(facts.recipe))
    every = orjson.dumps(checksums(folder, known=known), option=orjson.OPT_INDENT_2).decode()
    _text(folder / "checksums.json", every + "\n")
    return data


def _write(folder: Path, kind: str, found: Winners, seed: int) -> tuple[dict[str, Written], pl.DataFrame, pl.DataFrame]:
    """Write the splits; give what was written, all rows without their texts, and those that a card shows."""
    schema = found.schema(kind)
    columns = {name: dtype for name, dtype in schema.items() if name != "test"}
    whole = pl.DataFrame(schema=schema)
    rows = []
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder, split, columns)) for split in _SPLITS}
        for frame in found.frames(kind):
            rows.append(frame.drop(texts(frame)))
            whole = shown(pl.concat([whole, frame]), seed)
            for split, own in (("train", frame.filter(~pl.col("test"))), ("test", frame.filter("test"))):
                writers[split].write(own.drop("test"))
    written = {split: writer.written for split, writer in writers.items()}
    return {split: own for split, own in written.items() if own.rows}, pl.concat(rows), whole


def _read(folder: Path, schema: pl.Schema) -> pl.DataFrame:
    """Read a dataset of `publish` with a last column `test`, sorted by prompt_id and source model. Raises RunError."""
    frames = [pl.DataFrame(schema=schema)]
    for split in _SPLITS:
        if paths := sorted((folder / "data").glob(f"{split}-*.parquet")):
            rows = scan(paths, glob=False, hive_partitioning=False)
            frames.append(rows.with_columns(test=pl.lit(split == "test")).cast(schema).collect())
    return pl.concat(frames).sort("prompt_id", "source_model")


def _text(path: Path, text: str) -> None:
    with writing(path) as file:
        file.write(text.encode())


def recipe_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, without where it is pushed and without folders of this machine: paths keep their ends."""
    data = recipe.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"publish"})
    for corpus in data["corpora"]:
        if "path" in corpus:
            corpus["path"] = published_path(corpus["path"])
    return tomli_w.dumps(data)
