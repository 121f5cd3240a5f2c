"""Distinct problems out of very many rows, in memory that grows with the problems and not with the rows."""

from collections.abc import Iterable, Iterator
from itertools import islice

import polars as pl

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
        self._known = pl.DataFrame(schema={"row_key": pl.UInt64})

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows in order: corpus_row, said, topic, answer, tests, solution, and `distinct_keys`."""
        self.seen += rows.height
        new = rows.join(self._known, on="row_key", how="anti", maintain_order="left")
        new = new.unique("row_key", keep="first", maintain_order=True)
        self._known = pl.concat([self._known, new.select("row_key")])
        self._parts.append(_compact(new.drop("row_key")))

    def rows(self) -> pl.DataFrame:
        """Give one row a problem, in the order of their first rows, with `other_answer`."""
        rows = pl.concat(self._parts).with_columns(other_answer=pl.col("answer"))
        return one_each(rows, "said_key").drop("said_key").sort("corpus_row")


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


def batched(frames: Iterable[pl.LazyFrame], count: int) -> Iterator[list[pl.LazyFrame]]:
    """Give frames some at a time."""
    left = iter(frames)
    while batch := list(islice(left, count)):
        yield batch


def _compact(rows: pl.DataFrame) -> pl.DataFrame:
    """Copy the texts: as polars filters them, they keep all that they were read with."""
    copied = pl.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return copied
