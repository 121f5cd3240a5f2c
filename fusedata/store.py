"""Run folders: one table a stage, in parts that are whole or not there.

    RUN/run.json                            the recipe in force and, for each table, its fingerprint and what it covers
    RUN/<stage>/<fingerprint>/part-*.parquet    finished rows
    RUN/<stage>/<fingerprint>/failed-*.parquet  rows that failed: taken up again by the next build
    RUN/dataset/{sft,dpo}                   what is published

A part is written beside its name, flushed to disk, then renamed. What a changed recipe makes stale is left where it
is, under its old fingerprint: going back to the old recipe finds it again.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import polars as pl

from fusedata.errors import RunError
from fusedata.schema import KEY, PROMPTS, fingerprint
from fusedata.shards import Shard, Writer
from fusedata.storage import failures, is_url, put_part, scan, unwritable, uploading, uploading_folder

State = dict[str, Any]
F = TypeVar("F", pl.DataFrame, pl.LazyFrame)
T = TypeVar("T")
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True)
class Parts:
    """One table of a run: a folder of Parquet parts of one schema."""

    folder: Path
    schema: pl.Schema
    samples: int | None = None
    """Read samples below this number only: an earlier build may have drawn more; None: all."""
    corpus: str | None = None
    """The corpus that carries these responses; None: a source model was asked for them."""
    shard: Shard | None = None
    """Write beside other shards, and leave alone the failed rows that they write; None: the whole table."""

    def write(self, name: str, frame: pl.DataFrame, *, failed: bool = False) -> None:
        """Write one part, whole or not at all; a part of the same name is replaced. Raises RunError."""
        kind = (f"failed-{self.shard.tag}" if self.shard else "failed") if failed else "part"
        path = self.folder / f"{kind}-{name}.parquet"
        if is_url(path):
            put_part(path, frame.select(self.schema.names()).cast(self.schema), self._same_by())
            return
        with writing(path) as file:
            frame.select(self.schema.names()).cast(self.schema).write_parquet(file)

    def _same_by(self) -> list[str]:
        """Columns by which rows of one part's name are the same; of responses the keys: texts may differ by chance."""
        judged = () if "text" in self.schema else ("text_id", "answer")
        return [name for name in (*KEY, *judged) if name in self.schema]

    def write_rows(self, name: str, frame: pl.DataFrame, *, failed: pl.Expr) -> None:
        """Write one batch: its finished rows, and those that `failed` and are to be tried again, as separate parts."""
        for part, is_failed in ((frame.filter(~failed), False), (frame.filter(failed), True)):
            if part.height:
                self.write(name, part, failed=is_failed)

    def paths(self, kind: str = "*") -> list[Path]:
        """List the parts (`part`, `failed`, or both) by name."""
        paths = self.folder.glob(f"{kind}-*.parquet")
        return sorted(path for path in paths if not (self.shard and self.shard.is_foreign(path.name)))

    def scan(self, kind: str = "*", *, first: int | None = None) -> pl.LazyFrame:
        """Read the parts lazily; an empty table where there are none. `first`: with `row`, which counts from there."""
        return self.scan_paths(self.paths(kind), first=first)

    def scan_paths(self, paths: Sequence[Path], *, first: int | None = None) -> pl.LazyFrame:
        """Read these parts of the table lazily."""
        row = {} if first is None else {"row": pl.UInt32()}
        rows = self.read(paths, first=first) if paths else pl.LazyFrame(schema={**row, **self.schema})
        return rows if self.samples is None else rows.filter(pl.col("sample") < self.samples)

    def read(self, paths: Sequence[Path], *, first: int | None = None) -> pl.LazyFrame:
        """Read these parts lazily, whatever is in the names of the folders above: no pattern, no `key=value`."""
        options: Any = {"glob": False, "hive_partitioning": False, "row_index_offset": first or 0}
        row = None if first is None else "row"
        return scan(paths, schema=self.schema, row_index_name=row, **options)

    def height(self, paths: Sequence[Path]) -> int:
        """Count all rows that these parts hold, whatever sample they are of. Raises RunError."""
        return count(self.read(paths), self) if paths else 0

    def asked(self, prompts: F) -> F:
        """Give the prompts whose responses count here: those of the corpus that carries them, or those sampled.

        The table may hold more: what another cut of the corpora, or a recipe of before, wanted.
        """
        if self.corpus is not None:
            return prompts.filter(corpus=self.corpus)
        return prompts if self.samples is None else prompts.filter("sampled")

    def done(self) -> pl.DataFrame:
        """Keys of the finished rows."""
        return collect(self.scan("part").select(KEY), [self])

    def forget_failed(self) -> None:
        """Remove the rows that failed: they are about to be tried again."""
        for path in self.paths("failed"):
            path.unlink(missing_ok=True)  # another shard removes what was left by a build in other shards, too


def collect(frame: pl.LazyFrame, tables: Sequence[Parts]) -> pl.DataFrame:
    """Collect a query over `tables` or a dataset, streaming. Raises RunError naming the part that cannot be read."""
    return _readable(lambda: frame.collect(engine="streaming"), tables)


