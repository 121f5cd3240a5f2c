"""What is left to do: wanted keys minus done keys, in windows small enough for memory."""

from collections.abc import Callable, Iterator

import polars as pl

from fusedata.schema import KEY
from fusedata.store import Parts, collect

Advance = Callable[[int], None]
"""Told how many rows were finished since the last call."""

WINDOW = 100_000
"""Responses whose texts are held in memory at a time."""


def wanted_keys(prompts: pl.DataFrame, responses: Parts) -> pl.DataFrame:
    """Keys of the responses that have a text and answer one of `prompts`, sorted."""
    answered = responses.scan("part").filter(pl.col("text").is_not_null()).select(KEY)
    return collect(answered.join(prompts.lazy().select("prompt_id"), on="prompt_id", how="semi"), [responses]).sort(KEY)


def windows(prompts: pl.DataFrame, responses: Parts, done: Parts, size: int = WINDOW) -> Iterator[pl.DataFrame]:
    """Give the wanted responses with something left to do, with their prompts, in windows of at most `size` rows.

    Windows are cut from all wanted keys, so they are the same whatever is done already; a window with nothing to do
    is passed over. Columns: those of RESPONSES and `prompts`, and `todo`.
    """
    keys = wanted_keys(prompts, responses)
    finished = done.done().with_columns(todo=pl.lit(value=False))
    keys = keys.join(finished, on=KEY, how="left", maintain_order="left")
    keys = keys.with_columns(pl.col("todo").fill_null(value=True))
    for window in keys.iter_slices(size):
        if window["todo"].any():
            texts = responses.scan("part").join(window.lazy(), on=KEY)
            yield collect(texts, [responses]).join(prompts, on="prompt_id").sort(KEY)
