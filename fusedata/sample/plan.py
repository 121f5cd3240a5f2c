"""Which samples of a source model are missing, and in which batches they are drawn: by places, not by keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusedata.plan import WINDOW_BYTES, cut, stretches
from fusedata.store import Parts, collect

Batches = NDArray[np.int64]
"""Numbers of batches, ascending."""


@dataclass(frozen=True)
class Plan:
    """The samples that are wanted, prompt by prompt in order of length, and which of them are missing.

    It takes four bytes a prompt and one a sample, so a process can hold it for as long as a stage runs. Batches are cut
    from all wanted samples, never from what is missing: an engine that is deterministic for a batch gives the same
    texts to a build that was interrupted and to one that was not.
    """

    order: NDArray[np.uint32]
    """Rows of the prompts, in order of their length."""
    is_missing: NDArray[np.bool_]
    """Of every sample of each of those, in the same order."""
    samples: int
    batch_size: int

    @cached_property
    def missing(self) -> int:
        """How many samples are missing."""
        return int(np.count_nonzero(self.is_missing))

    @cached_property
    def batches(self) -> Batches:
        """The batches in which something is missing."""
        starts = np.arange(0, len(self.is_missing), self.batch_size)
        return np.flatnonzero(np.logical_or.reduceat(self.is_missing, starts)) if len(starts) else starts

    def rows(self, batches: Batches) -> tuple[NDArray[np.uint32], NDArray[np.int32], Batches]:
        """Give what is missing in some neighbouring `batches`: row of the prompt, sample and batch of each."""
        start, end = batches[0] * self.batch_size, (batches[-1] + 1) * self.batch_size
        places = start + np.flatnonzero(self.is_missing[start:end])
        prompts, samples = np.divmod(places, self.samples)
        return self.order[prompts], samples.astype(np.int32), places // self.batch_size


def planned(
    prompts: pl.DataFrame, source_model: str, samples: int, batch_size: int, parts: Parts, kind: str = "part"
) -> Plan:
    """Plan what `parts` lacks of the `samples` of each of `prompts` (prompt_id, sampled, chars) that is sampled.

    Rows are numbered by the column `row`, where there is one. What is in parts of this `kind` is not missing. Raises
    RunError.
    """
    rows = prompts if "row" in prompts.columns else prompts.with_row_index("row")
    wanted = rows.lazy().filter("sampled").select("row", "chars", "prompt_id").sort("chars", "prompt_id").collect()
    order, ids = wanted["row"].to_numpy(), wanted.select("prompt_id").with_row_index("place")
    is_missing = np.ones(len(order) * samples, np.bool_)
    for keys in _held(source_model, samples, parts, kind):
        found = keys.join(ids, on="prompt_id")
        is_missing[found["place"].to_numpy().astype(np.int64) * samples + found["sample"].to_numpy()] = False
    return Plan(order, is_missing, samples, batch_size)


def _held(source_model: str, samples: int, parts: Parts, kind: str) -> Iterator[pl.DataFrame]:
    """Give the keys of a table, some parts at a time."""
    held = (pl.col("source_model") == source_model) & (pl.col("sample") < samples)
    frames = (
        collect(parts.scan_paths(paths).filter(held).select("prompt_id", "sample"), [parts])
        for paths in cut(parts.paths(kind), WINDOW_BYTES)
    )
    for stretch in stretches(frames):
        yield pl.concat(stretch)
