"""The candidates of a run: every response that counts, with its verdict, reward and flaw, as keys and numbers."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

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
    numbers of rows as `numbered` counts them; rows then come in any order. Prompts and source models are numbered
    (Enum, Categorical). Raises RunError.

    A source at a time. Prompts are known by 64-bit hashes of their ids: two of a million have the same one with a
    probability of 3 in 10 ** 8. What is told of a response is found by its place, and holds where its text is the one
    that was judged, by such a hash too: a join by strings takes three times the memory.
    """
    prompts = tables.prompts.sort("prompt_id").with_row_index("prompt")
    ids = pl.Enum(prompts["prompt_id"])
    prompts = prompts.with_columns(_PROMPT, pl.col("prompt_id").cast(ids), gold=pl.col("answer").hash())
    scans = {
        name: [rows for rows, _ in numbered(parts)] if located else [table.scan() for table in parts]
        for name, parts in tables.named()
    }
    own = tables.sources()
    read = [{name: rows[at] for name, rows in scans.items() if rows} for at in range(len(own))]
    with ThreadPoolExecutor(_TOGETHER) as threads:
        return pl.concat(threads.map(partial(_of_source, prompts, located=located), own, read))


_TOGETHER = 2
"""Sources that are read at a time: while one is read by all processors, another is joined by one."""


def _of_source(prompts: pl.DataFrame, own: Tables, scans: Mapping[str, pl.LazyFrame], *, located: bool) -> pl.DataFrame:
    (table,) = own.responses
    asked = table.asked(prompts).select("id", "gold", pl.col("prompt").cast(pl.Int64)).lazy()
    # model by model and sample by sample, of which there are 2 ** 31 at most, the places of all prompts
    model, sample = pl.col("source_model").to_physical().cast(pl.Int64), pl.col("sample").cast(pl.Int64)
    place = ((model * (1 << 31) + sample) * prompts.height + pl.col("prompt")).alias("place")
    said = _said(scans["responses"], located=located).join(asked, on="id", maintain_order="none" if located else "left")
    responses = collect(said.select(pl.exclude("id", "gold"), place), [table])
    rows = [prompts["prompt_id"].gather(responses["prompt"]), *responses.drop("prompt", "place", "text")]
    for name, judgement in _JUDGED.items():
        columns = judgement.columns(located=located)
        if name in scans:
            told = judgement.read(scans[name], located=located).join(asked, on="id")
            told = told.filter(pl.col("judged_by") == pl.col("gold")) if judgement.by else told
            rows += _judged(responses, collect(told.select(place, "text", *columns), own.all()))
        elif name != "flaws":
            none = (pl.repeat(None, responses.height, dtype=dtype, eager=True) for dtype in columns.values())
            rows += (one.alias(column) for column, one in zip(columns, none, strict=True))
    return pl.DataFrame(rows)


def numbered(parts: Sequence[Parts]) -> list[tuple[pl.LazyFrame, int]]:
    """Give all rows of each of these tables, and how many they are. Raises RunError.

    `row` is their number over all tables, as long as no part comes or goes.
    """
    found, first = [], 0
    for table in parts:
        height = table.height()
        found.append((table.scan(first=first), height))
        first += height
    return found


_PROMPT = pl.col("prompt_id").hash().alias("id")
_MODEL = pl.col("source_model").cast(pl.Categorical)
_TEXT = pl.col("text_id").hash().alias("text")


def _said(rows: pl.LazyFrame, *, located: bool) -> pl.LazyFrame:
    """Read of responses what they are known by, and what candidates tell of them."""
    text = pl.col("text_id")
    told = [pl.when(text.is_not_null()).then(_TEXT).alias("text_id"), pl.col("row")] if located else [text]
    return rows.select(_PROMPT, _MODEL, "sample", _TEXT, *told)


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
        return rows.select(_PROMPT, _MODEL, "sample", _TEXT, *by, self.column, *row)


_JUDGED = {
    "verdicts": _Judgement("passed", pl.Boolean(), "verdict_row", "answer"),
    "rewards": _Judgement("reward", pl.Float64(), "reward_row"),
    "flaws": _Judgement("flaw", pl.String()),
}


def _judged(responses: pl.DataFrame, told: pl.DataFrame) -> list[pl.Series]:
    """Give what is `told` of each response, or nulls: of what stands at its place, where the text is the same."""
    at = _standing(responses["place"].to_numpy(), told["place"].to_numpy())
    known = np.append(responses["text"].to_numpy(), np.uint64(0))[at] == told["text"].to_numpy()
    known &= at < responses.height
    row = np.full(responses.height, told.height, np.uint32)
    row[at[known]] = np.flatnonzero(known)
    found = pl.Series(row).set(pl.Series(row == told.height), None)
    return [one.gather(found) if len(one) else one.clear(len(found)) for one in told.drop("place", "text")]


def _standing(places: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Tell at which of `places`, which differ, each of `wanted` stands; their number where it does not."""
    count = len(places)
    ends = [(int(numbers.min()), int(numbers.max())) for numbers in (places, wanted) if len(numbers)]
    least, most = min((end for end, _ in ends), default=0), max((end for _, end in ends), default=0)
    if most - least < _SPARSE * count:
        table = np.full(most - least + 1, count, np.uint32)
        table[places - least] = np.arange(count, dtype=np.uint32)
        return table[wanted - least]
    order = np.append(np.argsort(places), count)
    at = order[np.searchsorted(places, wanted, sorter=order[:-1])]
    return np.where(np.append(places, -1)[at] == wanted, at, count).astype(np.uint32)


_SPARSE = 8
