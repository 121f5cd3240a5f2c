"""Datasets into the folder `RUN/dataset`: written beside it, then put in its place."""

from pathlib import Path

import orjson
import polars as pl
import tomli_w

from fusedata.assets import asset
from fusedata.card import Facts, published_path, render
from fusedata.dataset import Datasets
from fusedata.publish.folder import Written, checksums, write_split
from fusedata.recipe import Recipe
from fusedata.store import replacing, writing


def publish(folder: Path, datasets: Datasets, facts: Facts) -> None:
    """Write `folder`/sft and `folder`/dpo; a dataset without a row is not written. Raises RunError."""
    template = asset("cards", "dataset.md.j2").read_text(encoding="utf-8")
    with replacing(folder) as new:
        for kind, rows in (("sft", datasets.sft), ("dpo", datasets.dpo)):
            if rows.height:
                data = _write(new / kind, rows)
                _text(new / kind / "README.md", render(template, kind, rows, data, facts))
                _text(new / kind / "recipe.toml", recipe_toml(facts.recipe))
                sums = orjson.dumps(checksums(new / kind), option=orjson.OPT_INDENT_2).decode()
                _text(new / kind / "checksums.json", sums + "\n")


def _write(folder: Path, rows: pl.DataFrame) -> dict[str, Written]:
    splits = {"train": rows.filter(~pl.col("test")), "test": rows.filter("test")}
    return {split: write_split(folder, split, part.drop("test")) for split, part in splits.items() if part.height}


def _text(path: Path, text: str) -> None:
    with writing(path) as file:
        file.write(text.encode())


def recipe_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, without the folders of this machine: a corpus's `path` keeps its last part."""
    data = recipe.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    for corpus in data["corpora"]:
        if "path" in corpus:
            corpus["path"] = published_path(corpus["path"])
    return tomli_w.dumps(data)
