"""What is left to do: wanted keys minus done keys, in windows small enough for memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import polars as pl

from fusedata.schema import KEY
from fusedata.store import Parts, collect

Advance = Callable[[int], None]
"""Told how many rows were finished since the last call."""


class Reporter(Protocol):
    """Told what a build does; the library itself is silent."""

    def changed(self, fields: Sequence[tuple[str, object, object]], redone: Sequence[str]) -> None:
        """Hear, before anything is done, what differs from the run's last build and which tables are made anew."""
        ...

    def stage(self, name: str, total: int | None) -> AbstractContextManager[Advance]:
        """Hear that a stage begins, with `total` rows to do (None: not known), and be told of progress in it."""
        ...


WINDOW_BYTES = 64 << 20
"""Bytes of parts whose texts are held in memory at a time, as they lie on disk."""


def wanted(prompts: pl.DataFrame, responses: Parts) -> pl.DataFrame:
    """Give the responses that count for `prompts` and have a text: KEY, text_id, answer; sorted by KEY."""
    rows = responses.scan("part").filter(pl.col("text_id").is_not_null()).select(*KEY, "text_id")
    asked = responses.asked(prompts).lazy().select("prompt_id", "answer")
    return collect(rows.join(asked, on="prompt_id"), [responses]).sort(KEY)


def unfinished(prompts: pl.DataFrame, responses: Parts, done: Parts) -> pl.DataFrame:
    """Give the wanted responses that `done` says nothing of: neither of this text, nor by this gold answer."""
    on = [name for name in (*KEY, "text_id", "answer") if name in done.schema]
    finished = collect(done.scan("part").select(on), [done])
    return wanted(prompts, responses).join(finished, on=on, how="anti", nulls_equal=True)


def windows(prompts: pl.DataFrame, responses: Parts, done: Parts, size: int = WINDOW_BYTES) -> Iterator[pl.DataFrame]:
    """Give the wanted responses with something left to do, with their prompts, some parts of `size` bytes at a time.

    Windows are cut from all parts, so they are the same whatever is done already; a window with nothing to do is
    passed over. A shard cuts them from the parts that hold its `prompts`, whatever other shards write meanwhile.
    Columns: those of RESPONSES and `prompts`, and `todo`. Sorted by KEY.
    """
    left = unfinished(prompts, responses, done).select(*KEY, todo=pl.lit(value=True))
    asked = responses.asked(prompts).lazy()
    for paths in cut(_parts_of(prompts, responses), size) if left.height else ():
        rows = responses.scan_paths(paths).filter(pl.col("text_id").is_not_null())
        if collect(rows.select(KEY).join(left.lazy(), on=KEY, how="semi"), [responses]).height:
            window = collect(rows.join(asked, on="prompt_id"), [responses])
            yield window.join(left, on=KEY, how="left").with_columns(pl.col("todo").fill_null(value=False)).sort(KEY)


def _parts_of(prompts: pl.DataFrame, responses: Parts) -> list[Path]:
    paths = responses.paths("part")
    if responses.shard is None or not paths:
        return paths
    rows = pl.scan_parquet(paths, glob=False, hive_partitioning=False, include_file_paths="path")
    own = rows.select("prompt_id", "path").join(prompts.lazy().select("prompt_id"), on="prompt_id", how="semi")
    held = set(collect(own.select(pl.col("path").unique()), [responses])["path"])
    return [path for path in paths if str(path) in held]


def cut(paths: list[Path], size: int) -> Iterator[list[Path]]:
    """Cut a list of files into runs of about `size` bytes."""
    run: list[Path] = []
    held = 0
    for path in paths:
        run.append(path)
        held += path.stat().st_size
        if held >= size:
            yield run
            run, held = [], 0
    if run:
        yield run
