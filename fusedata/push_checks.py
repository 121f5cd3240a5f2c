"""What keeps a dataset from being pushed though it is whole: an audit that found errors, a licence that forbids it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from fusedata.audit import audit, usual_benchmarks
from fusedata.audit.expected import recipe_in
from fusedata.card import licences
from fusedata.publish.release import find_datasets
from fusedata.readers import collect_files, scan_dataset

Check = Callable[[Path], Sequence[str]]
"""Looks at what is to be pushed, a run or a folder, and gives each reason against it in a sentence."""

_SOURCES = ("corpus", "source_model", "rejected_source_model")


def audited(path: Path) -> list[str]:
    """Give what an audit holds to be an error. Raises FusedataError where it cannot be read.

    Texts are held against the benchmarks that the run's prompts were held against, else those of the user's profile.
    """
    return [
        f"The audit says: {' '.join(filter(None, (error.dataset, error.check)))}: {error.message}"
        f"{f' ({error.count:,} of {error.of:,} rows)' if error.of else ''}. See: fusedata audit {path}"
        for error in audit(path, usual=usual_benchmarks()).errors
    ]


def licensed(path: Path) -> list[str]:
    """Give why the licences of corpora and models behind the rows forbid to share them; of a mixture, of each part."""
    reasons: dict[str, None] = {}
    for folder in find_datasets(path):
        rows = _sources(folder)
        for place in (folder, *(found.parent for found in folder.glob("recipes/*/recipe.toml"))):
            if recipe := recipe_in(place):
                reasons |= dict.fromkeys(licences(rows, recipe).forbids_publishing)
    return list(reasons)


def _sources(folder: Path) -> pl.DataFrame:
    """Give each combination of corpus and models that stands behind a row."""
    rows = scan_dataset(folder)
    if rows is None:
        return pl.DataFrame(schema=dict.fromkeys(_SOURCES[:2], pl.String()))
    named = [name for name in _SOURCES if name in rows.collect_schema()]
    return collect_files(rows.select(named).unique(), [folder])


CHECKS: tuple[Check, ...] = (audited, licensed)
