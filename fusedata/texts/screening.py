"""Whether a response can be chosen or rejected at all: what `[screen]` asks of it."""

import polars as pl

from fusedata.curation import Screen
from fusedata.texts.language import language
from fusedata.texts.refusal import refusal
from fusedata.texts.repetition import repetition
from fusedata.texts.truncation import truncation


def flaw(text: str, finish_reason: str | None, screen: Screen) -> str | None:  # noqa: PLR0911 - a flaw a line
    """Name the first flaw of a response: "too short", "too long", "truncated", "refusal", "repetition" or "language".

    None: it has none that `screen` asks for. A language that cannot be told is no flaw.
    """
    if screen.min_chars is not None and len(text) < screen.min_chars:
        return "too short"
    if screen.max_chars is not None and len(text) > screen.max_chars:
        return "too long"
    if screen.truncated and truncation(text, finish_reason):
        return "truncated"
    if screen.refusals and refusal(text):
        return "refusal"
    if screen.max_repetition is not None and repetition(text) > screen.max_repetition:
        return "repetition"
    if screen.languages is not None and (language(text) or screen.languages[0]) not in screen.languages:
        return "language"
    return None


def flaws(responses: pl.DataFrame, screen: Screen) -> pl.Series:
    """Give `flaw` of each row (text, finish_reason), a String series `flaw`; a row without text has no flaw to find."""
    rows = responses.select("text", "finish_reason").iter_rows()
    found = [None if text is None else flaw(text, finish_reason, screen) for text, finish_reason in rows]
    return pl.Series("flaw", found, dtype=pl.String)
