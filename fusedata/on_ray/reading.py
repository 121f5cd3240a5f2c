"""What runs in the readers of a cluster: they turn places in a plan, or parts of responses, into pieces of work.

A reader holds the texts of one slice at a time, and reads on as workers take its pieces: none goes through the driver.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from fusedata.errors import FusedataError
from fusedata.on_ray.workers import Place, failure, work
from fusedata.plan import windows
from fusedata.storage import place
from fusedata.store import Parts, collect

if TYPE_CHECKING:
    from fusedata.sample.plan import Plan


@dataclass(frozen=True)
class Reader:
    """Reads slices, and gives their pieces of work; an error of ours is a piece of its own."""

    seen: Place
    prompts: Parts
    doing: str

    def __call__(self, slices: pa.Table) -> Iterator[pa.Table]:
        """Read some slices, a row each."""
        for row in slices.to_pylist():
            try:
                with self.seen.begun(f"{self.doing}: reading what is to do", row):
                    yield from self.pieces(row)
            except FusedataError as error:
                yield pa.table({"table": [0], "rows": [b""], **failure(error)})

    def pieces(self, row: dict[str, Any]) -> Iterator[pa.Table]:
        """Give the pieces of one slice. Raises FusedataError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Drawing(Reader):
    """How planned batches become requests: a slice is (first, end), places among the batches to draw."""

    plan: Any
    """A reference to the plan, in the cluster's object store."""
    batches: int
    """Planned batches a piece."""

    def pieces(self, row: dict[str, Any]) -> Iterator[pa.Table]:
        """Give the requests of a slice, those with the longest prompts first."""
        import ray

        plan: Plan = ray.get(self.plan)
        batches = plan.batches[row["first"] : row["end"]]
        rows, samples, numbers = plan.rows(batches)
        asked = pl.DataFrame({"row": rows, "sample": samples, "batch": numbers})
        texts = self.prompts.scan(first=0).select("row", "prompt_id", "messages")
        held = collect(texts.join(asked.lazy().select("row").unique(), on="row", how="semi"), [self.prompts])
        requests = asked.join(held, on="row", how="left", maintain_order="left").drop("row")
        for start in reversed(range(0, len(batches), self.batches)):
            first, *_, last = [batches[start], *batches[start : start + self.batches]]
            begin, end = numbers.searchsorted([first, last + 1])
            yield work(0, requests[int(begin) : int(end)])


@dataclass(frozen=True)
class Piece(Parts):
    """Some of the parts of a table."""

    only: tuple[Path, ...] = ()

    def paths(self, kind: str = "*") -> list[Path]:
        """List the parts of this piece; all of them are finished ones."""
        return [] if kind == "failed" else list(self.only)


def piece(table: Parts, paths: Iterable[Path]) -> Piece:
    """Give some of the parts of a table."""
    return Piece(**{field.name: getattr(table, field.name) for field in fields(Parts)}, only=tuple(paths))


@dataclass(frozen=True)
class Reading(Reader):
    """How windows of responses become batches: a slice is (table, paths), the parts of neighbouring windows."""

    columns: Callable[[pl.LazyFrame], pl.LazyFrame]
    """What a batch holds of PROMPTS."""
    tables: tuple[tuple[Parts, Piece], ...]
    """RESPONSES, and what was known of them when the stage began, of each source."""
    cut: Callable[[pl.DataFrame], Iterator[pl.DataFrame]]
    """How a window becomes batches."""
    batches: int
    """Batches a piece."""

    def pieces(self, row: dict[str, Any]) -> Iterator[pa.Table]:
        """Give the batches of a slice in which something is left to do."""
        table, done = self.tables[row["table"]]
        responses = piece(table, [place(path) for path in row["paths"]])
        asked = responses.scan("part").select("prompt_id").unique()
        prompts = collect(self.columns(self.prompts.scan()).join(asked, on="prompt_id", how="semi"), [self.prompts])
        held: list[pl.DataFrame] = []
        for batch in (batch for window in windows(prompts, responses, done) for batch in self.cut(window)):
            held.append(batch.with_columns(batch=pl.lit(len(held))))
            if len(held) == self.batches:
                yield work(row["table"], pl.concat(held))
                held = []
        if held:
            yield work(row["table"], pl.concat(held))
