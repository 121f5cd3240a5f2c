"""RESPONSES into FLAWS: may a response be chosen or rejected at all."""

from collections.abc import Iterator

import polars as pl

from fusedata.curation import Screen
from fusedata.plan import Advance, windows
from fusedata.schema import keys_digest
from fusedata.store import F, Parts
from fusedata.texts.screening import flaws

RULES = 2
"""Raised when the rules find other flaws in the same text: FLAWS are made anew."""
PART = 10_000
"""Responses a part."""


def screen(prompts: pl.DataFrame, responses: Parts, parts: Parts, rules: Screen, advance: Advance) -> None:
    """Screen the responses that `parts` says nothing of. Raises RunError."""
    for window in windows(screened_by(prompts), responses, parts):
        for rows in batches(window):
            advance(screened(rows, parts, rules))


def screened_by(prompts: F) -> F:
    """Give what responses are screened with."""
    return prompts.select("prompt_id", "corpus", "sampled", "answer")


def batches(window: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut what a window has left to do into parts."""
    yield from window.filter("todo").iter_slices(PART)


def screened(rows: pl.DataFrame, parts: Parts, rules: Screen) -> int:
    """Screen one part, write it, and count its rows. Raises RunError."""
    parts.write(keys_digest(rows), rows.with_columns(flaw=flaws(rows, rules)))
    return rows.height
