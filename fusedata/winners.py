"""Whole rows of the datasets, some prompts at a time, in memory that does not grow with them.

Texts of the selected responses are read once, in the order in which they lie, and written to a folder, a file for each
share of the prompts; a share at a time then becomes rows. Responses, verdicts and rewards are found by their numbers.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fusedata.candidates import Tables, numbered
from fusedata.dataset import Datasets, Decided, decide, schemas, shaped, sides
from fusedata.recipe import Recipe
from fusedata.storage import is_url, remove, unwritable
from fusedata.store import Parts, batches

SHARE = 40_000
"""Responses whose texts are held at a time."""
_MOST_SHARES = 400
"""Files that are open at a time."""
_TOGETHER = 50_000
"""Rows that are held, with their texts, until the selected ones among them are written to their files together."""

_COLUMNS = {
    "row": ("text", "finish_reason", "prompt_tokens", "completion_tokens"),
    "verdict_row": ("status", "detail"),
    "reward_row": ("reward", "tokens"),
}
_NAMES = {"status": "verdict", "detail": "verdict_detail"}


@dataclass(frozen=True)
class Winners:
    """The rows of the datasets of `recipe`, as `decided`."""

    recipe: Recipe
    prompts: pl.DataFrame
    decided: Decided
    folder: Path
    shares: Mapping[str, Sequence[tuple[int, pl.DataFrame]]]
    """For "sft" and "dpo": the number of each share, and its keys."""

    def schema(self, kind: str) -> pl.Schema:
        """Give the columns of the frames of "sft" or "dpo"."""
        return pl.Schema({**schemas(self.recipe)[kind], "test": pl.Boolean()})

    def frames(self, kind: str) -> Iterator[pl.DataFrame]:
        """Give the rows of "sft" or "dpo" with a last column `test`, sorted by prompt_id and source model."""
        prompts, schema = _of_prompts(self.prompts, self.recipe).sort("prompt_id"), schemas(self.recipe)[kind]
        is_test = pl.col("prompt_id").is_in(self.decided.test.implode()).alias("test")
        for number, keys in self.shares[kind]:
            start, end = (prompts["prompt_id"].search_sorted(keys["prompt_id"][at], "left") for at in (0, -1))
            own = prompts[start : end + 1]
            rows = keys.join(own, on="prompt_id", how="left", maintain_order="left")
            said = {side: self._said(number, rows, side) for side in (sides(keys) if kind == "dpo" else [""])}
            yield shaped(kind, rows, said, schema).with_columns(is_test)

    def _said(self, number: int, keys: pl.DataFrame, side: str) -> pl.DataFrame:
        """Give what the tables hold of the responses of one side, in the order of the keys."""
        prefix = f"{side}_" if side else ""
        found = keys.select(pl.col(f"{prefix}{row}").alias(row) for row in _COLUMNS)
        for row in _COLUMNS:
            path = _file(self.folder, row, number)
            known = _read(path) if path.exists() else pl.DataFrame(schema={"row": pl.UInt32})
            found = found.join(known.rename({"row": row}), on=row, how="left", maintain_order="left")
        return found.drop(_COLUMNS).rename(_NAMES, strict=False)


@contextmanager
def winners(
    tables: Tables, decided: Decided, recipe: Recipe, beside: Path | None = None, share: int = SHARE
) -> Iterator[Winners]:
    """Read what was decided: rows can be had as long as this is entered, `share` responses at a time. Raises RunError.

    Texts lie meanwhile in a folder `beside`, of the size of the datasets, or where the system keeps temporary files.
    """
    with _scratch(beside) as folder:
        shares, first = {}, 1
        for kind, keys in decided.keys.items():
            shares[kind] = list(enumerate(_cut(keys, share), start=first))
            first += len(shares[kind])
        for row, parts in zip(_COLUMNS, (tables.responses, tables.verdicts, tables.rewards), strict=True):
            _distribute(row, parts, [_places(own, row) for own in shares.values()], folder)
        yield Winners(recipe, tables.prompts, decided, folder, shares)


def assemble(tables: Tables, recipe: Recipe) -> Datasets:
    """Select, split and join, all in memory. Raises RunError."""
    decided = decide(tables, recipe)
    with winners(tables, decided, recipe) as found:
        none = {kind: pl.DataFrame(schema=found.schema(kind)) for kind in found.shares}
        rows = {kind: pl.concat([empty, *found.frames(kind)]) for kind, empty in none.items()}
    counts = {kind: {"train": int((~own["test"]).sum()), "test": int(own["test"].sum())} for kind, own in rows.items()}
    return Datasets(decided.places, decided.flaws, counts, rows.__getitem__)


@contextmanager
def _scratch(beside: Path | None) -> Iterator[Path]:
    if beside is None or is_url(beside):
        with tempfile.TemporaryDirectory(prefix="fusedata-") as name:
            yield Path(name)
        return
    folder = beside / ".winners.tmp"
    remove(folder)  # an earlier process was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_prompts(prompts: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Give what a row tells of its prompt, with the licence that the recipe states for the corpus."""
    licenses = {corpus.id: corpus.license for corpus in recipe.corpora}
    license_ = pl.col("corpus").replace_strict(licenses, default=None, return_dtype=pl.String)
    return prompts.select("prompt_id", "corpus", "corpus_row", "messages", license=license_)


