"""Columns out of JSON files: one pass that learns their types, one that reads them; never the whole schema."""

from collections.abc import Callable, Iterator, Sequence

import polars as pl
import pyarrow as pa

from fusedata.collect.column_types import MixedTypesError, Types, common, infer, words
from fusedata.collect.json_rows import JsonBatch, batches
from fusedata.collect.locate import CorpusFile
from fusedata.errors import CorpusError

_MISSING = object()
_FIRST_ROWS = 1000


def survey(file: CorpusFile, columns: Sequence[str], types: Types, batch_rows: int) -> tuple[int, Types]:
    """One pass over the file: its rows, and the types known so far made wide enough for it.

    A column that no row has is not added. Raises CorpusError for a damaged file and for values of mixed types.
    """
    types = dict(types)
    count = 0
    for batch in batches(file, batch_rows):
        count += len(batch.objects)
        for column in columns:
            values = _values(file, batch, column)
            if any(value is not _MISSING for value in values):
                known = types.get(column, pl.Null())
                types[column] = _widened(file, batch, column, known, _present(values))
    return count, types


def has(file: CorpusFile) -> Callable[[str], bool]:
    """Tells of a column, or a path into objects, whether one of the file's first rows has it. Raises CorpusError."""
    first = next(batches(file, _FIRST_ROWS))
    return lambda column: any(value is not _MISSING for value in _values(file, first, column))


def frames(file: CorpusFile, types: Types, batch_rows: int) -> Iterator[pl.DataFrame]:
    """The columns of the file, in the types that `survey` settled for the whole corpus."""
    arrow = {column: pl.Series(dtype=dtype).to_arrow().type for column, dtype in types.items()}
    for batch in batches(file, batch_rows):
        series = {column: _series(file, batch, column, types[column], kind) for column, kind in arrow.items()}
        yield pl.DataFrame(series or None, height=len(batch.objects))


def lacks(file: CorpusFile, column: str) -> CorpusError:
    """The error for a column that no row has; it lists the first row's."""
    there = next(batches(file, 1)).objects[0]
    return file.error(f"there is no column {column!r}", do=f"Its columns are {', '.join(there)}.")


def _series(file: CorpusFile, batch: JsonBatch, column: str, dtype: pl.DataType, kind: pa.DataType) -> pl.Series:
    values = _present(_values(file, batch, column))
    try:  # pyarrow builds nested values by the declared type; polars would infer it from the first of them
        return pl.Series(column, pa.array(values, type=kind), dtype=dtype)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        found = f"column {column!r} does not hold {words(dtype)} ({error})"
        raise file.error(found, at=f"{batch.places[0]} to {batch.places[-1]}") from None


def _values(file: CorpusFile, batch: JsonBatch, column: str) -> list[object]:
    """The column's value in each row, `_MISSING` where the key is not there."""
    if "." not in column:
        return [row.get(column, _MISSING) for row in batch.objects]
    return [_dig(file, place, row, column) for place, row in zip(batch.places, batch.objects, strict=True)]


def _dig(file: CorpusFile, place: str, row: dict[str, object], column: str) -> object:
    """The value at a dotted path; a key that is spelt with the dots comes first."""
    if column in row:
        return row[column]
    return _at(file, place, row, column, column.split("."))


def _at(file: CorpusFile, place: str, value: object, column: str, keys: Sequence[str]) -> object:
    """The value at a path of keys, element by element in lists."""
    if value is None or value is _MISSING or not keys:
        return value
    if isinstance(value, list):
        return _present([_at(file, place, one, column, keys) for one in value])
    if not isinstance(value, dict):
        raise file.error(f"the path {column!r} leads into {value!r:.60}, which is no object", at=place)
    return _at(file, place, value.get(keys[0], _MISSING), column, keys[1:])


def _present(values: list[object]) -> list[object]:
    return [None if value is _MISSING else value for value in values]


def _widened(file: CorpusFile, batch: JsonBatch, column: str, known: pl.DataType, values: list[object]) -> pl.DataType:
    """The type that holds what is known and these values; the first row that does not fit is the error's."""
    try:
        return common(known, infer(values))
    except MixedTypesError:
        for place, value in zip(batch.places, values, strict=True):
            try:
                known = common(known, infer([value]))
            except MixedTypesError:
                found = f"column {column!r} holds {repr(value)[:60]} where the rows before hold {words(known)}"
                raise file.error(found, at=place, do="A column must have one type in the whole corpus.") from None
        raise  # not reached: values that fit one by one fit together
