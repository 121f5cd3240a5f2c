"""Prompts through filters: in the order in which they are taken, until enough have passed."""

from collections.abc import Sequence

import polars as pl

from fusedata.collect.protocol import PromptFilter
from fusedata.collect.turns import said_turns, turn_texts
from fusedata.corpus import Corpus

_BATCH = 8_000

Dropped = list[tuple[str, pl.DataFrame]]
"""Reasons in the order of the filters, each with the rows that it dropped, and their `detail`."""


def filtered(
    rows: pl.DataFrame, corpus: Corpus, wanted: int, filters: Sequence[PromptFilter], *, plain: bool
) -> tuple[pl.DataFrame, Dropped, pl.DataFrame]:
    """Look at `rows` in order until `wanted` have passed: give those, the dropped ones, and the rest.

    A batch is never larger than what is still wanted, so that every prompt that passes is taken: filters remember it.
    """
    kept: list[pl.DataFrame] = [rows[:0]]
    dropped: list[list[pl.DataFrame]] = [[] for _ in filters]
    found = seen = 0
    while found < wanted and seen < rows.height:
        batch = rows[seen : seen + min(_BATCH, wanted - found)]
        seen += batch.height
        passed = _candidates(batch, corpus, plain=plain)
        for number, one in enumerate(filters):
            if passed.height:
                told = passed.hstack(one(passed).select("reason", "detail"))
                dropped[number].append(told.filter(pl.col("reason").is_not_null()))
                passed = passed.filter(told["reason"].is_null())
        kept.append(batch.join(passed, on="prompt_id", how="semi", maintain_order="left"))
        found += passed.height
    return pl.concat(kept), _by_reason(dropped), rows[seen:]


def _candidates(rows: pl.DataFrame, corpus: Corpus, *, plain: bool) -> pl.DataFrame:
    """Give CANDIDATES, `corpus`, and what `gold.gold_check` reads."""
    by = "tests" if corpus.tests else "answer" if corpus.answer else None
    known = {"messages": said_turns(plain=plain), "corpus": pl.lit(corpus.id), "judged_by": pl.lit(by, pl.String)}
    return rows.with_columns(**known).with_columns(**turn_texts()).drop("said")


def _by_reason(dropped: list[list[pl.DataFrame]]) -> Dropped:
    columns = ("corpus_row", "prompt_id", "reason", "detail")
    frames = [frame.select(columns) for each in dropped for frame in each if frame.height]
    rows = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame(schema=columns)
    return [(str(reason), those) for (reason,), those in rows.group_by("reason", maintain_order=True)]
