"""The candidates of a run: every response that counts, with its verdict, reward and flaw, as keys and numbers."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusedata.schema import FLAWS, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts, Run, collect


@dataclass(frozen=True)
class Tables:
    """The tables of a run, one a source of responses in each; where a stage is not asked for it has none."""

    prompts: pl.DataFrame
    responses: Sequence[Parts]
    verdicts: Sequence[Parts]
    rewards: Sequence[Parts]
    flaws: Sequence[Parts] = ()

    def named(self) -> list[tuple[str, Sequence[Parts]]]:
        """List the tables of each stage."""
        return [(name, getattr(self, name)) for name in ("responses", "verdicts", "rewards", "flaws")]

    def all(self) -> list[Parts]:
        """List every part table, to say which part cannot be read."""
        return [table for _, tables in self.named() for table in tables]

    @cached_property
    def numbered(self) -> Mapping[str, Sequence[tuple[pl.LazyFrame, int]]]:
        """All rows of each table, and how many they are, counted once. Raises RunError.

        `row` is their number over all tables of a stage.
        """
        found: dict[str, list[tuple[pl.LazyFrame, int]]] = {}
        for name, tables in self.named():
            first, found[name] = 0, []
            for table in tables:
                height = table.height()
                found[name].append((table.scan(first=first), height))
                first += height
        return found

    def sources(self) -> list["Tables"]:
        """Give the tables of each source of responses, with those that judge them."""
        each = [[[table] for table in tables] or [[] for _ in self.responses] for _, tables in self.named()]
        return [Tables(self.prompts, *own) for own in zip(*each, strict=True)]


def run_tables(run: Run, prompts: pl.DataFrame) -> Tables:
    """Give the tables of a run that are in force."""
    known = {"responses": RESPONSES, "verdicts": VERDICTS, "rewards": REWARDS, "flaws": FLAWS}
    parts = {s: [run.parts(s, label, schema) for label in run.labels(s)] for s, schema in known.items()}
    return Tables(prompts, **parts)


def candidates(tables: Tables, *, located: bool = False) -> pl.DataFrame:
    """Give every response that counts for one of the prompts with its verdict, reward and flaw, without its text.

    The column `flaw` is there where responses are screened. `located` gives hashes in place of text_id, and LOCATED:
    numbers of rows as `Tables.numbered` counts them. Prompts and source models are numbered (Enum, Categorical). Raises
    RunError.

    A source at a time. Prompts are known by 64-bit hashes of their ids: two of a million have the same one with a
    probability of 3 in 10 ** 8. What is told of a response is found by its place, and holds where its text is the one
    that was judged, by such a hash too: a join by strings takes three times the memory, and polars' streaming join
    by hashes three times as long as the reading.
    """
    known = _Prompts(tables.prompts)
    scans = {
        name: [rows for rows, _ in tables.numbered[name]] if located else [table.scan() for table in parts]
        for name, parts in tables.named()
    }
    own = tables.sources()
    read = [{name: rows[at] for name, rows in scans.items() if rows} for at in range(len(own))]
    with ThreadPoolExecutor(_TOGETHER) as threads:
        each = list(threads.map(partial(_of_source, known, located=located), own, read))
    # one column after the other, in the memory that the last one leaves: what is picked from one of many chunks takes
    # four times as long
    return pl.DataFrame(
        [pl.concat([one.drop_in_place(name) for one in each], rechunk=True) for name in each[0].columns]
    )


_TOGETHER = 2
"""Sources that are read at a time: while one is read by all processors, another is looked up by one."""


class _Prompts:
    """Prompts by number, in the order of their ids, found by the hashes of these."""

    def __init__(self, prompts: pl.DataFrame) -> None:
        self.rows = prompts.sort("prompt_id").with_row_index("prompt")
        self.ids = self.rows["prompt_id"].cast(pl.Enum(self.rows["prompt_id"]))
        self.gold = np.append(self.rows["answer"].hash().to_numpy(), np.uint64(0))
        hashes = self.rows.select(_PROMPT).to_series()
        order = hashes.arg_sort()
        self._number = np.append(order.to_numpy(), np.uint32(len(order)))
        self._sorted = np.append(hashes.gather(order).to_numpy(), np.uint64(2**64 - 1))
        bits = (2 * len(order) + 1).bit_length()
        self._shift = np.uint64(64 - bits)
        starts = np.searchsorted(self._sorted, np.arange(1 << bits, dtype=np.uint64) << self._shift)
        self._starts = starts.astype(np.uint32)

    def asked(self, table: Parts) -> NDArray[np.bool_]:
        """Tell of each prompt whether its responses count in this table; at the end that those of no other do."""
        asked = np.zeros(self.rows.height + 1, np.bool_)
        asked[table.asked(self.rows)["prompt"].to_numpy()] = True
        return asked

    def numbers(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        """Give the numbers of the prompts whose ids have the hashes `id`; where none has, how many prompts there are.

        Hashes are spread evenly: the first that has a hash's first bits stands near it in their order.
        """
        hashes = rows["id"].to_numpy()
        at = self._starts[(hashes >> self._shift).astype(np.intp)].astype(np.intp)
        before = np.flatnonzero(self._sorted[at] < hashes)
        while len(before):
            at[before] += 1
            before = before[self._sorted[at[before]] < hashes[before]]
        return np.where(self._sorted[at] == hashes, self._number[at], self._number[-1]).astype(np.intp)

    def places(self, rows: pl.DataFrame, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Number responses to these prompts: by model and sample, of which there are 2 ** 31 at most, then by prompt.

        Of what is said to no prompt the number means nothing.
        """
        place = rows["source_model"].to_physical().to_numpy().astype(np.int64)
        place *= 1 << 31
        place += rows["sample"].to_numpy()
        place *= self.rows.height
        place += numbers
        return place


