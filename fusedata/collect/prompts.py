"""Corpora into PROMPTS: unique problems, stable ids, cut to size by hash; every prompt left out has its reason."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import orjson
import polars as pl

from fusedata.collect.code_tests import problems
from fusedata.collect.distinct import Distinct, row_key
from fusedata.collect.filtering import filtered
from fusedata.collect.locate import Located
from fusedata.collect.parquet_columns import explained, has_small_groups
from fusedata.collect.protocol import PromptFilter
from fusedata.collect.read import Part, is_parquet
from fusedata.collect.rows import SAID, is_plain, lazy_rows, reasons, topic, why_not
from fusedata.collect.turns import said_turns
from fusedata.corpus import Corpus
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, PROMPTS, prompt_id, rank, text_prompt_ids

_AHEAD = 8
_TOGETHER = 50_000
_NAMED = 2_000
"""Problems whose texts are held as Python's at a time: those that come next take over their memory."""


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


@dataclass
class Problems:
    """The problems of a corpus, or of a part of it; whether it is plain, and why its rows may be dropped."""

    found: Distinct = field(default_factory=Distinct)
    plain: bool = True
    reasons: Sequence[str] = ()


def collect(
    corpora: Sequence[tuple[Corpus, Located]],
    recipe: Recipe,
    filters: Sequence[PromptFilter] = (),
    read: Callable[[Corpus, Located, int], Problems] | None = None,
) -> Collected:
    """Take the prompts of all corpora, in the recipe's order, that pass `filters`. Raises CorpusError.

    Filters see the prompts of a corpus in the order in which they are taken, and no more of them than `take` and
    `limit` need. `read` gives the problems of a corpus; None: it is read here.
    """
    collected = Collected()
    for corpus, located in corpora:
        rows, plain = _unique_rows(corpus, (read or read_problems)(corpus, located, recipe.seed), collected)
        rows = _known_dropped(rows, corpus.id, collected)
        rows = _taken(rows.sort("rank"), corpus, recipe, filters, collected, plain=plain)
        collected.prompts = pl.concat([collected.prompts, _as_prompts(rows, corpus, plain=plain)])
    _limit(collected, recipe)
    return collected


def _unique_rows(corpus: Corpus, problems: Problems, collected: Collected) -> tuple[pl.DataFrame, bool]:
    """Give one row a distinct problem, and whether the corpus is plain.

    Columns: prompt_id, corpus_row (its first), said, topic, answer, tests, solution, and `rank`, by which they are
    taken. An `other_answer` that differs says that rows with this problem are judged by different things.
    """
    found = problems.found
    collected.funnel.append((corpus.id, "rows read", found.seen))
    dropped = [(why, found.dropped[why]) for why in problems.reasons if found.dropped[why]]
    collected.funnel += [(corpus.id, f"{why} (rows)", rows) for why, rows in dropped]
    rows = found.rows()
    if merged := found.seen - found.dropped.total() - rows.height:
        collected.funnel.append((corpus.id, "merged into a row with the same problem (rows)", merged))
    return rows, problems.plain


def read_problems(corpus: Corpus, located: Located, seed: int, part: Part | None = None) -> Problems:
    """Read the problems of a corpus, or of a `part` in the one file of `located`. Raises CorpusError."""
    problems = Problems()
    with ThreadPoolExecutor(1) as thread:  # names problems while polars reads on
        for frame in lazy_rows(corpus, located, part):
            types = frame.collect_schema()
            problems.plain, problems.reasons = is_plain(corpus, types), reasons(corpus, types)
            name = partial(_named, text_prompt_ids if problems.plain else _turns_prompt_ids, seed)
            for rows in _batches(_described(frame, corpus), located):
                problems.found.add(rows, partial(thread.submit, name))
    return problems


def _named(ids: Callable[[Iterable[str]], list[str]], seed: int, said: pl.Series) -> pl.DataFrame:
    some = (said[at : at + _NAMED].to_list() for at in range(0, len(said), _NAMED))
    found = pl.Series("prompt_id", ids(chain.from_iterable(some)), pl.String)
    return pl.DataFrame([found, rank("take", seed, found)])


def _turns_prompt_ids(said: Iterable[str]) -> list[str]:
    return [prompt_id(orjson.loads(turns)) for turns in said]


def _batches(rows: pl.LazyFrame, located: Located) -> Iterator[pl.DataFrame]:
    """Give the rows some at a time: polars goes on reading with the memory that the last ones took.

    A thread takes them over, a few ahead of whoever works on one: polars would read no further meanwhile.
    """
    size = _TOGETHER if any(has_small_groups(file) for file in located.parts() if is_parquet(file.name)) else None
    batches = rows.collect_batches(chunk_size=size, engine="streaming")
    with explained(located), ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))
        while (batch := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, batches, None))
            yield batch


def _described(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Give what `Distinct` takes of all rows, and `why_not`: why a row is not kept."""
    types = rows.collect_schema()
    kept = {"why_not": why_not(corpus, types)} | ({"topic": topic(corpus, types)} if corpus.topic else {})
    if corpus.tests:
        frame = rows.collect()
        found = problems(frame, corpus, corpus.tests).rename({"row": "corpus_row", "text": "said"})
        described = found.hstack(frame.select(**kept)).lazy()
    else:
        answer = {"answer": pl.col(corpus.answer).cast(pl.String)} if corpus.answer else {}
        described = rows.select(corpus_row=pl.col("row"), said=pl.col(SAID), **answer, **kept)
    return described.with_columns(row_key(described.collect_schema()))


def _known_dropped(rows: pl.DataFrame, corpus: str, collected: Collected) -> pl.DataFrame:
    """Drop the problems that an earlier corpus holds."""
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
    """Keep the first `take` problems that pass the filters."""
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
    prompts = collected.prompts
    if recipe.limit and recipe.limit < prompts.height:
        prompts = prompts.sort(by=rank("take", recipe.seed, prompts["prompt_id"]))
        for (corpus,), rows in prompts[recipe.limit :].group_by("corpus", maintain_order=True):
            collected.drop(rows, str(corpus), "over the limit")
    collected.prompts = prompts[: recipe.limit].sort("prompt_id")
    kept = dict(collected.prompts["corpus"].value_counts().iter_rows())
    collected.funnel += [(corpus.id, "prompts", kept.get(corpus.id, 0)) for corpus in recipe.corpora]
