"""What the readers share: reading a run while another process may be writing it, and where its prompts end up.

Not promised: that two tables are read at the same instant. Each part is whole, and a count may lag behind the writer.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import orjson
import polars as pl

from fusedata.config import validate
from fusedata.dataset import OWN, SCHEMAS
from fusedata.errors import FusedataError, RunError
from fusedata.plan import asked_of
from fusedata.publish.stage import recipe_toml
from fusedata.recipe import Recipe
from fusedata.schema import KEY, PROMPTS, REWARDS
from fusedata.select import Selection
from fusedata.split import held_out
from fusedata.storage import scan
from fusedata.store import Parts, Run, collect, count, first_line, read_prompts

ResultT = TypeVar("ResultT")
KINDS = ("sft", "dpo")
FAILURES = (pl.exceptions.PolarsError, OSError)
"""What polars raises where a file cannot be read."""

_WAITS = (0.02, 0.1, 0.4)
"""Seconds before each further try where a file went away: a writer replaces failed rows and the dataset."""


def settled(read: Callable[[], ResultT]) -> ResultT:
    """Read what another process may be writing: again, where a file went away meanwhile. Raises what `read` raises."""
    for wait in _WAITS:
        try:
            return read()
        except RunError:
            time.sleep(wait)
    return read()


def recipe_of(run: Run) -> Recipe:
    """Give the recipe in force in a run. Raises RunError where this fusedata cannot read it."""
    try:
        return validate(Recipe, run.state["recipe"], "recipe")
    except (KeyError, FusedataError) as error:
        raise RunError(f"{run.root / 'run.json'}: holds no recipe of this fusedata ({first_line(error)}).") from error


def funnel_of(run: Run) -> list[tuple[str, str, int]] | None:
    """Give what collecting counted; None: it has not finished. Raises RunError where it cannot be read."""
    path = run.parts("prompts", "", PROMPTS).folder / "funnel.json"
    try:
        return [(corpus, what, count) for corpus, what, count in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}).") from error


def of_prompts(rows: pl.LazyFrame, prompts: pl.DataFrame) -> pl.LazyFrame:
    """Keep the rows that belong to one of `prompts`."""
    return rows.join(prompts.lazy().select("prompt_id"), on="prompt_id", how="semi", maintain_order="left")


def to_try_again(run: Run, stage: str, schema: pl.Schema) -> int:
    """Count the rows of a stage that failed and that the next build of this recipe takes up. Raises RunError."""
    tables = [(run.parts(stage, label, schema), label) for label in run.labels(stage)]
    if not any(table.paths("failed") for table, _ in tables):
        return 0
    recipe, prompts = recipe_of(run), read_prompts(run)
    asked = ((table, asked_of(table, prompts, recipe, label)) for table, label in tables)
    return sum(count(of_prompts(table.scan("failed"), own), table) for table, own in asked)


def expected(
    recipe: Recipe, found: pl.DataFrame, selection: Selection, places: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Give the keys, rewards and splits that the datasets of these tables have; what `published` gives of a dataset."""
    rewards = found.select(*(pl.col(name).cast(dtype) for name, dtype in REWARDS.items() if name in (*KEY, "reward")))
    sft = selection.sft.join(places.filter("sft").select("prompt_id"), on="prompt_id", how="semi")
    dpo = selection.pairs.join(places.filter("dpo").select("prompt_id"), on="prompt_id", how="semi")
    dpo = dpo.drop("chosen_reward", "rejected_reward").rename({"chosen_source_model": "source_model"})
    sides = {"chosen": "source_model", "rejected": "rejected_source_model"}
    if "chosen_own_sample" in dpo.columns:  # the target model wrote it, as it wrote the rejected one
        sides["chosen_own"] = "rejected_source_model"
    for side, model in sides.items():
        named = {"source_model": model, "sample": f"{side}_sample", "reward": f"{side}_reward"}
        dpo = dpo.join(rewards.rename(named), on=["prompt_id", model, f"{side}_sample"], how="left")
    rows = {"sft": sft.join(rewards, on=KEY, how="left"), "dpo": dpo}
    test = held_out([frame["prompt_id"] for frame in rows.values()], recipe.split.test, recipe.seed)
    split = pl.when(pl.col("prompt_id").is_in(test.implode())).then(pl.lit("test")).otherwise(pl.lit("train"))
    return {kind: _keyed(frame.with_columns(split=split), kind) for kind, frame in rows.items()}


_COLUMNS = {
    "sft": [*KEY, "reward"],
    "dpo": [
        *("prompt_id", "source_model", "rejected_source_model"),
        *(f"{side}_{name}" for side in ("chosen", "rejected", "chosen_own") for name in ("sample", "reward")),
    ],
}
_DTYPES = {"sft": SCHEMAS["sft"], "dpo": {**SCHEMAS["dpo"], **OWN}}


def published(folder: Path, kind: str) -> pl.DataFrame:
    """Read the keys, rewards and splits of the dataset in `folder`; no row where it is absent. Raises RunError."""
    rows = scan_dataset(folder)
    if rows is None:
        return _keyed(pl.DataFrame(schema={**SCHEMAS[kind], "split": pl.String()}), kind)
    columns = pl.selectors.by_name(*_COLUMNS[kind], "split", require_all=False)
    return _keyed(collect_files(rows.select(columns), [folder]), kind)


def same_recipe(folder: Path, recipe: Recipe) -> bool:
    """Whether the dataset in `folder` was made by `recipe`; an absent one may have been."""
    try:
        return not folder.exists() or (folder / "recipe.toml").read_text(encoding="utf-8") == recipe_toml(recipe)
    except OSError:
        return False


def _keyed(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Give the columns that are compared; those of a target model are null where there is none."""
    none = {name: pl.lit(None) for name in _COLUMNS[kind] if name in OWN and name not in rows.columns}
    columns = (pl.col(name).cast(_DTYPES[kind][name]) for name in _COLUMNS[kind])
    return rows.with_columns(**none).select(*columns, "split").sort("prompt_id", "source_model")


def data_files(folder: Path) -> dict[str, list[Path]]:
    """List the Parquet files of a dataset folder by split: `data/<split>-*.parquet`."""
    files: dict[str, list[Path]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        files.setdefault(path.stem.split("-")[0], []).append(path)
    return files


def scan_dataset(folder: Path) -> pl.LazyFrame | None:
    """Read a dataset folder lazily, with a last column `split`; None where it holds no data."""
    files = data_files(folder).items()
    splits = [scan(paths).with_columns(split=pl.lit(split)) for split, paths in files]
    return pl.concat(splits) if splits else None


def collect_files(frame: pl.LazyFrame, folders: Sequence[Path], tables: Sequence[Parts] = ()) -> pl.DataFrame:
    """Collect a query over dataset folders and tables, streaming. Raises RunError naming the bad file."""
    try:
        return frame.collect(engine="streaming")
    except FAILURES as error:
        check_files(folders, tables)
        raise RunError(f"{folders[0] if folders else 'The run'}: cannot be read ({first_line(error)}).") from error


def check_files(folders: Sequence[Path], tables: Sequence[Parts] = ()) -> None:
    """Read every file of dataset folders and tables. Raises RunError naming the first that cannot be read."""
    for table in tables:
        collect(table.scan().select(pl.all().is_null().sum()), [table])
    for path in (path for folder in folders for paths in data_files(folder).values() for path in paths):
        try:
            scan([path]).collect()
        except FAILURES as error:
            remedy = "build again: the dataset is written anew from the run's tables"
            raise RunError(f"{path}: cannot be read ({first_line(error)}); {remedy}.") from error
