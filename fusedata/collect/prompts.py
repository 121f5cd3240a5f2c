"""Corpora into PROMPTS: unique problems, stable ids, cut to size by hash; every prompt left out has its reason."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import polars as pl

from fusedata.collect.code_tests import problems
from fusedata.collect.locate import Located
from fusedata.collect.parquet_columns import explained
from fusedata.collect.read import scan, scan_lazy
from fusedata.corpus import Corpus
from fusedata.errors import CorpusError
from fusedata.recipe import Recipe
from fusedata.schema import DROPPED, PROMPTS, Message, prompt_id, rank

GoldCheck = Callable[[pl.DataFrame], Iterator[str | None]]
"""Takes rows (answer, tests, solution), gives for each why it cannot serve to judge by, or None."""

_GOLD_BATCH = 1_000


@dataclass
class Collected:
    """What came of the corpora.

    `prompts`: PROMPTS. `dropped`: DROPPED, one row a prompt. `funnel`: for each corpus its counts in order, the rows
    read first: (corpus, what, count).
    """

    prompts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROMPTS))
    dropped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DROPPED))
    funnel: list[tuple[str, str, int]] = field(default_factory=list)

    def drop(self, rows: pl.DataFrame, corpus: str, reason: str, detail: pl.Expr | None = None) -> None:
        """Record `rows` (corpus_row, prompt_id, …) as dropped for `reason`."""
        if rows.height:
            named = {"stage": "collect", "corpus": corpus, "reason": reason}
            columns = {key: pl.lit(value) for key, value in named.items()}
            dropped = (
                rows.with_columns(**columns, detail=pl.lit(None) if detail is None else detail)
                .select(DROPPED.names())
                .cast(DROPPED)
            )
            self.dropped = pl.concat([self.dropped, dropped])
            self.funnel.append((corpus, reason, rows.height))


def collect(corpora: Sequence[tuple[Corpus, Located]], recipe: Recipe, gold: GoldCheck | None) -> Collected:
    """Read the prompts of all corpora, in the recipe's order. Raises CorpusError."""
    collected = Collected()
    for corpus, located in corpora:
        rows = _unique_rows(corpus, located, collected)
        rows = _known_dropped(rows, corpus.id, collected)
        rows = _taken(rows, corpus, recipe, gold, collected)
        collected.prompts = pl.concat([collected.prompts, _as_prompts(rows, corpus)])
    _limit(collected, recipe)
    return collected


def messages(text: str) -> list[Message]:
    """Give the turns of a single-turn prompt."""
    return [{"role": "user", "content": text}]


def _unique_rows(corpus: Corpus, located: Located, collected: Collected) -> pl.DataFrame:
    """Give one row a distinct problem: prompt_id, corpus_row (its first), text, answer, tests, solution.

    An `other_answer` that differs says that rows with this problem are judged by different things.
    """
    columns = read_columns(corpus)
    rows = scan_lazy(located, columns)
    frames = [rows] if rows is not None else (frame.lazy() for frame in scan(located, columns))
    parts = [
        _collect_all(located, [_counts(frame, corpus), _grouped(kept_rows(frame, corpus), corpus, located)])
        for frame in (_checked(frame, corpus) for frame in frames)
    ]
    counts = pl.concat([counts for counts, _ in parts]).sum().row(0, named=True)
    collected.funnel += [(corpus.id, what, count) for what, count in counts.items() if count]
    found = _merged(pl.concat([problems for _, problems in parts]).lazy()).collect().sort("corpus_row")
    ids = [prompt_id(messages(text)) for text in found["text"]]
    return found.with_columns(prompt_id=pl.Series(ids, dtype=pl.String))


