"""Rows out of a corpus's files: Parquet, JSON lines and JSON arrays as one stream of polars frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from fusedata.collect import json_columns, parquet_columns
from fusedata.collect.column_types import Types
from fusedata.collect.locate import SUFFIXES, CorpusFile, Located
from fusedata.errors import CorpusError

_OURS = ("file", "row")
_POINTER = b"version https://git-lfs"


class Span(NamedTuple):
    """Rows of one file that are read together."""

    first: int
    """The row of the corpus that the file's first one is."""
    start: int
    """The first of them, by its place in the file."""
    rows: int
    groups: tuple[int, ...] | None = None
    """The row groups of a Parquet file that hold just them; None: they are the whole file."""


class Part(NamedTuple):
    """What is known of a corpus before some rows of it, of one file, are read apart from the others."""

    names: dict[str, str]
    """The columns of the recipe, each with the name that it has in the corpus."""
    types: Types
    """Of the latter, in the whole corpus."""
    span: Span


def scan(
    located: Located, columns: Sequence[str], *, batch_rows: int = 50_000, part: Part | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of the corpus in file order, in frames of at most `batch_rows` rows and of bounded size.

    Each frame has the `columns` by the names given (a dotted one is a path into structs: "config.model"),
    then `file` (String, the name within the corpus) and `row` (Int64, from 0 over the whole corpus). A column
    has one type in all frames: whole numbers beside decimals are Float64, a key that some JSON rows lack is null,
    and so is a column that is null throughout (type Null).

    All files are checked, and JSON files read through once for their types, before this returns; unless it is but a
    `part`, of the one file of `located`.
    Raises CorpusError then for a file that is missing, empty, damaged or of a foreign format, and for a column
    that is missing, asked for twice or of mixed types; while iterating, for damage inside a Parquet file.
    """
    spans, types = ([part.span], part.types) if part else survey(located, columns, batch_rows)
    return _frames(located, spans, types, batch_rows)


def scan_lazy(located: Located, columns: Sequence[str], part: Part | None = None) -> list[pl.LazyFrame] | None:
    """What `scan` gives but for `file`, as lazy frames for polars to read; None unless every file is Parquet.

    Files are checked as `scan` does, with the same CorpusError. Damage inside a file shows only when the
    frame is collected, as an exception of polars: collect it inside `parquet_columns.explained(located)`.
    """
    if not all(is_parquet(name) for name in located.names):
        return None
    if part is None:
        _, types = survey(located, columns)
        return parquet_columns.lazy(located.parts(), types, 0)
    first, start, rows, groups = part.span
    (frame,) = parquet_columns.lazy(located.parts(), part.types, first)
    return [frame if groups is None else frame.slice(start, rows)]


def named(located: Located, older: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The name that each column of `older` has in this corpus: its own, else the first of the older ones.

    Looked up in the first file, in a JSON file's first rows; a column that is not there keeps its own name.
    Raises CorpusError.
    """
    if not older:
        return {}
    _check_asked(located, ())
    file = located.parts()[0]
    _check_file(file)
    there = (parquet_columns if is_parquet(file.name) else json_columns).has(file)
    return {column: next(filter(there, (column, *names)), column) for column, names in older.items()}


def is_parquet(name: str) -> bool:
    """Whether a file of this name holds Parquet."""
    return name.endswith(".parquet")


def survey(located: Located, columns: Sequence[str], batch_rows: int = 50_000) -> tuple[list[Span], Types]:
    """The rows of each file and the one type of each column; every error that shows before rows are read."""
    _check_asked(located, columns)
    types: Types = {}
    spans: list[Span] = []
    first = 0
    for file in located.parts():
        _check_file(file)
        if is_parquet(file.name):
            count, types = parquet_columns.survey(file, columns, types)
        else:
            count, types = json_columns.survey(file, columns, types, batch_rows)
        spans.append(Span(first, 0, count))
        first += count
    for column in columns:  # Parquet files have each column or were refused; JSON rows lack what none of them has
        if column not in types:
            raise json_columns.lacks(next(file for file in located.parts() if not is_parquet(file.name)), column)
    return spans, {column: types[column] for column in columns}


def cut(file: CorpusFile, span: Span, size: int) -> Iterator[Span]:
    """Cut the rows of a whole file into spans of about `size` bytes of it, a JSON file into one. Raises CorpusError."""
    if not is_parquet(file.name):
        yield span
        return
    held: list[int] = []
    start = rows = taken = 0
    groups = parquet_columns.groups(file)
    for number, (count, bytes_) in enumerate(groups):
        held.append(number)
        rows, taken = rows + count, taken + bytes_
        if taken >= size or number == len(groups) - 1:
            yield Span(span.first, start, rows, tuple(held))
            start, held, rows, taken = start + rows, [], 0, 0


def _frames(located: Located, spans: Sequence[Span], types: Types, batch_rows: int) -> Iterator[pl.DataFrame]:
    for file, span in zip(located.parts(), spans, strict=True):
        at = span.first + span.start
        for frame in _frames_of(file, span, types, batch_rows):
            row = pl.int_range(at, at + len(frame), dtype=pl.Int64)
            yield frame.with_columns(pl.lit(file.name, pl.String).alias("file"), row.alias("row"))
            at += len(frame)


def _frames_of(file: CorpusFile, span: Span, types: Types, batch_rows: int) -> Iterator[pl.DataFrame]:
    if is_parquet(file.name):
        return parquet_columns.frames(file, types, batch_rows, span.groups)
    return json_columns.frames(file, types, batch_rows)


def _check_asked(located: Located, columns: Sequence[str]) -> None:
    if not located.files:
        raise CorpusError(f"Corpus {located.id} has no files to read.")
    if twice := [column for column in columns if list(columns).count(column) > 1]:
        raise CorpusError(f"Corpus {located.id}: the column {twice[0]!r} is asked for twice. Name it once.")
    if taken := sorted(set(columns) & set(_OURS)):
        raise CorpusError(f"Corpus {located.id}: a column {taken[0]!r} cannot be read: fusedata adds its own.")


def _check_file(file: CorpusFile) -> None:
    if file.path.is_dir():
        raise file.error("it is a folder, not a file", do="Set the corpus's path or files to the files in it.")
    if not file.name.endswith(SUFFIXES):
        raise file.error("its ending is not one that can be read", do=f"Readable are {', '.join(SUFFIXES)}.")
    try:
        with file.path.open("rb") as stream:
            head = stream.read(len(_POINTER))
    except FileNotFoundError:
        raise file.error(f"it is not at {file.path}", do="Fetch it again, or correct the path.") from None
    except OSError as error:
        raise file.error(f"it cannot be opened ({error})", do="Check its permissions.") from None
    if not head:
        raise file.error("it is empty (0 bytes)", do=f"Fetch or write {file.path} again.")
    if head == _POINTER:
        raise file.error("it is a Git LFS pointer, not the data", do="Run `git lfs pull` in its folder.")
