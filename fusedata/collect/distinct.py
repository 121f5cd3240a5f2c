"""Distinct problems out of very many rows, in memory that grows with the problems and not with the rows."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusedata.collect.rows import EMPTY
from fusedata.store import compact

_HELD = ("topic", "answer", "tests", "solution")


class Distinct:
    """The problems of the rows that were added so far.

    A row is known by 64-bit hashes of what it says and of what is held beside it. Two of a million problems have the
    same one with a probability of 3 in 10 ** 8. polars' own grouping keeps all texts that it has read.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self.seen = 0
        self.dropped = Counter[str]()
        self._parts: list[pl.DataFrame] = []
        self._names: list[Future[pl.DataFrame]] = []
        self._known = _Hashes()
        self._blank = np.zeros(0, np.uint64)

    def add(self, rows: pl.DataFrame, name: Callable[[pl.Series], Future[pl.DataFrame]]) -> None:
        """Add rows in order: corpus_row, said, those of topic, answer, tests, solution that are not null, and row_key.

        Rows with a `why_not` are counted by it, in `dropped`, and left out; those that say nothing but blanks are so
        as empty prompts. `name` gives problems, by what they say, a prompt_id and whatever follows from it, by the time
        that `rows` needs them.
        """
        keys = rows["row_key"].to_numpy()
        kept = rows["why_not"].is_null().to_numpy()
        at = np.flatnonzero(kept & self._known.lacks(keys))
        at = at[np.sort(np.unique(keys[at], return_index=True)[1])]
        self._known.add(keys[at])
        new = rows[at].select("corpus_row", "said", *(_held(name, rows.columns) for name in _HELD), "row_key")
        new = new.with_columns(pl.col("said", "answer").str.strip_chars())  # which copies them
        self.seen += rows.height
        self.dropped.update(dict(rows["why_not"].drop_nulls().value_counts().iter_rows()))
        blank = new["said"] == ""
        if blank.any():
            self._blank = np.append(self._blank, new["row_key"].filter(blank).to_numpy())
            new = new.filter(~blank)
        if len(self._blank):
            self.dropped[EMPTY] += int((kept & np.isin(keys, self._blank)).sum())
        others = [name for name in _HELD if name in rows.columns and name != "answer"]
        part = new.drop("row_key").with_columns(compact(new.select(others)).get_columns())
        self._parts.append(part)
        self._names.append(name(part["said"]))

    def join(self, rows: pl.DataFrame, seen: int, dropped: Mapping[str, int]) -> None:
        """Add the `different` rows of another one, which are of later rows, and what it has counted."""
        keys = rows.select(row_key(rows.columns)).to_series().to_numpy()
        at = np.flatnonzero(self._known.lacks(keys))
        self._known.add(keys[at])
        self._parts.append(compact(rows[at]))
        self.seen += seen
        self.dropped.update(dropped)

    def different(self) -> pl.DataFrame:
        """Give the rows that say something else than others, or hold something else beside it, with their names."""
        if not self._names:
            return pl.concat(self._parts)
        return pl.concat(self._parts).hstack(pl.concat(names.result() for names in self._names))

    def rows(self) -> pl.DataFrame:
        """Give one row a problem, with its names and `other_answer`."""
        return _one_each(self.different().with_columns(other_answer=pl.col("answer")))


class _Hashes:
    """A set of 64-bit hashes that whole arrays are looked up in: a table with free places, 0 where one is.

    A hash stands at the place that its last bits name, or at the next free one. polars' joins and `is_in` would make
    a table of all that is known for every few rows that are read.
    """

    def __init__(self) -> None:
        self._count = 0
        self._table = np.zeros(1 << 16, np.uint64)

    def lacks(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell of each hash whether it is not in the set."""
        hashes = _filled(hashes)
        places = self._places(hashes)
        there = self._table[places]
        lacks: NDArray[np.bool_] = there == 0
        left = np.flatnonzero((there != hashes) & ~lacks)
        hashes, places = hashes[left], places[left]
        while len(left):
            places = self._next(places)
            there = self._table[places]
            lacks[left[there == 0]] = True
            on = np.flatnonzero((there != 0) & (there != hashes))
            left, hashes, places = left[on], hashes[on], places[on]
        return lacks

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Add hashes that are not in the set, each once."""
        self._count += len(hashes)
        hashes = _filled(hashes)
        if self._count > len(self._table) // 3:
            hashes = np.concatenate([self._table[self._table != 0], hashes])
            self._table = np.zeros(1 << (4 * self._count).bit_length(), np.uint64)
        places = self._places(hashes)
        while len(hashes):
            free = self._table[places] == 0
            self._table[places[free]] = hashes[free]  # of those that want one place, one has it
            on = np.flatnonzero(self._table[places] != hashes)
            hashes, places = hashes[on], self._next(places[on])

    def _places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes & np.uint64(len(self._table) - 1)).astype(np.int64)

    def _next(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return (places + 1) & (len(self._table) - 1)


def _filled(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let no hash be 0, which marks a free place."""
    return np.maximum(hashes, np.uint64(1))


def row_key(columns: Collection[str]) -> pl.Expr:
    """What a row with these columns is known by: a hash of what it says and of what is held beside that."""
    key = pl.col("said").hash(1)
    for seed, name in enumerate(_HELD, start=2):
        key = key.xor(pl.col(name).hash(seed)) if name in columns else key
    return key.alias("row_key")


def _held(name: str, columns: Collection[str]) -> pl.Expr:
    return pl.col(name) if name in columns else pl.lit(None, pl.String).alias(name)


def _one_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Merge rows of one `prompt_id`, whatever their order; of topics, "code" goes before "math" and "other"."""
    if rows["prompt_id"].hash().n_unique() == rows.height:
        return rows
    ends = (pl.col(*_HELD[:3]).min(), pl.col("other_answer", "solution").max())
    first = pl.exclude("prompt_id", *_HELD, "other_answer").first()
    return rows.sort("corpus_row").group_by("prompt_id", maintain_order=True).agg(first, *ends)
