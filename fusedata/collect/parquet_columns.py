"""Columns out of Parquet files, in flat memory: batch by batch through pyarrow, or lazily through polars."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fusedata.collect.column_types import MixedTypesError, Types, common, plain, same_fields, words
from fusedata.collect.locate import CorpusFile, Located
from fusedata.errors import CorpusError

_MAGIC = b"PAR1"
_BATCH_BYTES = 64 << 20
_SCAN_BYTES = 256 << 20
_SMALL_GROUP = 20_000


def survey(file: CorpusFile, columns: Sequence[str], types: Types) -> tuple[int, Types]:
    """The file's rows by its footer, and the types known so far made wide enough for its schema.

    Raises CorpusError for a file that is no whole Parquet file or has no rows, and for a column that is
    missing, there twice, or of a type that does not go with the files before.
    """
    with _opened(file) as parquet:
        schema, count = parquet.schema_arrow, parquet.metadata.num_rows
        there = {column: _type(file, schema, column) for column in columns}
    if count == 0:
        raise file.error("it has no rows", do="Fetch it again, or leave it out of the corpus's files.")
    types = dict(types)
    for column, found in there.items():
        known = types.get(column, pl.Null())
        try:
            types[column] = common(known, found)
            fits = same_fields(known, found)
        except MixedTypesError:
            fits = False
        if not fits:
            mixed = f"column {column!r} holds {words(found)} where the files before hold {words(known)}"
            raise file.error(mixed, do="A column must have one type in the whole corpus.")
    return count, types


def has(file: CorpusFile) -> Callable[[str], bool]:
    """Tells of a column, or a path into structs, whether the file has it. Raises CorpusError."""
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
    return lambda column: bool(_fields(schema, column))


def frames(
    file: CorpusFile, types: Types, batch_rows: int, groups: Sequence[int] | None = None
) -> Iterator[pl.DataFrame]:
    """The columns of the file, or of some row `groups`, in the types that `survey` settled for the whole corpus.

    Raises CorpusError for damaged pages and for text that is not UTF-8.
    """
    with _opened(file) as parquet:
        selected = _selected(parquet.schema_arrow, types)
        rows = min(batch_rows, _rows_that_fit(parquet.metadata, types))
        read = [_read(parquet.schema_arrow, column) for column in types]
        for batch in parquet.iter_batches(rows, groups, columns=read):
            batch.validate(full=True)  # polars trusts Arrow text to be UTF-8 and breaks where it is not
            yield pl.DataFrame(batch).select(selected) if types else pl.DataFrame(height=batch.num_rows)


def lazy(files: Sequence[CorpusFile], types: Types, first: int) -> list[pl.LazyFrame]:
    """The columns of the files and `row`, which counts from `first`: a frame for some files that follow each other.

    Within a frame polars begins the next file while it reads one, and all of its files where nobody keeps up. So
    those of a frame have one schema, and their columns about `_SCAN_BYTES` at most.
    """
    frames = []
    for alike in _alike(files, types):
        paths = [one.file.path for one in alike]
        rows = pl.scan_parquet(paths, glob=False, row_index_name="\0row", row_index_offset=first)
        frames.append(rows.select(*_selected(alike[0].arrow, types), pl.col("\0row").cast(pl.Int64).alias("row")))
        first += sum(one.rows for one in alike)
    return frames


class _Footer(NamedTuple):
    file: CorpusFile
    arrow: pa.Schema
    schema: pl.Schema
    rows: int
    size: int
    """Bytes of the columns that are read, in memory."""


def _alike(files: Sequence[CorpusFile], types: Types) -> Iterator[list[_Footer]]:
    held: list[_Footer] = []
    for file in files:
        with _opened(file) as parquet:
            schema, metadata = pl.scan_parquet(file.path, glob=False).collect_schema(), parquet.metadata
            footer = _Footer(file, parquet.schema_arrow, schema, metadata.num_rows, _size(metadata, types))
        if held and (schema != held[0].schema or sum(one.size for one in held) + footer.size > _SCAN_BYTES):
            yield held
            held = []
        held.append(footer)
    yield held


def groups(file: CorpusFile) -> list[tuple[int, int]]:
    """The rows of each row group, and its bytes in the file. Raises CorpusError."""
    with _opened(file) as parquet:
        found = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        return [(group.num_rows, _bytes(group)) for group in found]


def _bytes(group: pq.RowGroupMetaData) -> int:
    return sum(chunk.total_compressed_size for chunk in map(group.column, range(group.num_columns)))


def has_small_groups(file: CorpusFile) -> bool:
    """Whether row groups hold too few rows to be worked on one by one: those of `datasets` often have 1,000."""
    with _opened(file) as parquet:
        return bool(parquet.metadata.num_row_groups * _SMALL_GROUP > parquet.metadata.num_rows)


@contextmanager
def explained(located: Located) -> Iterator[None]:
    """Turn what polars raises while a frame of `read.scan_lazy` is collected into a CorpusError."""
    try:
        yield
    except (pl.exceptions.ComputeError, OSError) as error:
        for file in located.parts():
            _check_whole(file)
        found = " ".join(str(error).split())[:200]
        raise CorpusError(f"Corpus {located.id}: one of its files is damaged ({found}). Fetch it again.") from None


def _check_whole(file: CorpusFile) -> None:
    """Read all of a file. Raises CorpusError where that fails."""
    try:
        pl.scan_parquet(file.path, glob=False).select(pl.all().is_null().sum()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        found = " ".join(str(error).split())[:200]
        raise file.error(f"it is damaged ({found})", do=f"Fetch or write {file.path} again.") from None


@contextmanager
def _opened(file: CorpusFile) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file.path, arrow_extensions_enabled=False, page_checksum_verification=True) as parquet:
            yield parquet
    except pl.exceptions.PolarsError as error:
        raise file.error(f"polars cannot hold its columns ({' '.join(str(error).split())[:200]})") from None
    except (pa.ArrowException, OSError) as error:
        raise file.error(_damage(file, str(error)), do=f"Fetch or write {file.path} again.") from None


def _damage(file: CorpusFile, reported: str) -> str:
    with file.path.open("rb") as stream:
        head = stream.read(len(_MAGIC))
    if head != _MAGIC:
        return "it is not a Parquet file"
    if "UTF8" in reported:
        return "it holds text that is not UTF-8"
    if "magic bytes" in reported or "footer" in reported:
        return "it is cut off: a Parquet file's end is missing"
    return f"it is damaged ({' '.join(reported.split())[:200]})"


def _type(file: CorpusFile, schema: pa.Schema, column: str) -> pl.DataType:
    """The polars type of a column, or of a field at a dotted path into structs and lists of them."""
    found = _fields(schema, column)
    if len(found) != 1:
        there = f"Its columns are {', '.join(schema.names)}."
        raise file.error(f"there is {'more than one' if found else 'no'} column {column!r}", do=there)
    return plain(pl.DataFrame(pa.Table.from_batches([], pa.schema(found))).to_series().dtype)


def _fields(schema: pa.Schema, column: str) -> list[pa.Field]:
    """The fields that a column, or a dotted path, leads to; a path through a list leads to a list."""
    top, *keys = _path(schema, column)
    found = [schema.field(index) for index in schema.get_all_field_indices(top)]
    for key in keys:
        found = [inner for field in found for inner in _inside(field, key)]
    return found


def _inside(field: pa.Field, key: str) -> list[pa.Field]:
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        return [pa.field(one.name, pa.list_(one.type)) for one in _inside(field.type.value_field, key)]
    if not pa.types.is_struct(field.type):
        return []
    return [field.type.field(index) for index in field.type.get_all_field_indices(key)]


def _path(schema: pa.Schema, column: str) -> list[str]:
    return [column] if column in schema.names else column.split(".")


def _read(schema: pa.Schema, column: str) -> str:
    """What is read for a column: a path into structs as it is, one through a list up to the list."""
    keys = _path(schema, column)
    paths = (".".join(keys[: count + 1]) for count in range(len(keys)))
    return next((path for path in paths if not pa.types.is_struct(_fields(schema, path)[0].type)), column)


def _selected(schema: pa.Schema, types: Types) -> list[pl.Expr]:
    """Each column, or field at a dotted path, in its type and under the name it was asked for by."""
    found = []
    for column, dtype in types.items():
        top, *keys = _path(schema, column)
        found.append(_at(pl.col(top), schema.field(top).type, keys).cast(dtype).alias(column))
    return found


def _at(value: pl.Expr, kind: pa.DataType, keys: Sequence[str]) -> pl.Expr:
    """The value at a path of keys, element by element in lists."""
    if not keys:
        return value
    if not pa.types.is_struct(kind):
        return value.list.eval(_at(pl.element(), kind.value_type, keys))
    return _at(value.struct.field(keys[0]), kind.field(keys[0]).type, keys[1:])


def _rows_that_fit(metadata: pq.FileMetaData, types: Types) -> int:
    """How many rows of these columns take about 64 MB in memory."""
    rows: int = metadata.num_rows
    return max(1, _BATCH_BYTES * rows // max(_size(metadata, types), 1))


def _size(metadata: pq.FileMetaData, types: Types) -> int:
    """Bytes that these columns take in memory, by the sizes in the footer."""
    tops = {column.split(".")[0] for column in types}
    size = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        size += sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in tops)
    return size
