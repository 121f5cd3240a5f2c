"""The prompt filter of gold answers and unit tests: a prompt that nothing can be judged by is dropped."""

from collections.abc import Callable, Iterator

import polars as pl

from fusedata.collect.protocol import PromptFilter

GoldCheck = Callable[[pl.DataFrame], Iterator[str | None]]
"""Takes rows (answer, tests, solution), gives for each why it cannot serve to judge by, or None."""

_FAILS = {"answer": "gold answer does not verify", "tests": "solution does not pass its tests"}


def gold_check(gold: GoldCheck) -> PromptFilter:
    """Give the filter that asks `gold` of every prompt whose corpus has gold answers or tests.

    Beside CANDIDATES it reads `judged_by` ("answer", "tests", or null: by nothing), `answer`, `other_answer` (another
    one that rows with this prompt have), `tests` and `solution`.
    """

    def checked(prompts: pl.DataFrame) -> pl.DataFrame:
        rows = prompts.with_columns(**_unanswerable())
        asked = rows["judged_by"].is_not_null() & rows["reason"].is_null()
        why = gold(rows.filter(asked))
        fails = pl.Series([next(why) if ask else None for ask in asked], dtype=pl.String)
        why_not = pl.when(fails.is_not_null()).then(pl.col("judged_by").replace_strict(_FAILS, default=None))
        return rows.select(reason=pl.col("reason").fill_null(why_not), detail=pl.col("detail").fill_null(fails))

    return checked


def _unanswerable() -> dict[str, pl.Expr]:
    by_answer, by_tests = (pl.col("judged_by") == kind for kind in ("answer", "tests"))
    missing = pl.col("answer").is_null() | (pl.col("answer") == "")
    conflict = (pl.col("answer") != pl.col("other_answer")).fill_null(value=False)
    both = pl.concat_str([pl.col("answer"), pl.lit(" and "), pl.col("other_answer")])
    return {
        "reason": pl.when(by_answer & missing)
        .then(pl.lit("no gold answer"))
        .when(by_tests & missing)
        .then(pl.lit("no tests"))
        .when(by_answer & conflict)
        .then(pl.lit("conflicting gold answers"))
        .when(by_tests & conflict)
        .then(pl.lit("conflicting tests")),
        "detail": pl.when(by_answer & ~missing & conflict).then(both),
    }
