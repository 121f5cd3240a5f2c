"""The candidates of a run: every response that counts, with its verdict, reward and flaw, as keys and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from fusedata.schema import FLAWS, KEY, RESPONSES, REWARDS, VERDICTS
from fusedata.store import Parts, Run


@dataclass(frozen=True)
class Tables:
    """The tables of a run, the parts of all sources together."""

    prompts: pl.DataFrame
    responses: Sequence[Parts]
    verdicts: Sequence[Parts]
    rewards: Sequence[Parts]
    flaws: Sequence[Parts] = ()

    def all(self) -> list[Parts]:
        """List every part table, to say which part cannot be read."""
        return [*self.responses, *self.verdicts, *self.rewards, *self.flaws]


def run_tables(run: Run, prompts: pl.DataFrame) -> Tables:
    """Give the tables of a run that are in force."""
    known = {"responses": RESPONSES, "verdicts": VERDICTS, "rewards": REWARDS, "flaws": FLAWS}
    parts = {s: [run.parts(s, label, schema) for label in run.labels(s)] for s, schema in known.items()}
    return Tables(prompts, **parts)


def candidates(tables: Tables, *, located: bool = False) -> pl.LazyFrame:
    """Give every response that counts for one of the prompts with its verdict, reward and flaw, without its text.

    The column `flaw` is there where responses are screened. `located` gives hashes in place of text_id, and LOCATED:
    numbers of rows as `numbered` counts them.

    Prompts and source models are numbered (Enum, Categorical), and texts compared by 64-bit hashes of their ids: short
    keys join and group faster than strings.
    """
    prompt = pl.col("prompt_id").cast(pl.Enum(tables.prompts["prompt_id"].sort()), strict=False)
    text = pl.when(pl.col("text_id").is_not_null()).then(pl.col("text_id").hash()).alias("text")
    key = (prompt, pl.col("source_model").cast(pl.Categorical), "sample", text)
    rows = _counting(tables.responses, tables.prompts, located=located).filter(prompt.is_not_null())
    rows = rows.select(*key, "row" if located else "text_id")
    for scores, column, row, dtype in (
        (_verdicts(tables, located=located), "passed", "verdict_row", pl.Boolean),
        (_rewards(tables, located=located), "reward", "reward_row", pl.Float64),
    ):
        if scores is None:
            none = {column: pl.lit(None, dtype), **({row: pl.lit(None, pl.UInt32)} if located else {})}
            rows = rows.with_columns(**none)
        else:
            where = {row: pl.col("row")} if located else {}
            rows = rows.join(scores.select(*key, column, **where), on=[*KEY, "text"], how="left")
    if tables.flaws:
        flaws = _counting(tables.flaws, tables.prompts).filter(pl.col("flaw").is_not_null())
        rows = rows.join(flaws.select(*key, "flaw"), on=[*KEY, "text"], how="left")
    return rows.rename({"text": "text_id"}) if located else rows.drop("text")


def numbered(parts: Sequence[Parts]) -> list[pl.LazyFrame]:
    """Give all rows of these tables with `row`: their number, as long as no part comes or goes."""
    found, first = [], 0
    for table in parts:
        found.append(table.scan(first=first))
        first += table.height()
    return found


def _counting(parts: Sequence[Parts], prompts: pl.DataFrame, *, located: bool = False) -> pl.LazyFrame:
    """Give the rows that count: a table may hold those to prompts of a corpus or a recipe that it was made for."""
    rows = numbered(parts) if located else [table.scan() for table in parts]
    return pl.concat([_asked(*pair, prompts) for pair in zip(parts, rows, strict=True)])


def _asked(parts: Parts, rows: pl.LazyFrame, prompts: pl.DataFrame) -> pl.LazyFrame:
    asked = parts.asked(prompts)
    return rows if asked.height == prompts.height else rows.join(asked.lazy(), on="prompt_id", how="semi")


def _verdicts(tables: Tables, *, located: bool) -> pl.LazyFrame | None:
    """Give the verdicts by the gold answers in force; None where nothing is checked."""
    if not tables.verdicts:
        return None
    answers = tables.prompts.lazy().select("prompt_id", "answer")
    rows = _counting(tables.verdicts, tables.prompts, located=located)
    return rows.join(answers, on=["prompt_id", "answer"], how="semi", nulls_equal=True)


def _rewards(tables: Tables, *, located: bool) -> pl.LazyFrame | None:
    return _counting(tables.rewards, tables.prompts, located=located) if tables.rewards else None
