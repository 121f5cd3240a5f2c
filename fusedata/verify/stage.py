"""RESPONSES into VERDICTS: is a response right by the gold answer, or the tests, of its prompt."""

import polars as pl

from fusedata.plan import Advance, windows
from fusedata.schema import VERDICTS, keys_digest
from fusedata.store import Parts
from fusedata.verify.checks import Check

_PART = 2_000


def verify(prompts: pl.DataFrame, responses: Parts, parts: Parts, check: Check, name: str, advance: Advance) -> None:
    """Judge the responses that `parts` lacks a verdict of. Raises VerifierError, RunError."""
    asked = prompts.select("prompt_id", "corpus", "sampled", "answer", "tests")
    for window in windows(asked, responses, parts):
        for rows in window.filter("todo").iter_slices(_PART):
            parts.write(keys_digest(rows), _verdicts(rows, check, name))
            advance(rows.height)


def _verdicts(rows: pl.DataFrame, check: Check, name: str) -> pl.DataFrame:
    verdicts = list(check.judge(rows))
    return rows.with_columns(
        check=pl.lit(name),
        passed=pl.Series([v.passed for v in verdicts], dtype=pl.Boolean),
        status=pl.Series([v.status for v in verdicts], dtype=pl.String),
        detail=pl.Series([v.detail for v in verdicts], dtype=pl.String),
    ).select(VERDICTS.names())
