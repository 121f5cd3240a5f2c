"""Datasets into the folder `RUN/dataset`: written beside it, then put in its place."""

from pathlib import Path

import orjson
import polars as pl
import tomli_w

from fusedata.assets import asset
from fusedata.card import Facts, licences, published_path, render
from fusedata.card_parts import license_file, pictures
from fusedata.dataset import Datasets
from fusedata.licenses import LICENSE_FILE
from fusedata.publish.folder import Written, checksums, write_split
from fusedata.recipe import Recipe
from fusedata.store import replacing, writing

CARDS = {"README.md": "dataset.md.j2", "README_zh.md": "dataset_zh.md.j2"}
"""The cards of a dataset folder and their templates: English, and Chinese for ModelScope."""


def publish(folder: Path, datasets: Datasets, facts: Facts) -> None:
    """Write `folder`/sft and `folder`/dpo; a dataset without a row is not written. Raises RunError."""
    with replacing(folder) as new:
        for kind, rows in (("sft", datasets.sft), ("dpo", datasets.dpo)):
            if rows.height:
                _publish(new / kind, kind, rows, facts)


def _publish(folder: Path, kind: str, rows: pl.DataFrame, facts: Facts) -> None:
    data, sums = _write(folder, rows), checksums(folder)
    for name, template in CARDS.items():
        text = asset("cards", template).read_text(encoding="utf-8")
        _text(folder / name, render(text, kind, rows, data, facts, sums))
    for name, picture in pictures(kind, rows, facts.recipe).items():
        _text(folder / name, picture)
    _text(folder / LICENSE_FILE, license_file(licences(rows, facts.recipe)))
    _text(folder / "recipe.toml", recipe_toml(facts.recipe))
    every = orjson.dumps(checksums(folder), option=orjson.OPT_INDENT_2).decode()
    _text(folder / "checksums.json", every + "\n")


def _write(folder: Path, rows: pl.DataFrame) -> dict[str, Written]:
    splits = {"train": rows.filter(~pl.col("test")), "test": rows.filter("test")}
    return {split: write_split(folder, split, part.drop("test")) for split, part in splits.items() if part.height}


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
