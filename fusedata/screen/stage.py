"""RESPONSES into FLAWS: may a response be chosen or rejected at all."""

import polars as pl

from fusedata.curation import Screen
from fusedata.plan import Advance, windows
from fusedata.schema import keys_digest
from fusedata.store import Parts
from fusedata.texts.screening import flaws

RULES = 1
"""Raised when the rules find other flaws in the same text: FLAWS are made anew."""
_PART = 10_000


def screen(prompts: pl.DataFrame, responses: Parts, parts: Parts, rules: Screen, advance: Advance) -> None:
    """Screen the responses that `parts` says nothing of. Raises RunError."""
    asked = prompts.select("prompt_id", "corpus", "sampled", "answer")
    for window in windows(asked, responses, parts):
        for rows in window.filter("todo").iter_slices(_PART):
            parts.write(keys_digest(rows), rows.with_columns(flaw=flaws(rows, rules)))
            advance(rows.height)
