"""One dataset as a folder that hubs, `datasets`, polars and TRL open as it is: Parquet files and a card."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fusedata.store import writing

SHARD_BYTES = 500_000_000
"""Most bytes of data, as held in memory, that go into one file: the hub's advice, which counts them compressed."""
ROW_GROUP_BYTES = 100_000_000
_OPTIONS = {"compression": "zstd", "write_page_index": True, "use_content_defined_chunking": True}
_SLICE = 10_000


@dataclass(frozen=True)
class Written:
    """One split as it lies in a folder: its files with their SHA-256, rows, bytes in memory and on disk."""

    files: Mapping[str, str]
    rows: int
    size: int
    download: int


def write_split(
    folder: Path, split: str, rows: pl.DataFrame, *, shard: int = SHARD_BYTES, row_group: int = ROW_GROUP_BYTES
) -> Written:
    """Write one split, which has a row, as `data/<split>-00000-of-0000N.parquet`. Raises RunError.

    A file holds at most `shard` bytes as held in memory, a row group at most `row_group`, unless one row exceeds them.
    Page index and content-defined chunks are on, so that a hub stores only what changed; the same rows give the same
    bytes.
    """
    with SplitWriter(folder, split, rows.schema, shard=shard, row_group=row_group) as writer:
        writer.write(rows)
    return writer.written


class SplitWriter:
    """Writes a split, as `write_split` does, of which some rows come at a time: nothing where none come.

    Closing it gives the files their names; what is left by an error is no split.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        schema: Mapping[str, pl.DataType],
        *,
        shard: int = SHARD_BYTES,
        row_group: int = ROW_GROUP_BYTES,
    ) -> None:
        """Write nothing yet."""
        self._folder, self._split, self._schema = folder, split, arrow_schema(schema)
        self._shard, self._row_group = shard, min(shard, row_group)
        self._pending: list[pa.Table] = []
        self._files: list[Path] = []
        self._open = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._rows = self._size = self._held = 0
        self._threads = ThreadPoolExecutor(2)
        self._encoded: Future[None] | None = None  # while the next rows are put together
        self._hashed: list[Future[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._threads:
            wait([self._encoded] if self._encoded else [])
            if kind is not None:
                self._open.__exit__(kind, error, trace)  # the file that is open says what went wrong with it
                return
            with self._open:
                self._flush()
                self._wait()
                self._close()
            for one in self._hashed:
                one.result()
        for path, name in zip(self._files, self._names(), strict=True):
            path.rename(self._folder / name)

    def write(self, rows: pl.DataFrame) -> None:
        """Add rows. Raises RunError."""
        for at in range(0, rows.height, _SLICE):  # the offsets of one array of `string` reach no further than 2 GiB
            part = rows[at : at + _SLICE].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._schema)
            self._pending.append(part)
            if sum(table.nbytes for table in self._pending) >= self._row_group:
                self._flush()

    @property
    def written(self) -> Written:
        """What was written."""
        files = {name: one.result() for name, one in zip(self._names(), self._hashed, strict=True)}
        return Written(files, self._rows, self._size, sum((self._folder / name).stat().st_size for name in files))

    def _names(self) -> list[str]:
        count = len(self._files)
        return [f"data/{self._split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]

    def _flush(self) -> None:
        self._wait()
        if self._pending:
            self._encoded = self._threads.submit(self._encode, pa.concat_tables(self._pending))
        self._pending = []

    def _wait(self) -> None:
        if self._encoded:
            self._encoded.result()

    def _encode(self, rows: pa.Table) -> None:
        for group in _pieces(rows, self._row_group):
            if self._writer is None or self._held + group.nbytes > self._shard:
                self._next_file()
            assert self._writer
            self._writer.write_table(group, row_group_size=group.num_rows)
            self._held += group.nbytes
            self._size += group.nbytes
            self._rows += group.num_rows

    def _next_file(self) -> None:
        self._close()
        self._files.append(self._folder / "data" / f"{self._split}-{len(self._files):05d}.parquet")
        file = self._open.enter_context(writing(self._files[-1]))
        options = {**_OPTIONS, "use_dictionary": _repeating(self._schema)}
        self._writer = self._open.enter_context(pq.ParquetWriter(file, self._schema, **options))
        self._held = 0

    def _close(self) -> None:
        """Close the file that is open, and hash it, while the next one is written."""
        if self._files:
            self._hashed.append(self._threads.submit(_hashed, self._open.pop_all(), self._files[-1]))


def _hashed(file: ExitStack, path: Path) -> str:
    file.close()
    return sha256(path)


def _pieces(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Halve a table until each piece has at most `limit` bytes, or one row."""
    if table.nbytes <= limit or table.num_rows == 1:
        yield table
    else:
        half = table.num_rows // 2
        yield from _pieces(table.slice(0, half), limit)
        yield from _pieces(table.slice(half), limit)


def _repeating(schema: pa.Schema) -> list[str]:
    """Name the columns of a Parquet file that are worth a dictionary: all but the texts of turns."""
    turns = [f"{one.name}.list.element.{turn.name}" for one in schema for turn in _turn_fields(one.type)]
    return [*(one.name for one in schema), *(name for name in turns if not name.endswith(".content"))]


def _turn_fields(dtype: pa.DataType) -> list[pa.Field]:
    return list(dtype.value_type) if pa.types.is_list(dtype) and pa.types.is_struct(dtype.value_type) else []


def arrow_schema(schema: Mapping[str, pl.DataType]) -> pa.Schema:
    """Declare a polars schema in the Arrow types that `datasets` reads without a cast."""
    return pa.schema([(name, _arrow(dtype)) for name, dtype in schema.items()])


_ARROW = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Int32: pa.int32(), pl.Float64: pa.float64()}
_ARROW |= {pl.Boolean: pa.bool_()}


def _arrow(dtype: Any) -> pa.DataType:  # noqa: ANN401 - an instance or a class of polars types
    if isinstance(dtype, pl.List):
        return pa.list_(_arrow(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pa.struct([(field.name, _arrow(field.dtype)) for field in dtype.fields])
    return _ARROW[dtype]


def features(schema: Mapping[str, pl.DataType]) -> list[dict[str, object]]:
    """Declare a schema as the `features` of a dataset card."""
    return [_feature(name, _arrow(dtype)) for name, dtype in schema.items()]


def _feature(name: str, dtype: pa.DataType) -> dict[str, object]:
    if pa.types.is_list(dtype):
        fields = [_feature(field.name, field.type) for field in dtype.value_type]
        return {"name": name, "list": fields}
    return {"name": name, "dtype": {"double": "float64"}.get(str(dtype), str(dtype))}


def sums(splits: Iterable[Written]) -> dict[str, str]:
    """Give the SHA-256 of every file of these splits, by name."""
    return dict(sorted(one for split in splits for one in split.files.items()))


def checksums(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its name within; `known` ones are not read again."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: known.get(name) or sha256(path) for name, path in files.items()}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
