"""Distinct problems out of very many rows, in memory that grows with the problems and not with the rows."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

_HELD = ("topic", "answer", "tests", "solution")


class Distinct:
    """The problems of the rows that were added so far.

    A row is known by 64-bit hashes of what it says and of what is held beside it. Two of a million problems have the
    same one with a probability of 3 in 10 ** 8. polars' own grouping keeps all texts that it has read.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self.seen = 0
        self._parts: list[pl.DataFrame] = []
        self._known = _Hashes()

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows in order: corpus_row, said, topic, answer, tests, solution, and `distinct_keys`."""
        self.seen += rows.height
        new = rows.filter(self._known.lacks(rows["row_key"].to_numpy()))
        new = new.unique("row_key", keep="first", maintain_order=True)
        self._known.add(new["row_key"].to_numpy())
        self._parts.append(_compact(new.drop("row_key")))

    def rows(self) -> pl.DataFrame:
        """Give one row a problem, in the order of their first rows, with `other_answer`."""
        rows = pl.concat(self._parts).with_columns(other_answer=pl.col("answer"))
        return one_each(rows, "said_key").drop("said_key").sort("corpus_row")


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
        lacks = np.zeros(len(hashes), np.bool_)
        left, hashes = np.arange(len(hashes)), _filled(hashes)
        places = self._places(hashes)
        while len(left):
            there = self._table[places]
            lacks[left[there == 0]] = True
            on = np.flatnonzero((there != 0) & (there != hashes))
            left, hashes, places = left[on], hashes[on], self._next(places[on])
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


def distinct_keys() -> tuple[pl.Expr, pl.Expr]:
    """What rows are known by: by what they say, and by what is held beside that, too."""
    said = pl.col("said").hash(1)
    beside = [pl.col(name).hash(seed) for seed, name in enumerate(_HELD, start=2)]
    row = said
    for value in beside:
        row = row.xor(value)
    return said.alias("said_key"), row.alias("row_key")


def one_each(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Merge rows of one `key`, whatever their order; of topics, "code" goes before "math" and "other"."""
    if rows[key].n_unique() == rows.height:
        return rows
    ends = (pl.col(*_HELD[:3]).min(), pl.col("other_answer", "solution").max())
    first = pl.col("corpus_row", *({"said", "prompt_id", "said_key"} & set(rows.columns) - {key})).first()
    return rows.sort("corpus_row").group_by(key, maintain_order=True).agg(first, *ends)


def _compact(rows: pl.DataFrame) -> pl.DataFrame:
    """Copy the texts: as polars filters them, they keep all that they were read with."""
    copied = pl.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return copied