def _checked(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Hold the columns to the types that their roles need. Raises CorpusError."""
    types = rows.collect_schema()
    answer = types[corpus.answer] if corpus.answer else pl.String()
    for column, kind, fits in (
        (corpus.prompt, types[corpus.prompt], types[corpus.prompt] == pl.String),
        (corpus.answer, answer, answer in (pl.String, pl.Null) or answer.is_numeric()),
    ):
        if not fits:
            remedy = "name a column of text in the recipe"
            raise CorpusError(f"Corpus {corpus.id}: its column {column!r} holds {kind}, not text; {remedy}.")
    return rows


def read_columns(corpus: Corpus, *more: str) -> list[str]:
    """Name the columns of a corpus that its prompts are made from, and `more`."""
    answer = [corpus.answer] if corpus.answer else []
    tests = corpus.tests.columns() if corpus.tests else []
    return list(dict.fromkeys([corpus.prompt, *answer, *tests, *corpus.where, *more]))


def _collect_all(located: Located, frames: list[pl.LazyFrame]) -> list[pl.DataFrame]:
    with explained(located):
        return pl.collect_all(frames, engine="streaming")


def _text(corpus: Corpus) -> pl.Expr:
    return pl.col(corpus.prompt).str.strip_chars()


def _filters(corpus: Corpus) -> dict[str, pl.Expr]:
    """Conditions to stay, each under the reason that a row bears which does not meet it."""
    conditions = {"empty prompt": (_text(corpus).str.len_chars() > 0).fill_null(value=False)}
    for column, values in corpus.where.items():
        conditions[f"where {column}"] = pl.col(column).cast(pl.String).is_in(list(values)).fill_null(value=False)
    return conditions


def kept_rows(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Keep the rows of a corpus that have a prompt and meet its `where`."""
    return rows.filter(*_filters(corpus).values())


def _counts(rows: pl.LazyFrame, corpus: Corpus) -> pl.LazyFrame:
    """Count the rows read, and those dropped under each reason: the first that they meet."""
    counts, before = {"rows read": pl.len()}, pl.lit(value=True)
    for reason, condition in _filters(corpus).items():
        counts[f"{reason} (rows)"] = (before & ~condition).sum()
        before &= condition
    return rows.select(**counts)


def _grouped(rows: pl.LazyFrame, corpus: Corpus, located: Located) -> pl.LazyFrame:
    if corpus.tests:
        with explained(located):
            rows = problems(rows.collect(), corpus, corpus.tests).lazy()
        text, answer = pl.col("text"), pl.col("answer")
    else:
        text = _text(corpus)
        answer = pl.col(corpus.answer).cast(pl.String).str.strip_chars() if corpus.answer else pl.lit(None, pl.String)
    held = [pl.col(n) if corpus.tests else pl.lit(None, pl.String).alias(n) for n in ("tests", "solution")]
    return _merged(rows.select(*held, corpus_row="row", text=text, answer=answer, other_answer=answer, rows=pl.lit(1)))


def _merged(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Merge rows of equal text, by two 64-bit hashes: polars' grouping by strings would grow with the corpus."""
    text = pl.col("text")
    merged = rows.group_by(text.hash(1).alias("hash"), text.hash(2).alias("other_hash")).agg(
        text.first(),
        pl.col("corpus_row", "answer", "tests").min(),
        pl.col("other_answer", "solution").max(),
        pl.col("rows").sum(),
    )
    return merged.drop("hash", "other_hash")


def _known_dropped(rows: pl.DataFrame, corpus: str, collected: Collected) -> pl.DataFrame:
    """Merge problems that say the same, and drop those that an earlier corpus holds."""
    merged = int(rows["rows"].sum()) - rows["prompt_id"].n_unique()
    if merged:
        collected.funnel.append((corpus, "merged into a row with the same problem (rows)", merged))
    ends = (pl.col("answer", "tests").min(), pl.col("other_answer", "solution").max())
    rows = rows.group_by("prompt_id", maintain_order=True).agg(pl.col("corpus_row", "text").first(), *ends)
    known = pl.col("prompt_id").is_in(collected.prompts["prompt_id"].implode())
    collected.drop(rows.filter(known), corpus, "in an earlier corpus")
    return rows.filter(~known)


def _taken(
    rows: pl.DataFrame, corpus: Corpus, recipe: Recipe, gold: GoldCheck | None, collected: Collected
) -> pl.DataFrame:
    """Keep the first `take` problems by hash whose gold answer can serve."""
    rows = rows.sort(by=pl.Series(rank("take", recipe.seed, rows["prompt_id"]), dtype=pl.UInt64))
    if (corpus.answer or corpus.tests) and gold:
        rows = _unanswerable_dropped(rows, corpus, collected)
        wanted = min(corpus.take or rows.height, recipe.limit or rows.height)
        rows = _verifiable(rows, corpus, wanted, gold, collected)
    if corpus.take and rows.height > corpus.take:
        collected.drop(rows[corpus.take :], corpus.id, "not taken")
        rows = rows[: corpus.take]
    return rows


def _unanswerable_dropped(rows: pl.DataFrame, corpus: Corpus, collected: Collected) -> pl.DataFrame:
    what = "tests" if corpus.tests else "gold answer"
    missing = pl.col("answer").is_null() | (pl.col("answer") == "")
    conflict = pl.col("answer") != pl.col("other_answer")
    collected.drop(rows.filter(missing), corpus.id, f"no {what}")
    both = pl.concat_str([pl.col("answer"), pl.lit(" and "), pl.col("other_answer")])
    detail = None if corpus.tests else both
    collected.drop(rows.filter(~missing & conflict), corpus.id, f"conflicting {what.removesuffix('s')}s", detail)
    return rows.filter(~missing & ~conflict)


def _verifiable(rows: pl.DataFrame, corpus: Corpus, wanted: int, gold: GoldCheck, collected: Collected) -> pl.DataFrame:
    """Check gold answers in order until `wanted` are found; what comes after was not looked at."""
    verdicts: list[str | None] = []
    found, checks = 0, gold(rows)
    while found < wanted and (batch := list(islice(checks, min(_GOLD_BATCH, wanted - found)))):
        verdicts += batch
        found += batch.count(None)
    checked = rows[: len(verdicts)].with_columns(why=pl.Series(verdicts, dtype=pl.String))
    reason = "solution does not pass its tests" if corpus.tests else "gold answer does not verify"
    collected.drop(checked.filter(pl.col("why").is_not_null()), corpus.id, reason, pl.col("why"))
    collected.drop(rows[len(verdicts) :], corpus.id, "not taken")
    return checked.filter(pl.col("why").is_null())


def _as_prompts(rows: pl.DataFrame, corpus: Corpus) -> pl.DataFrame:
    turn = pl.struct(role=pl.lit("user"), content=pl.col("text"))
    return (
        rows.select(
            "prompt_id",
            "corpus_row",
            "answer",
            "tests",
            corpus=pl.lit(corpus.id),
            messages=pl.concat_list(turn),
            sampled=pl.lit(corpus.sampled),
            chars=pl.col("text").str.len_chars(),
        )
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