def _cut(keys: pl.DataFrame, share: int) -> Iterator[pl.DataFrame]:
    """Cut keys, which are sorted by prompt, where shares hold enough responses."""
    size = max(share // (len(sides(keys)) or 1), -(-keys.height // _MOST_SHARES), 1)
    yield from keys.iter_slices(size)


def _places(shares: Sequence[tuple[int, pl.DataFrame]], row: str) -> NDArray[np.uint16]:
    """Give for each row of a table the number of the share that wants it; 0: none does."""
    columns = [f"{prefix}{row}" for prefix in ("", "chosen_", "rejected_", "chosen_own_")]
    wanted = [
        (number, keys[column].drop_nulls().to_numpy())
        for number, keys in shares
        for column in columns
        if column in keys.columns
    ]
    places = np.zeros(max((int(rows.max()) + 1 for _, rows in wanted if len(rows)), default=0), np.uint16)
    for number, rows in wanted:
        places[rows] = number
    return places


def _distribute(row: str, parts: Sequence[Parts], wanted: Sequence[NDArray[np.uint16]], folder: Path) -> None:
    """Write the wanted rows of the table that `row` counts to the files of their shares. Raises RunError."""
    try:
        with ExitStack() as stack:
            files = _Files(folder, row, stack)
            for table, (rows, height) in zip(parts, numbered(parts), strict=True):
                for batch in batches(rows.select("row", *_COLUMNS[row]), table, height):
                    numbers = batch["row"].to_numpy()
                    for places in wanted:
                        share = np.zeros(len(numbers), np.uint16)
                        inside = numbers < len(places)
                        share[inside] = places[numbers[inside]]
                        files.add(batch, share)
            files.flush()
    except OSError as error:
        raise unwritable(folder, error) from error


class _Files:
    """Files of Arrow batches, one a share."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._folder, self._name, self._stack = folder, name, stack
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._held: list[pl.DataFrame] = []
        self._shares: list[NDArray[np.uint16]] = []
        self._read = 0

    def add(self, rows: pl.DataFrame, share: NDArray[np.uint16]) -> None:
        """Add the rows whose share is not 0."""
        at = np.flatnonzero(share)
        if len(at):
            self._held.append(rows[at])
            self._shares.append(share[at])
            self._read += len(rows)
            if self._read >= _TOGETHER:
                self.flush()

    def flush(self) -> None:
        """Write what was added: texts are copied once, from what was read to where they lie in order."""
        if not self._held:
            return
        shares = np.concatenate(self._shares)
        order = np.argsort(shares, kind="stable")
        rows = pl.concat(self._held)[order].to_arrow(compat_level=pl.CompatLevel.oldest())
        numbers, starts = np.unique(shares[order], return_index=True)
        for number, start, end in zip(numbers.tolist(), starts, [*starts[1:], len(order)], strict=True):
            self._writer(number, rows.schema).write_table(rows.slice(start, end - start))
        self._held, self._shares, self._read = [], [], 0

    def _writer(self, number: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if number not in self._writers:
            file = self._stack.enter_context(_file(self._folder, self._name, number).open("wb"))
            self._writers[number] = self._stack.enter_context(pa.ipc.new_stream(file, schema))
        return self._writers[number]


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number}.arrows"


def _read(path: Path) -> pl.DataFrame:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        rows = pl.from_arrow(stream.read_all())
    assert isinstance(rows, pl.DataFrame)
    return rows
