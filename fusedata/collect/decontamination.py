"""The prompt filter that drops what shares text with a benchmark, and the report of what it was held against."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from fusedata.collect.protocol import PromptFilter
from fusedata.contamination.overlap import Index, Item, Match
from fusedata.contamination.report import Report
from fusedata.contamination.sources import Places, Shelf, find_benchmarks
from fusedata.curation import Decontamination
from fusedata.profile import Profile
from fusedata.recipe import Recipe

REASON = "in benchmark "
"""What the reason begins with; the benchmark's name follows."""

_SHOWN = 300


def benchmarks(recipe: Recipe, profile: Profile, *, fetched: bool) -> Shelf | None:
    """Find the benchmarks that prompts are to be held against; None: decontamination is switched off.

    `fetched` says that a corpus comes from a hub: then benchmarks do as well, unless the profile names another place.
    """
    if not recipe.decontamination.enabled:
        return None
    where = replace(places(profile, fetched=fetched), revisions=recipe.decontamination.revisions)
    return find_benchmarks(recipe.decontamination.benchmarks, where)


def places(profile: Profile, *, fetched: bool) -> Places:
    """Say where a profile lets benchmarks be looked for; `fetched` as above."""
    mirror = Path(profile.corpora).expanduser() if profile.corpora else None
    named = profile.benchmarks or ("hub" if fetched else "")
    if named == "hub":
        return Places(mirror, profile.hub)
    if named == "none":
        return Places(none='the profile says benchmarks = "none"')
    if named:
        return Places(Path(named))
    return Places(mirror, none="no corpus comes from a hub, and the profile names no place of benchmarks")


def held_against(items: Sequence[Item], settings: Decontamination) -> list[PromptFilter]:
    """Give the filter that drops prompts with text of `items`: `detail` is the item and the text in common.

    What the user says is held against them, then all turns. No filter, where there are no items. It is of no use to
    another process, where words have other hashes.
    """
    index = Index(items, words=settings.words, characters=settings.characters)

    def looked_up(prompts: pl.DataFrame) -> pl.DataFrame:
        said = prompts.select("text", "turns").iter_rows()
        matches = [index.find(text) or (index.find(turns) if turns != text else None) for text, turns in said]
        reasons = [match and REASON + match.benchmark for match in matches]
        details = [match and _detail(match) for match in matches]
        return pl.DataFrame({"reason": reasons, "detail": details}, schema={"reason": pl.String, "detail": pl.String})

    return [looked_up] if len(index) else []


def _detail(match: Match) -> str:
    text = match.text if len(match.text) <= _SHOWN else f"{match.text[:_SHOWN]}…"
    return f"{match.item}: {text}"


def report(shelf: Shelf, dropped: pl.DataFrame) -> Report:
    """Count what DROPPED holds for each benchmark."""
    counts = dict(dropped["reason"].value_counts().iter_rows())
    revisions = shelf.revisions()
    found = {name: counts.get(REASON + name, 0) for name in revisions}
    folder = shelf.places.folder
    where = str(folder.expanduser().absolute()) if folder else None
    return Report(found, dict(shelf.unchecked), revisions, where, shelf.places.hub)
