"""One dataset as a folder that hubs, `datasets`, polars and TRL open as it is: Parquet files and a card."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """One split as it lies in a folder: file names, rows, bytes in memory and on disk."""

    files: tuple[str, ...]
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
    table = _table(rows)
    shards = list(_pieces(table, shard))
    files = tuple(f"data/{split}-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards)))
    for name, part in zip(files, shards, strict=True):
        with writing(folder / name) as file, pq.ParquetWriter(file, table.schema, **_OPTIONS) as writer:
            for group in _pieces(part, row_group):
                writer.write_table(group, row_group_size=group.num_rows)
    return Written(files, rows.height, table.nbytes, sum((folder / name).stat().st_size for name in files))


def _table(rows: pl.DataFrame) -> pa.Table:
    """Cast in slices: the offsets of one array of `string` reach no further than 2 GiB."""
    schema = arrow_schema(rows.schema)
    slices = rows.iter_slices(_SLICE)
    return pa.concat_tables([part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema) for part in slices])


def _pieces(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Halve a table until each piece has at most `limit` bytes, or one row."""
    if table.nbytes <= limit or table.num_rows == 1:
        yield table
    else:
        half = table.num_rows // 2
        yield from _pieces(table.slice(0, half), limit)
        yield from _pieces(table.slice(half), limit)


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


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its name within."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