def _of_source(known: _Prompts, own: Tables, scans: Mapping[str, pl.LazyFrame], *, located: bool) -> pl.DataFrame:
    (table,) = own.responses
    said = _Said(known, table, scans["responses"], located=located)
    rows = said.rows.get_columns()
    for name, judgement in _JUDGED.items():
        if name in scans:
            rows += said.judged(judgement, own, scans[name], located=located)
        elif name != "flaws":
            columns = judgement.columns(located=located).items()
            rows += (pl.repeat(None, said.rows.height, dtype=dtype, eager=True).alias(name) for name, dtype in columns)
    return pl.DataFrame(rows)


class _Said:
    """The responses of one source that count: prompt_id, source_model, sample, text_id, and `row` where located."""

    def __init__(self, known: _Prompts, table: Parts, rows: pl.LazyFrame, *, located: bool) -> None:
        self._known, self._asked = known, known.asked(table)
        text = pl.col("text_id")
        told = [pl.when(text.is_not_null()).then(_TEXT).alias("text_id"), pl.col("row")] if located else [text]
        read = collect(rows.select(*_KNOWN_BY, *told), [table])
        prompt, place = np.empty(read.height, np.uint32), np.empty(read.height, np.int64)
        texts = np.zeros(read.height + 1, np.uint64)
        for some, of in _slices(read):
            prompt[some] = numbers = known.numbers(of)
            place[some] = known.places(of, numbers)
            texts[some] = of["text"].to_numpy()
        counts = self._asked.take(prompt)
        if not counts.all():
            read, prompt, place, texts = (
                read.filter(counts),
                prompt[counts],
                place[counts],
                texts[np.append(counts, True)],
            )
        self.rows = pl.DataFrame([known.ids.gather(prompt), *read.drop("id", "text")])
        self._standing, self._texts = _Standing(place), texts

    def judged(self, judgement: "_Judgement", own: Tables, rows: pl.LazyFrame, *, located: bool) -> list[pl.Series]:
        """Give what the judgement tells of each response, or nulls: of what stands at its place, of the same text."""
        told = collect(judgement.read(rows, located=located), own.all())
        row = np.full(self.rows.height + 1, told.height, np.uint32)
        for some, of in _slices(told):
            row[self._at(judgement, of)] = np.arange(some.start, some.stop, dtype=np.uint32)
        columns = told.select(*judgement.columns(located=located))
        columns = pl.concat([columns, columns.clear(1)], rechunk=True)  # nulls at the end, where there is nothing
        return columns[row[:-1]].get_columns()

    def _at(self, judgement: "_Judgement", rows: pl.DataFrame) -> NDArray[np.intp]:
        """Tell of which response each of `rows` tells; of those that count, how many there are, where of none."""
        prompt = self._known.numbers(rows)
        at = self._standing.of(self._known.places(rows, prompt))
        counts = self._asked[prompt] & (self._texts[at] == rows["text"].to_numpy())
        if judgement.by:
            counts &= self._known.gold[prompt] == rows["judged_by"].to_numpy()
        return np.where(counts, at, self.rows.height)


