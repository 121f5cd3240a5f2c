"""What is left to do: wanted keys minus done keys, in windows small enough for memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import polars as pl

from fusedata.recipe import Recipe
from fusedata.schema import KEY
from fusedata.split import asked
from fusedata.storage import sizes
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


STRETCH = 1 << 20
"""Responses whose keys are held in memory at a time."""

Prompts = pl.DataFrame | pl.LazyFrame
"""PROMPTS, or some columns of it: held in memory, or read anew each time."""


def asked_of(table: Parts, prompts: pl.DataFrame, recipe: Recipe, label: str) -> pl.DataFrame:
    """Give the prompts that a build has the source `label` of a table answer, or that its corpus carries answers to.

    `Parts.asked` gives more of a target model: those that feed SFT, which it was asked under a recipe of before.
    """
    return asked(prompts, recipe, label) if table.corpus is None else table.asked(prompts)


def wanted(prompts: Prompts, responses: Parts) -> pl.DataFrame:
    """Give the responses that count for `prompts` and have a text: KEY, text_id, answer; sorted by KEY."""
    return _counting(_with_text(responses, responses.paths("part")), prompts, responses).sort(KEY)


def _with_text(responses: Parts, paths: list[Path]) -> pl.LazyFrame:
    return responses.scan_paths(paths).filter(pl.col("text_id").is_not_null()).select(*KEY, "text_id")


def _counting(rows: pl.LazyFrame, prompts: Prompts, responses: Parts) -> pl.DataFrame:
    """Give those of `rows` that count for `prompts`, with the answer that they are judged by."""
    asked = responses.asked(prompts.lazy()).select("prompt_id", "answer")
    return collect(rows.join(asked, on="prompt_id"), [responses])


def unfinished(prompts: Prompts, responses: Parts, done: Parts) -> int:
    """Count the wanted responses that `done` says nothing of: neither of this text, nor by this gold answer."""
    return sum(rows.height for _, rows in left(prompts, responses, done))


def left(
    prompts: Prompts, responses: Parts, done: Parts, size: int = WINDOW_BYTES, keys: int = STRETCH
) -> Iterator[tuple[list[Path], pl.DataFrame]]:
    """Give the wanted responses that are not finished, window by window: its parts, and KEY, text_id, answer.

    Windows are cut from all parts, `size` bytes each, so they are the same whatever is done already; one with nothing
    to do is passed over. A shard cuts them from the parts that hold its `prompts`, whatever other shards write
    meanwhile. Some `keys` are held in memory at a time, of neighbouring windows.
    """
    cuts = list(cut(_parts_of(prompts, responses), size))
    read = (collect(_with_text(responses, p).with_columns(window=n), [responses]) for n, p in enumerate(cuts))
    for stretch in stretches(read, keys):
        rows = _without(_counting(pl.concat(stretch).lazy(), prompts, responses), done)
        for (number,), own in rows.sort("window").group_by("window", maintain_order=True):
            yield cuts[number], own.drop("window")


def _without(rows: pl.DataFrame, done: Parts) -> pl.DataFrame:
    """Give those of `rows` that `done` says nothing of."""
    on = [name for name in (*KEY, "text_id", "answer") if name in done.schema]
    finished = done.scan("part").select(on).join(rows.lazy().select(KEY), on=KEY, how="semi")
    return rows.join(collect(finished, [done]), on=on, how="anti", nulls_equal=True)


def stretches(frames: Iterable[pl.DataFrame], rows: int = STRETCH) -> Iterator[list[pl.DataFrame]]:
    """Put neighbouring frames together until they have so many rows."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(each.height for each in held) >= rows:
            yield held
            held = []
    if held:
        yield held


def windows(
    prompts: Prompts, responses: Parts, done: Parts, size: int = WINDOW_BYTES, keys: int = STRETCH
) -> Iterator[pl.DataFrame]:
    """Give the wanted responses of each window with something left to do, with their prompts.

    Columns: those of RESPONSES and `prompts`, and `todo`. Sorted by KEY.
    """
    asked = responses.asked(prompts.lazy())
    for paths, rows in left(prompts, responses, done, size, keys):
        todo = rows.select(*KEY, todo=pl.lit(value=True))
        texts = responses.scan_paths(paths).filter(pl.col("text_id").is_not_null())
        window = collect(texts.join(asked, on="prompt_id"), [responses])
        yield window.join(todo, on=KEY, how="left").with_columns(pl.col("todo").fill_null(value=False)).sort(KEY)


def _parts_of(prompts: Prompts, responses: Parts) -> list[Path]:
    paths = responses.paths("part")
    if responses.shard is None or not paths:
        return paths
    rows = pl.scan_parquet(paths, glob=False, hive_partitioning=False, include_file_paths="path")
    own = rows.select("prompt_id", "path").join(prompts.lazy().select("prompt_id"), on="prompt_id", how="semi")
    held = set(collect(own.select(pl.col("path").unique()), [responses])["path"])
    return [path for path in paths if str(path) in held]


def cut(paths: list[Path], size: int) -> Iterator[list[Path]]:
    """Cut a list of files of a table into runs of about `size` bytes."""
    run: list[Path] = []
    held = 0
    for path, bytes_ in zip(paths, sizes(paths), strict=True):
        run.append(path)
        held += bytes_
        if held >= size:
            yield run
            run, held = [], 0
    if run:
        yield run
