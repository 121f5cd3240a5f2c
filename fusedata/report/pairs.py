"""The pairs of a report: the numbers of every one, and the texts of a sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from fusedata.readers import collect_files, scan_dataset
from fusedata.schema import ranked

PAIRS = 2_000
"""Pairs whose texts are shown where nobody says how many."""
TEXT_BYTES = 18_000_000
"""Most bytes of texts, as JSON, where nobody says how many: with numbers of 65,000 pairs the page is below 25 MB."""
_NAMES = {
    "corpus": ("corpus",),
    "model": ("source_model", "rejected_source_model"),
    "split": ("split",),
    "verdict": ("chosen_verdict", "rejected_verdict"),
}
_NUMBERS = ("chosen_reward", "rejected_reward", "chosen_completion_tokens", "rejected_completion_tokens")
_TEXTS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Shown:
    """All pairs of a dataset in columns, and texts of some.

    `names` lists corpora, models, splits and verdicts; `columns` holds numbers, and places in `names` (null: none);
    `texts` the turns of prompt, chosen and rejected, by the pair's place.
    """

    names: Mapping[str, Sequence[str]]
    columns: Mapping[str, Sequence[object]]
    texts: Mapping[int, Mapping[str, Any]]
    total: int


def shown(folder: Path, wanted: int | None, seed: int = 0) -> Shown:
    """Read the pairs of the dataset in `folder`. Raises RunError.

    The sample is chosen by a hash of seed and prompt: `wanted` pairs, or PAIRS of them while they fit TEXT_BYTES.
    """
    rows = scan_dataset(folder)
    if rows is None:
        return Shown(dict.fromkeys(_NAMES, ()), {}, {}, 0)
    named = [column for columns in _NAMES.values() for column in columns]
    frame = collect_files(rows.select("prompt_id", *named, *_NUMBERS), [folder])
    names = {name: _values(frame, columns) for name, columns in _NAMES.items()}
    columns: dict[str, Sequence[object]] = {"id": frame["prompt_id"].to_list()}
    for name, held in _NAMES.items():
        places = {value: place for place, value in enumerate(names[name])}
        columns |= {c: frame[c].replace_strict(places, default=None, return_dtype=pl.Int32).to_list() for c in held}
    columns |= {c: frame[c].round(5).to_list() if "reward" in c else frame[c].to_list() for c in _NUMBERS}
    order = ranked("report", seed, frame["prompt_id"])
    return Shown(names, columns, _texts(folder, rows, order, wanted), frame.height)


def _values(frame: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    return sorted({value for column in columns for value in frame[column].drop_nulls().unique()})


def _texts(folder: Path, rows: pl.LazyFrame, order: Sequence[int], wanted: int | None) -> dict[int, dict[str, Any]]:
    """Give the texts of the first of `order`."""
    places = order[: PAIRS if wanted is None else wanted]
    picked = rows.with_row_index("place").filter(pl.col("place").is_in(places)).select("place", *_TEXTS)
    found = {row.pop("place"): row for row in collect_files(picked, [folder]).iter_rows(named=True)}
    texts, size = {}, 0
    for place in places:
        size += len(orjson.dumps(found[place]))
        if wanted is None and size > TEXT_BYTES:
            break
        texts[place] = found[place]
    return texts
