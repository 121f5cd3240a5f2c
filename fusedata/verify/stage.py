"""RESPONSES into VERDICTS: is a response right by the gold answer, or the tests, of its prompt."""

from collections.abc import Iterator

import polars as pl

from fusedata.plan import Advance, windows
from fusedata.schema import VERDICTS, keys_digest
from fusedata.store import F, Parts
from fusedata.verify.checks import Check

PART = 2_000
"""Responses a part."""


def verify(prompts: pl.DataFrame, responses: Parts, parts: Parts, check: Check, name: str, advance: Advance) -> None:
    """Judge the responses that `parts` lacks a verdict of. Raises VerifierError, RunError."""
    for window in windows(judged_by(prompts), responses, parts):
        for rows in batches(window):
            advance(judge(rows, parts, check, name))


def judged_by(prompts: F) -> F:
    """Give what responses are judged by."""
    return prompts.select("prompt_id", "corpus", "sampled", "answer", "tests")


def batches(window: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut what a window has left to do into parts."""
    yield from window.filter("todo").iter_slices(PART)


def judge(rows: pl.DataFrame, parts: Parts, check: Check, name: str) -> int:
    """Judge one part, write it, and count its rows. Raises VerifierError, RunError."""
    parts.write(keys_digest(rows), _verdicts(rows, check, name))
    return rows.height


def _verdicts(rows: pl.DataFrame, check: Check, name: str) -> pl.DataFrame:
    verdicts = list(check.judge(rows))
    return rows.with_columns(
        check=pl.lit(name),
        passed=pl.Series([v.passed for v in verdicts], dtype=pl.Boolean),
        status=pl.Series([v.status for v in verdicts], dtype=pl.String),
        detail=pl.Series([v.detail for v in verdicts], dtype=pl.String),
    ).select(VERDICTS.names())
