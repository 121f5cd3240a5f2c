"""RESPONSES into VERDICTS: is a response right by the gold answer of its prompt."""

from collections.abc import Iterator, Sequence

import polars as pl

from fusedata.plan import Advance, windows
from fusedata.schema import VERDICTS, keys_digest
from fusedata.store import Parts
from fusedata.verify.math_answer import MathVerifier

_PART = 2_000


def verify(
    prompts: pl.DataFrame, responses: Parts, parts: Parts, verifier: MathVerifier, check: str, advance: Advance
) -> None:
    """Judge the responses that `parts` lacks a verdict of. Raises VerifierError, RunError."""
    for window in windows(prompts.select("prompt_id", "corpus", "sampled", "answer"), responses, parts):
        for rows in window.filter("todo").iter_slices(_PART):
            parts.write(keys_digest(rows), _verdicts(rows, verifier, check))
            advance(rows.height)


def _verdicts(rows: pl.DataFrame, verifier: MathVerifier, check: str) -> pl.DataFrame:
    verdicts = list(verifier.verify_many(zip(rows["answer"], rows["text"], strict=True)))
    return rows.with_columns(
        check=pl.lit(check),
        passed=pl.Series([v.passed for v in verdicts], dtype=pl.Boolean),
        status=pl.Series([status(v.passed) for v in verdicts], dtype=pl.String),
        detail=pl.Series(["; ".join(filter(None, (v.extracted, v.detail))) for v in verdicts], dtype=pl.String),
    ).select(VERDICTS.names())


def status(passed: bool | None) -> str:
    """Name a verdict."""
    return {True: "right", False: "wrong", None: "unjudged"}[passed]


def gold_check(verifier: MathVerifier, answers: Sequence[str]) -> Iterator[str | None]:
    """Say of each gold answer why it cannot serve as one: it must verify against itself. None: it can."""
    for verdict in verifier.verify_many((answer, answer) for answer in answers):
        yield None if verdict.passed else verdict.detail or "it does not equal itself"
