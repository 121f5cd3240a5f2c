"""The candidates of a run: every response that counts, with its verdict, reward and flaw, as keys and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

import polars as pl

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
    numbers of rows as `numbered` counts them. Prompts and source models are numbered (Enum, Categorical). Raises
    RunError.

    A source at a time, joined by one 64-bit hash of key, text and gold answer: two of 5 million responses of a source
    have the same one with a probability of 7 in 10 ** 7, and a join by strings takes three times the memory.
    """
    prompts = tables.prompts.sort("prompt_id")
    ids, answers = pl.Enum(prompts["prompt_id"]), prompts.select(pl.col("answer").hash(5)).to_series()
    scans = {name: numbered(parts) if located else [table.scan() for table in parts] for name, parts in tables.named()}
    found = []
    for number, own in enumerate(tables.sources()):
        rows = _responses(own, scans["responses"][number], ids, located=located)
        rows = rows.with_columns(judged=pl.col("key") ^ answers.gather(rows["prompt_id"].to_physical()))
        for name, judgement in _JUDGED.items():
            told = judgement.columns(located=located)
            if scans[name]:
                asked = scans[name][number].select(judgement.key.alias(judgement.on), **told)
                rows = rows.join(collect(asked, own.all()), on=judgement.on, how="left")
            elif name != "flaws":
                none = {judgement.column: pl.lit(None, judgement.dtype), judgement.row: pl.lit(None, pl.UInt32)}
                rows = rows.with_columns(**{column: none[column] for column in told})
        found.append(rows.drop("key", "judged"))
    return pl.concat(found)


def numbered(parts: Sequence[Parts]) -> list[pl.LazyFrame]:
    """Give all rows of these tables with `row`: their number, as long as no part comes or goes. Raises RunError."""
    found, first = [], 0
    for table in parts:
        found.append(table.scan(first=first))
        first += table.height()
    return found


_HASHED = ("prompt_id", "source_model", "sample", "text_id")
_KEY = reduce(xor, (pl.col(column).hash(seed) for seed, column in enumerate(_HASHED)))


@dataclass(frozen=True)
class _Judgement:
    """What is told of responses: by which column of theirs it is found, its hash, and what it is called."""

    on: str
    key: pl.Expr
    column: str
    dtype: pl.DataType
    row: str = ""

    def columns(self, *, located: bool) -> dict[str, pl.Expr]:
        return {self.column: pl.col(self.column), **({self.row: pl.col("row")} if located and self.row else {})}


_JUDGED = {
    "verdicts": _Judgement("judged", _KEY ^ pl.col("answer").hash(5), "passed", pl.Boolean(), "verdict_row"),
    "rewards": _Judgement("key", _KEY, "reward", pl.Float64(), "reward_row"),
    "flaws": _Judgement("key", _KEY, "flaw", pl.String()),
}


def _responses(own: Tables, rows: pl.LazyFrame, ids: pl.Enum, *, located: bool) -> pl.DataFrame:
    """Give the responses of one source that count: a table may hold those of prompts that were asked for before."""
    (table,) = own.responses
    asked = table.asked(own.prompts)
    if asked.height < own.prompts.height:
        rows = rows.join(asked.lazy().select("prompt_id"), on="prompt_id", how="semi")
    text = pl.col("text_id")
    said = [pl.when(text.is_not_null()).then(text.hash()).alias("text_id"), pl.col("row")] if located else [text]
    prompt, model = pl.col("prompt_id").cast(ids, strict=False), pl.col("source_model").cast(pl.Categorical)
    rows = rows.select(prompt, model, "sample", *said, key=_KEY)
    return collect(rows.filter(pl.col("prompt_id").is_not_null()), [table])