def _slices(rows: pl.DataFrame) -> Iterator[tuple[slice, pl.DataFrame]]:
    """Give some rows at a time: what is made of them meanwhile stays in the processor's cache."""
    for start in range(0, rows.height, _SLICE):
        some = rows[start : start + _SLICE]
        yield slice(start, start + some.height), some


_SLICE = 50_000


class _Standing:
    """Where each of `places`, which differ, stands."""

    def __init__(self, places: NDArray[np.int64]) -> None:
        self._count = len(places)
        self._least, most = (int(places.min()), int(places.max())) if len(places) else (0, 0)
        self._is_dense = most - self._least < _SPARSE * self._count
        if self._is_dense:
            self._table = np.full(most - self._least + 2, self._count, np.uint32)
            self._table[places - self._least] = np.arange(self._count, dtype=np.uint32)
        else:
            self._order = np.append(np.argsort(places), self._count)
            self._sorted = np.append(places, -1)[self._order]

    def of(self, wanted: NDArray[np.int64]) -> NDArray[np.intp]:
        """Tell at which place each of `wanted` stands; how many there are where it does not."""
        if self._is_dense:  # the last of the table, which -1 names too, is free
            return self._table[np.clip(wanted - self._least, -1, len(self._table) - 1)].astype(np.intp)
        at = np.searchsorted(self._sorted[:-1], wanted)
        return np.where(self._sorted[at] == wanted, self._order[at], self._count)


_SPARSE = 8
"""Places for each one that is taken, up to which a table of all of them takes less than a sort."""


_PROMPT = pl.col("prompt_id").hash().alias("id")
_TEXT = pl.col("text_id").hash().alias("text")
_KNOWN_BY = (_PROMPT, pl.col("source_model").cast(pl.Categorical), pl.col("sample"), _TEXT)


@dataclass(frozen=True)
class _Judgement:
    """What is told of responses, and in which row; `by`: what they were judged by, which has to be the gold answer."""

    column: str
    dtype: pl.DataType
    row: str = ""
    by: str = ""

    def columns(self, *, located: bool) -> dict[str, pl.DataType]:
        return {self.column: self.dtype, **({self.row: pl.UInt32()} if located and self.row else {})}

    def read(self, rows: pl.LazyFrame, *, located: bool) -> pl.LazyFrame:
        by = [pl.col(self.by).hash().alias("judged_by")] if self.by else []
        row = [pl.col("row").alias(self.row)] if located and self.row else []
        return rows.select(*_KNOWN_BY, *by, self.column, *row)


_JUDGED = {
    "verdicts": _Judgement("passed", pl.Boolean(), "verdict_row", "answer"),
    "rewards": _Judgement("reward", pl.Float64(), "reward_row"),
    "flaws": _Judgement("flaw", pl.String()),
}
