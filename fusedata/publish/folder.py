"""One dataset as a folder that hubs, `datasets`, polars and TRL open as it is: Parquet files and a card."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fusedata.store import writing

SHARD_BYTES = 500_000_000
"""Most bytes of data, as held in memory, that go into one file: the hub's advice, which counts them compressed."""
_ROW_GROUP_BYTES = 100_000_000
_OPTIONS = {"compression": "zstd", "write_page_index": True, "use_content_defined_chunking": True}


@dataclass(frozen=True)
class Written:
    """One split as it lies in a folder: file names, rows, bytes in memory and on disk."""

    files: tuple[str, ...]
    rows: int
    size: int
    download: int


def write_split(folder: Path, split: str, rows: pl.DataFrame) -> Written:
    """Write one split as `data/<split>-00000-of-0000N.parquet`. Raises RunError.

    Page index and content-defined chunks are on, so that a hub stores only what changed; the same rows give the same
    bytes.
    """
    table = (
        rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow_schema(rows.schema)).combine_chunks()
    )
    shards = max(1, -(-table.nbytes // SHARD_BYTES))
    size = max(1, -(-rows.height // shards))
    group = max(1, rows.height * _ROW_GROUP_BYTES // max(1, table.nbytes))
    files = tuple(f"data/{split}-{number:05d}-of-{shards:05d}.parquet" for number in range(shards))
    for number, name in enumerate(files):
        with writing(folder / name) as file:
            pq.write_table(table.slice(number * size, size), file, row_group_size=group, **_OPTIONS)
    return Written(files, rows.height, table.nbytes, sum((folder / name).stat().st_size for name in files))


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
    return _ARROW[type(dtype)]


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
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
