"""The candidates of a run: every response that counts, with its verdict, reward and flaw, as keys and numbers."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusedata.errors import RunError
from fusedata.schema import FLAW_NAMES, FLAWS, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts, Run, batches


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
    def numbered(self) -> Mapping[str, Sequence["Numbered"]]:
        """All rows of each table, listed and counted once. Raises RunError."""
        found: dict[str, list[Numbered]] = {}
        for name, tables in self.named():
            first, found[name] = 0, []
            for table in tables:
                paths = table.paths()
                height = table.height(paths)
                found[name].append(Numbered(table, paths, table.scan_paths(paths, first=first), height, first + height))
                first += height
        return found

    def sources(self) -> list["Tables"]:
        """Give the tables of each source of responses, with those that judge them."""
        each = [[[table] for table in tables] or [[] for _ in self.responses] for _, tables in self.named()]
        return [Tables(self.prompts, *own) for own in zip(*each, strict=True)]


@dataclass(frozen=True)
class Numbered:
    """The rows of a table, with `row`, their number over all tables of a stage."""

    table: Parts
    paths: Sequence[Path]
    rows: pl.LazyFrame
    height: int
    """How many they are, of all samples."""
    end: int
    """The first number that they do not have."""

    def batches(self, query: pl.LazyFrame, together: int) -> Iterator[pl.DataFrame]:
        """Collect a query over the rows, which keeps `row`, some at a time, in order. Raises RunError.

        As `batches`, and where a part was replaced by a longer one since its rows were counted.
        """
        for batch in batches(query, [self.table], together, in_order=True):
            if batch.height and batch["row"][-1] >= self.end:
                raise RunError(f"{self.table.folder}: was written to while it was read; read it again.")
            yield batch


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

    Some rows of a source at a time, into arrays of all sources: a join by strings takes three times the memory, and
    polars' streaming join by hashes three times as long as the reading. Prompts are known by 64-bit hashes of their
    ids: two of a million have the same one with a probability of 3 in 10 ** 8. What is told of a response is found by
    its place, and holds where its text is the one that was judged, by such a hash too.
    """
    with ThreadPoolExecutor(_TOGETHER) as threads:
        numbered, known = threads.submit(lambda: tables.numbered), _Prompts(tables.prompts)
        held = _Held(sum(table.height for table in numbered.result()["responses"]), screened=bool(tables.flaws))
        read = partial(_read, known, held, tables, located=located)
        each = list(threads.map(read, range(len(tables.responses)))) or [known.words(located=located)]
    # what is picked from one of many chunks takes four times as long; a column takes the memory that the last one left
    words = [pl.concat([one.drop_in_place(name) for one in each], rechunk=True) for name in each[0].columns]
    first = "prompt_id", "source_model", "sample", "text_id"
    return pl.DataFrame([*words, *held.columns(located=located)]).select(*first, pl.exclude(first))


_TOGETHER = 2
"""Sources that are read at a time: while one is read by all processors, another is looked up by one."""
_FEW = 100
"""Prompts that are looked for in the parts by their ids: ten times as fast as reading all rows."""
_SLICE = 50_000
"""Rows that are looked up at a time: what is made of them meanwhile stays in the processor's cache."""


