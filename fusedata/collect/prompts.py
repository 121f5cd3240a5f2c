"""Corpora into PROMPTS: unique problems, stable ids, cut to size by hash; every prompt left out has its reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import polars as pl

from fusedata.collect.code_tests import problems
from fusedata.collect.distinct import Distinct, batched, distinct_keys, one_each
from fusedata.collect.filtering import filtered
from fusedata.collect.locate import Located
from fusedata.collect.parquet_columns import explained
from fusedata.collect.protocol import PromptFilter
from fusedata.collect.rows import SAID, is_plain, kept_rows, lazy_rows, row_counts, topic
from fusedata.collect.turns import read_said, said_turns
from fusedata.corpus import Corpus
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, PROMPTS, prompt_id, rank

_AT_ONCE = 2
"""Frames of a corpus that are read together, on all cores."""


@dataclass
class Collected:
    """What came of the corpora.

    `prompts`: PROMPTS. `dropped`: DROPPED, one row a prompt. `funnel`: for each corpus its counts in order, the rows
    read first: (corpus, what, count).
    """

    prompts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROMPTS))
    dropped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DROPPED))
    funnel: list[tuple[str, str, int]] = field(default_factory=list)

    def drop(self, rows: pl.DataFrame, corpus: str, reason: str) -> None:
        """Record `rows` (corpus_row, prompt_id, …, perhaps detail) as dropped for `reason`."""
        if rows.height:
            named = {"stage": "collect", "corpus": corpus, "reason": reason}
            columns = {key: pl.lit(value) for key, value in named.items()}
            detail = pl.col("detail") if "detail" in rows.columns else pl.lit(None)
            dropped = rows.with_columns(**columns, detail=detail).select(DROPPED.names()).cast(DROPPED)
            self.dropped = pl.concat([self.dropped, dropped])
            self.funnel.append((corpus, reason, rows.height))


def collect(
    corpora: Sequence[tuple[Corpus, Located]], recipe: Recipe, filters: Sequence[PromptFilter] = ()
) -> Collected:
    """Read the prompts of all corpora, in the recipe's order, and take those that pass `filters`. Raises CorpusError.

    Filters see the prompts of a corpus in the order in which they are taken, and no more of them than `take` and
    `limit` need.
    """
    collected = Collected()
    for corpus, located in corpora:
        rows, plain = _unique_rows(corpus, located, collected)
        rows = _known_dropped(rows, corpus.id, collected)
        rows = _taken(rows, corpus, recipe, filters, collected, plain=plain)
        collected.prompts = pl.concat([collected.prompts, _as_prompts(rows, corpus, plain=plain)])
    _limit(collected, recipe)
    return collected


def _unique_rows(corpus: Corpus, located: Located, collected: Collected) -> tuple[pl.DataFrame, bool]:
    """Give one row a distinct problem, and whether the corpus is plain.

    Columns: prompt_id, corpus_row (its first), said, topic, answer, tests, solution. An `other_answer` that differs
    says that rows with this problem are judged by different things.
    """
    found = Distinct()
    plain, totals = True, []
    for frames in batched(lazy_rows(corpus, located), _AT_ONCE):
        plain = is_plain(corpus, frames[0].collect_schema())
        asked = [[row_counts(frame, corpus), _described(kept_rows(frame, corpus), corpus)] for frame in frames]
        with explained(located):
            answered = pl.collect_all(list(chain.from_iterable(asked)))
        totals += answered[::2]
        found.add(pl.concat(answered[1::2]))
    counts = pl.concat(totals).sum().row(0, named=True)
    collected.funnel += [(corpus.id, what, count) for what, count in counts.items() if count]
    rows = found.rows()
    ids = pl.Series([prompt_id(read_said(said, plain=plain)) for said in rows["said"]], dtype=pl.String)
    if merged := found.seen - ids.n_unique():
        collected.funnel.append((corpus.id, "merged into a row with the same problem (rows)", merged))
    return rows.with_columns(prompt_id=ids), plain


def _described(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Give what `Distinct` takes."""
    label = topic(corpus, rows.collect_schema())
    if corpus.tests:
        frame = rows.with_columns(label.alias("\0topic")).collect()
        rows = problems(frame, corpus, corpus.tests).with_columns(frame["\0topic"].alias("topic")).lazy()
        said, label, answer = pl.col("text"), pl.col("topic"), pl.col("answer")
    else:
        said = pl.col(SAID)
        answer = pl.col(corpus.answer).cast(pl.String).str.strip_chars() if corpus.answer else pl.lit(None, pl.String)
    held = [pl.col(n) if corpus.tests else pl.lit(None, pl.String).alias(n) for n in ("tests", "solution")]
    known = {"said": said, "topic": label, "answer": answer}
    return rows.select(pl.col("row").alias("corpus_row"), *held, **known).with_columns(distinct_keys())


def _known_dropped(rows: pl.DataFrame, corpus: str, collected: Collected) -> pl.DataFrame:
    """Merge problems that are one prompt, and drop those that an earlier corpus holds."""
    rows = one_each(rows, "prompt_id")
    known = pl.col("prompt_id").is_in(collected.prompts["prompt_id"].implode())
    collected.drop(rows.filter(known), corpus, "in an earlier corpus")
    return rows.filter(~known)


def _taken(
    rows: pl.DataFrame,
    corpus: Corpus,
    recipe: Recipe,
    filters: Sequence[PromptFilter],
    collected: Collected,
    *,
    plain: bool,
) -> pl.DataFrame:
    """Keep the first `take` problems by hash that pass the filters."""
    rows = rows.sort(by=pl.Series(rank("take", recipe.seed, rows["prompt_id"]), dtype=pl.UInt64))
    if filters:
        wanted = min(corpus.take or rows.height, recipe.limit or rows.height)
        kept, dropped, rest = filtered(rows, corpus, wanted, filters, plain=plain)
        for reason, those in dropped:
            collected.drop(those, corpus.id, reason)
    else:
        wanted = corpus.take or rows.height
        kept, rest = rows[:wanted], rows[wanted:]
    collected.drop(rest, corpus.id, "not taken")
    return kept


def _as_prompts(rows: pl.DataFrame, corpus: Corpus, *, plain: bool) -> pl.DataFrame:
    length = pl.element().struct.field("content").str.len_chars()
    prompts = rows.with_columns(
        corpus=pl.lit(corpus.id), messages=said_turns(plain=plain), sampled=pl.lit(corpus.sampled)
    )
    return (
        prompts.with_columns(chars=pl.col("messages").list.eval(length).list.sum())
        .select(PROMPTS.names())
        .cast(PROMPTS)
    )


def _limit(collected: Collected, recipe: Recipe) -> None:
    """Keep the first `limit` prompts of all corpora together, by the hash that `take` uses."""
    order = pl.Series(rank("take", recipe.seed, collected.prompts["prompt_id"]), dtype=pl.UInt64)
    prompts = collected.prompts.sort(by=order)
    for (corpus,), rows in prompts[recipe.limit or prompts.height :].group_by("corpus", maintain_order=True):
        collected.drop(rows, str(corpus), "over the limit")
    collected.prompts = prompts[: recipe.limit or prompts.height].sort("prompt_id")
    kept = dict(collected.prompts["corpus"].value_counts().iter_rows())
    collected.funnel += [(corpus.id, "prompts", kept.get(corpus.id, 0)) for corpus in recipe.corpora]
