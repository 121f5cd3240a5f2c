"""The recipe's `[filters]`: length, repetition, language, topic and near duplicates of prompts."""

from collections.abc import Callable

import polars as pl

from fusedata.collect.protocol import PromptFilter
from fusedata.curation import Filters
from fusedata.texts.language import language
from fusedata.texts.repetition import repetition
from fusedata.texts.similar import NearDuplicates
from fusedata.texts.topic import topic

RULES = 2
"""Raised when prompts are told apart by other rules, here or in what is asked of `texts` and `contamination`: PROMPTS
are then made anew."""

Found = tuple[str, str] | None
"""Reason and detail; None: the prompt stays."""
_Look = Callable[[str, str | None, str], Found]
"""Looks at CANDIDATES' `text`, `topic` and `turns`."""
_VERDICT = pl.Schema({"reason": pl.String(), "detail": pl.String()})


def make_filters(filters: Filters) -> list[PromptFilter]:
    """List the filters that look at one prompt at a time, the cheap first; `near_duplicates` is apart."""
    looks = [_length(filters), _language(filters), _topic(filters), _repetition(filters)]
    asked = [look for look in looks if look]
    return [_each(asked)] if asked else []


def near_duplicates(threshold: float) -> PromptFilter:
    """Give the filter that drops what resembles an earlier prompt that it let pass, in this batch or an earlier one.

    `threshold`: the least Jaccard similarity of the shingles of what the user says (`fusedata.texts.similar`).
    """
    kept = NearDuplicates(threshold)
    ids: list[str] = []

    def distinct(prompts: pl.DataFrame) -> pl.DataFrame:
        ids.extend(prompts["prompt_id"])
        found = [
            like and ("near duplicate", f"{like.similarity:.2f} of {ids[like.place]}")
            for like in kept.add(prompts["text"].to_list())
        ]
        return _frame(found)

    return distinct


def _each(looks: list[_Look]) -> PromptFilter:
    def looked(prompts: pl.DataFrame) -> pl.DataFrame:
        rows = prompts.select("text", "topic", "turns").iter_rows()
        return _frame([next((found for look in looks if (found := look(*row))), None) for row in rows])

    return looked


def _frame(found: list[Found]) -> pl.DataFrame:
    return pl.DataFrame([verdict or (None, None) for verdict in found], schema=_VERDICT, orient="row")


def _length(filters: Filters) -> _Look | None:
    least, most = filters.min_chars or 0, filters.max_chars or float("inf")

    def length(text: str, _: str | None, turns: str) -> Found:
        if len(text) < least:
            return "too short", f"{len(text)} characters"
        return ("too long", f"{len(turns)} characters") if len(turns) > most else None

    return length if filters.min_chars or filters.max_chars else None


def _language(filters: Filters) -> _Look | None:
    wanted = filters.languages

    def spoken(text: str, _: str | None, __: str) -> Found:
        found = language(text)
        return (f"language {found}", found) if found and wanted and found not in wanted else None

    return spoken if wanted else None


def _topic(filters: Filters) -> _Look | None:
    wanted = filters.topics

    def about(text: str, label: str | None, _: str) -> Found:
        name, by = (label, "") if label else topic(text)
        if not wanted or name in wanted:
            return None
        told = "by its label" if label else f"by its text: {by}" if by else "by its text"
        return f"topic {name}", told

    return about if wanted else None


def _repetition(filters: Filters) -> _Look | None:
    most = filters.max_repetition

    def repeats(text: str, _: str | None, __: str) -> Found:
        share = repetition(text) if most is not None else 0
        return ("repetition", f"{share:.2f} of it") if share > (most or 0) else None

    return repeats if most is not None else None