@dataclass(frozen=True)
class _Judgement:
    """What is told of responses, a number `value`; `by`: what they were judged by, which has to be the gold answer."""

    column: str
    value: pl.Expr
    dtype: type[np.generic]
    row: str = ""
    by: str = ""

    def read(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        by = [pl.col(self.by).hash().alias("judged_by")] if self.by else []
        return rows.select("row", *_KNOWN_BY, *by, value=self.value, known=pl.col(self.column).is_not_null())


_PROMPT = pl.col("prompt_id").hash().alias("id")
_TEXT = (
    pl.when(pl.col("text_id").is_null()).then(pl.lit(0, pl.UInt64)).otherwise(pl.col("text_id").hash()).alias("text")
)
_KNOWN_BY = (_PROMPT, pl.col("source_model").hash().alias("model"), "sample", _TEXT)
_FLAWS = pl.Series(FLAW_NAMES, dtype=pl.Enum(FLAW_NAMES))
_JUDGED = {
    "verdicts": _Judgement("passed", pl.col("passed").fill_null(value=False), np.bool_, "verdict_row", "answer"),
    "rewards": _Judgement("reward", pl.col("reward").fill_null(0.0), np.float64, "reward_row"),
    "flaws": _Judgement("flaw", pl.col("flaw").cast(_FLAWS.dtype).to_physical().fill_null(0), np.uint8),
}


class _Held:
    """What is told of responses, in arrays: of each at the number of its row, at the end of what is no response."""

    def __init__(self, count: int, *, screened: bool) -> None:
        self.none = count
        self.counts = np.zeros(count + 1, np.bool_)
        self.sample = np.empty(count + 1, np.int32)
        self.text = np.zeros(count + 1, np.uint64)
        stages = [stage for stage in _JUDGED if screened or stage != "flaws"]
        self.told = {stage: _Told(_JUDGED[stage], count + 1) for stage in stages}

    def columns(self, *, located: bool) -> Iterator[pl.Series]:
        """Give what is told of the responses that count."""
        counts = None if self.counts[:-1].all() else pl.Series(self.counts[:-1])
        for column in self._columns(located=located):
            yield column if counts is None else column.filter(counts)

    def _columns(self, *, located: bool) -> Iterator[pl.Series]:
        yield _column("sample", self.sample)
        if located:
            yield _column("text_id", self.text, self.text != 0)
            yield _column("row", np.arange(self.none + 1, dtype=np.uint32))
        for told in self.told.values():
            column = _column(told.judgement.column, told.value, told.known)
            yield _FLAWS.gather(column).alias(column.name).cast(pl.String) if column.name == "flaw" else column
            if located and told.judgement.row:
                yield _column(told.judgement.row, told.row - np.uint32(1), told.row != 0)


def _column(name: str, values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> pl.Series:
    """Give values but for the last one, null where they are not `known`."""
    column = pl.Series(name, values[:-1])
    if known is None or known[:-1].all():
        return column
    return pl.select(pl.when(pl.Series(known[:-1])).then(column).alias(name)).to_series()


class _Told:
    """What a judgement tells of responses, `known` where that is not null, and 1 + the number of its row."""

    def __init__(self, judgement: _Judgement, count: int) -> None:
        self.judgement = judgement
        self.value = np.zeros(count, judgement.dtype)
        self.known = np.zeros(count, np.bool_)
        self.row = np.zeros(count, np.uint32)

    def set(self, at: NDArray[np.intp], rows: pl.DataFrame) -> None:
        """Hold what rows tell; what is told twice holds as it is told last."""
        self.value[at], self.known[at] = rows["value"].to_numpy(), rows["known"].to_numpy()
        self.row[at] = rows["row"].to_numpy() + np.uint32(1)


def _read(known: "_Prompts", held: _Held, tables: Tables, source: int, *, located: bool) -> pl.DataFrame:
    """Read a source: give what is said in words of its responses that count, and hold the rest."""
    table = tables.numbered["responses"][source]
    asked, places = known.asked(table.table), _Places(len(known.ids), table.height)
    found = [known.words(located=located)]
    _, *words = found[0].schema.items()
    wanted = known.own(table.rows).select("row", *_KNOWN_BY, *(pl.col(name).cast(dtype) for name, dtype in words))
    for read in table.batches(wanted, _SLICE):
        numbers = known.numbers(read)
        counts = asked[numbers]
        batch, numbers = (read, numbers) if counts.all() else (read.filter(counts), numbers[counts])
        places.add(batch, numbers)
        at = batch["row"].to_numpy()
        held.counts[at] = True
        held.sample[at], held.text[at] = batch["sample"].to_numpy(), batch["text"].to_numpy()
        found.append(pl.DataFrame([known.ids.gather(numbers), *batch.select(name for name, _ in words)]))
    standing = places.standing(held.none)
    for stage, told in held.told.items():
        for judged in tables.numbered[stage][source : source + 1]:  # none where the stage is not asked for
            for batch in judged.batches(told.judgement.read(known.own(judged.rows)), _SLICE):
                numbers = known.numbers(batch)
                at = standing.of(places.of(batch, numbers))
                holds = held.text[at] == batch["text"].to_numpy()
                if told.judgement.by:
                    holds &= known.gold[numbers] == batch["judged_by"].to_numpy()
                told.set(np.where(holds, at, held.none), batch)
    return pl.concat(found)


class _Prompts:
    """Prompts by number, in the order of the hashes of their ids, by which they are found."""

    def __init__(self, prompts: pl.DataFrame) -> None:
        in_order = pl.Enum(prompts["prompt_id"].sort())
        rows = prompts.select(_PROMPT, "prompt_id", "corpus", "answer", "sampled").sort("id")
        self.ids = rows["prompt_id"].cast(in_order)
        self.gold = np.append(rows["answer"].hash().to_numpy(), np.uint64(0))
        self._rows = rows.with_row_index("number")
        self._are_few = rows.height <= _FEW
        self._hashes = np.append(rows["id"].to_numpy(), np.uint64(2**64 - 1))
        bits = (2 * rows.height + 1).bit_length()
        self._shift = np.uint64(64 - bits)
        starts = np.searchsorted(self._hashes, np.arange(1 << bits, dtype=np.uint64) << self._shift)
        self._starts = starts.astype(np.uint32)

    def words(self, *, located: bool) -> pl.DataFrame:
        """Give what is said in words of responses, of none."""
        said = {"source_model": pl.Categorical(), **({} if located else {"text_id": pl.String()})}
        return pl.DataFrame([self.ids.clear(), *pl.DataFrame(schema=said)])

    def own(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Read the rows of a few prompts alone, where there are no more."""
        return rows.filter(pl.col("prompt_id").is_in(self.ids.cast(pl.String).implode())) if self._are_few else rows

    def asked(self, table: Parts) -> NDArray[np.bool_]:
        """Tell of each prompt whether its responses count in this table; at the end that those of no other do."""
        asked = np.zeros(self._rows.height + 1, np.bool_)
        asked[table.asked(self._rows)["number"].to_numpy()] = True
        return asked

    def numbers(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        """Give the numbers of the prompts whose ids have the hashes `id`; where none has, how many prompts there are.

        Hashes are spread evenly: the first that has a hash's first bits stands near it in their order.
        """
        hashes = rows["id"].to_numpy()
        at = self._starts[(hashes >> self._shift).astype(np.intp)].astype(np.intp)
        there = self._hashes[at]
        before = np.flatnonzero(there < hashes)
        while len(before):
            at[before] += 1
            there[before] = next_ = self._hashes[at[before]]
            before = before[next_ < hashes[before]]
        at[there != hashes] = self._rows.height
        return at


class _Places:
    """Numbers of the responses of a source: by model and sample, of which there are 2 ** 31 at most, then by prompt."""

    def __init__(self, prompts: int, height: int) -> None:
        self._prompts, self._models = prompts + 1, dict[int, int]()
        self._places, self._rows = np.empty(height, np.int64), np.empty(height, np.uint32)
        self._count = 0

    def of(self, rows: pl.DataFrame, prompts: NDArray[np.intp]) -> NDArray[np.int64]:
        """Give the numbers of responses to these prompts."""
        place = np.full(rows.height, 1 << 31, np.int64)
        place *= self._model(rows["model"].to_numpy())
        place += rows["sample"].to_numpy()
        place *= self._prompts
        place += prompts
        return place

    def _model(self, names: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Number models by the hashes of their names."""
        one = names[:1]
        each, which = (one, [0] * len(one)) if (names == one).all() else np.unique(names, return_inverse=True)
        return np.array([self._models.setdefault(name, len(self._models)) for name in each.tolist()], np.int64)[which]

    def add(self, rows: pl.DataFrame, prompts: NDArray[np.intp]) -> None:
        """Add responses."""
        some = slice(self._count, self._count + rows.height)
        self._places[some], self._rows[some] = self.of(rows, prompts), rows["row"].to_numpy()
        self._count = some.stop

    def standing(self, none: int) -> "_Standing":
        """Tell from now on where each of them stands."""
        return _Standing(self._places[: self._count], self._rows[: self._count], none)


class _Standing:
    """The numbers of rows that stand at `places`, which differ; at others stands the row `none`."""

    def __init__(self, places: NDArray[np.int64], rows: NDArray[np.uint32], none: int) -> None:
        self._least, most = (int(places.min()), int(places.max())) if len(places) else (0, 0)
        self._is_dense = most - self._least < _SPARSE * len(places)
        if self._is_dense:
            self._table = np.full(most - self._least + 2, none, np.uint32)
            self._table[places - self._least] = rows
        else:
            order = np.argsort(places)
            self._rows = np.append(rows[order], np.uint32(none))
            self._sorted = np.append(places[order], -1)

    def of(self, wanted: NDArray[np.int64]) -> NDArray[np.intp]:
        """Tell which row stands at each of `wanted`."""
        if self._is_dense:  # the last of the table, which -1 names too, is free
            return self._table[np.clip(wanted - self._least, -1, len(self._table) - 1)].astype(np.intp)
        at = np.searchsorted(self._sorted[:-1], wanted)
        return np.where(self._sorted[at] == wanted, self._rows[at], self._rows[-1]).astype(np.intp)


_SPARSE = 8
"""Places for each one that is taken, up to which a table of all of them takes less than a sort."""