def _readable(read: Callable[[], T], tables: Sequence[Parts]) -> T:
    try:
        return read()
    except _UNREADABLE as error:
        for table in tables:
            _check_parts(table)
        what = "The run's tables" if tables else "The dataset"
        raise RunError(f"{what} cannot be read: {first_line(error)}.") from error


def batches(
    frame: pl.LazyFrame, tables: Sequence[Parts], together: int | None = None, *, in_order: bool = False
) -> Iterator[pl.DataFrame]:
    """Collect a query over `tables`, some rows at a time. Raises RunError as `collect`.

    `together` are at least so many, but for the last ones; None: as they lie.
    """
    found = frame.collect_batches(chunk_size=together, engine="streaming", maintain_order=in_order)
    while (batch := _readable(lambda: next(found, None), tables)) is not None:
        yield batch


def compact(rows: pl.DataFrame) -> pl.DataFrame:
    """Copy the texts: as polars filters them, they keep all that they were read with."""
    copied = pl.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(copied, pl.DataFrame)
    return copied


def count(frame: pl.LazyFrame, *tables: Parts) -> int:
    """Count the rows of a query over `tables`. Raises RunError."""
    return int(collect(frame.select(pl.len()), tables).item())


def _check_parts(table: Parts) -> None:
    for path in table.paths():
        try:
            table.read([path]).collect(engine="streaming")
        except _UNREADABLE as error:
            remedy = "delete it and build again: only its rows are made anew"
            raise RunError(f"{path}: this part cannot be read ({first_line(error)}); {remedy}.") from error


def first_line(error: BaseException) -> str:
    """Give the first line of what another library says of its error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its name, flush it to disk, then rename it. Raises RunError, leaving nothing half-written."""
    if is_url(path):
        with uploading(path) as upload:
            yield upload
        return
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _flush_folder(path.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_REBUILD = "remove it and build with the same recipe again: finished tables are found again"


@dataclass
class Run:
    """A run folder: what it was built from, and its tables."""

    root: Path
    state: State = field(default_factory=dict)
    shard: Shard | None = None
    """What of it is built; None: the whole."""
    writer: Writer | None = field(default=None, compare=False)
    """None: it is only read."""

    def parts(self, stage: str, label: str, schema: pl.Schema) -> Parts:
        """Give the table of `stage` that is in force for `label` (a source of responses, or ""). Raises RunError."""
        entry = self.state.get("tables", {}).get(stage, {}).get(label)
        if entry is None:
            raise RunError(f"{self.root}: has no table {stage}{f' of {label}' if label else ''} yet; build it first.")
        counts = entry.get("samples"), entry.get("corpus")
        return Parts(self.root / stage / entry["fingerprint"], schema, *counts, self.shard)

    def labels(self, stage: str) -> list[str]:
        """List the sources that `stage` has tables of, in the recipe's order."""
        return list(self.state.get("tables", {}).get(stage, {}))

    def begin(self, state: State) -> None:
        """Put `state` in force."""
        self.state = state
        self.save()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold run.json while its state is changed: shards do so one after another. Raises RunError."""
        with self.writer.turn() if self.writer else contextlib.nullcontext():
            if self.shard:
                self.state = read_run(self.root).state
            yield

    def save(self) -> None:
        """Write run.json."""
        with writing(self.root / "run.json") as file:
            file.write(json.dumps(self.state, indent=2).encode() + b"\n")


def read_prompts(run: Run) -> pl.DataFrame:
    """Read PROMPTS of a run, sorted by prompt_id. Raises RunError."""
    parts = run.parts("prompts", "", PROMPTS)
    return collect(parts.scan(), [parts]).sort("prompt_id")


def entry(identity: Mapping[str, object]) -> State:
    """Give the record of a table in run.json: its fingerprint, and what that covers."""
    return {"fingerprint": fingerprint(identity), "identity": dict(identity)}


def read_run(root: Path) -> Run:
    """Open a run folder for reading. Raises RunError where there is none."""
    path = root / "run.json"
    try:
        state = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        remedy = "name one that `fusedata build` wrote"
        raise RunError(f"{root}: is not a run folder (it has no run.json); {remedy}.") from error
    except failures() as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise RunError(f"{path}: cannot be read ({why}).") from error
    except ValueError as error:
        raise RunError(f"{path}: is broken ({first_line(error)}); {_REBUILD}.") from error
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in ("recipe", "tables")):
        raise RunError(f"{path}: does not tell recipe and tables; {_REBUILD}.")
    return Run(root, state)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Fill a folder beside `folder`, then put it in its place. Raises RunError; a failure leaves the old one."""
    if is_url(folder):
        with uploading_folder(folder) as local:
            yield local
        return
    beside, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        _put_back(old, folder)  # an earlier process was killed between the two renames
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
        _flush_folder(folder.parent)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        _put_back(old, folder)
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _put_back(old: Path, folder: Path) -> None:
    if old.exists() and not folder.exists():
        old.rename(folder)
