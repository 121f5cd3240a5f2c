"""Whole rows of the datasets, some prompts at a time, in memory that does not grow with them.

Texts of the selected responses are read once, in the order in which they lie, and written to a folder, a file for each
share of the prompts; a share at a time then becomes rows. Responses, verdicts and rewards are found by their numbers.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fusedata.candidates import Numbered, Tables
from fusedata.dataset import Datasets, Decided, decide, schemas, shaped, sides
from fusedata.recipe import Recipe
from fusedata.storage import is_url, read_ahead, read_soon, remove, unwritable
from fusedata.store import batches, compact

SHARE = 40_000
"""Responses whose texts are held at a time."""
_MOST_SHARES = 400
"""Files that are open at a time."""
_TOGETHER = 8_000
"""Selected rows that are held, with their texts, until they are written to their files together."""

_SCANNED = 200_000
"""Rows without texts that are looked through at a time."""

_COLUMNS: Mapping[str, tuple[str, Sequence[str]]] = {
    "row": ("responses", ("text", "finish_reason", "prompt_tokens", "completion_tokens")),
    "verdict_row": ("verdicts", ("status", "detail")),
    "reward_row": ("rewards", ("reward", "tokens")),
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
        """Give the rows of "sft" or "dpo", once, with a last column `test`, sorted by prompt_id and source model."""
        prompts, schema = _of_prompts(self.prompts, self.recipe).sort("prompt_id"), schemas(self.recipe)[kind]
        is_test = pl.col("prompt_id").is_in(self.decided.test.implode()).alias("test")
        shares = self.shares[kind]
        for (number, keys), coming in zip(shares, [*shares[1:], *shares[-1:]], strict=True):
            read_soon(_file(self.folder, row, coming[0]) for row in _COLUMNS)
            start, end = (prompts["prompt_id"].search_sorted(keys["prompt_id"][at], "left") for at in (0, -1))
            own = prompts[start : end + 1]
            rows = keys.join(own, on="prompt_id", how="left", maintain_order="left")
            known = {row: _read(_file(self.folder, row, number), row) for row in _COLUMNS}
            said = {side: _said(known, rows, side) for side in (sides(keys) if kind == "dpo" else [""])}
            yield shaped(kind, rows, said, schema).with_columns(is_test)


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
        with ThreadPoolExecutor(len(_COLUMNS)) as threads:
            list(threads.map(partial(_distribute, tables, shares.values(), folder), _COLUMNS.items()))
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


def _places(shares: Sequence[tuple[int, pl.DataFrame]], row: str, height: int) -> NDArray[np.uint16]:
    """Give for each of the `height` rows of a table the number of the share that wants it; 0: none does."""
    places = np.zeros(height, np.uint16)
    for number, keys in shares:
        for prefix in (f"{side}_" if side else "" for side in ("", *sides(keys))):
            if f"{prefix}{row}" in keys.columns:
                places[keys[f"{prefix}{row}"].drop_nulls().to_numpy()] = number
    return places


def _distribute(
    tables: Tables,
    shares: Collection[Sequence[tuple[int, pl.DataFrame]]],
    folder: Path,
    wanted: tuple[str, tuple[str, Sequence[str]]],
) -> None:
    """Write the rows of a table that are wanted to the files of their shares. Raises RunError."""
    row, (stage, columns) = wanted
    numbered = tables.numbered[stage]
    places = [_places(own, row, sum(table.height for table in numbered)) for own in shares]
    is_wanted = np.logical_or.reduce([own != 0 for own in places])
    together = None if "text" in columns else _SCANNED
    try:
        with ExitStack() as stack:
            files = _Files(folder, row, places, stack)
            for table in numbered:
                for batch in _read_through(table, columns, together):
                    at = np.flatnonzero(is_wanted[batch["row"].to_numpy()])
                    if len(at):
                        files.add(batch[at])
            files.flush()
    except OSError as error:
        raise unwritable(folder, error) from error


def _read_through(table: Numbered, columns: Sequence[str], together: int | None) -> Iterator[pl.DataFrame]:
    """Give all rows of a table, as `batches` does, while its next files are read ahead."""
    seen, ahead = 0, read_ahead(table.paths)
    next(ahead)
    for batch in batches(table.rows.select("row", *columns), [table.table], together):
        seen += batch.height
        ahead.send(seen / table.height)
        yield batch


class _Files:
    """Files of Arrow batches, one a share; `places` say which shares want a row, at most one each."""

    def __init__(self, folder: Path, name: str, places: Sequence[NDArray[np.uint16]], stack: ExitStack) -> None:
        self._folder, self._name, self._places, self._stack = folder, name, places, stack
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._held: list[pl.DataFrame] = []
        self._count = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows that a share wants."""
        self._held.append(compact(rows))
        self._count += rows.height
        if self._count >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if not self._held:
            return
        rows = pl.concat(self._held)
        for places in self._places:
            shares = places[rows["row"].to_numpy()]
            order = np.argsort(shares, kind="stable")[np.count_nonzero(shares == 0) :]
            there = rows[order].to_arrow(compat_level=pl.CompatLevel.oldest())
            numbers, starts = np.unique(shares[order], return_index=True)
            for number, (start, end) in zip(numbers.tolist(), pairwise([*starts, len(order)]), strict=True):
                self._writer(number, there.schema).write_table(there.slice(start, end - start))
        self._held, self._count = [], 0

    def _writer(self, number: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        if number not in self._writers:
            file = self._stack.enter_context(_file(self._folder, self._name, number).open("wb"))
            self._writers[number] = self._stack.enter_context(pa.ipc.new_stream(file, schema))
        return self._writers[number]


def _file(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number}.arrows"


def _read(path: Path, row: str) -> pl.DataFrame:
    """Take what a share wants of the table that `row` counts: its file goes, and makes room for the dataset's."""
    if not path.exists():
        return pl.DataFrame(schema={row: pl.UInt32})
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        rows = pl.from_arrow(stream.read_all())
    path.unlink()
    assert isinstance(rows, pl.DataFrame)
    return rows.rename({"row": row})


def _said(known: Mapping[str, pl.DataFrame], keys: pl.DataFrame, side: str) -> pl.DataFrame:
    """Give what is `known` of the responses of one side, in the order of the keys."""
    prefix = f"{side}_" if side else ""
    found = keys.select(pl.col(f"{prefix}{row}").alias(row) for row in _COLUMNS)
    for row, rows in known.items():
        found = found.join(rows, on=row, how="left", maintain_order="left")
    return found.drop(_COLUMNS).rename(_NAMES, strict=False)
