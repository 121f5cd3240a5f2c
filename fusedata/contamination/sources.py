"""Benchmarks on this disk: found in a folder or on a hub, and their texts read. What cannot be had has a reason."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from fusedata.collect import json_columns, parquet_columns
from fusedata.collect.locate import CorpusFile, Located, locate
from fusedata.collect.read import scan
from fusedata.contamination.benchmarks import BENCHMARKS, NAMES, Benchmark, Source
from fusedata.contamination.overlap import Item
from fusedata.errors import CorpusError, FusedataError, HubError
from fusedata.store import first_line

Hub = Literal["huggingface", "modelscope"]
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Held:
    """A benchmark whose files are on this disk."""

    benchmark: Benchmark
    located: tuple[tuple[Source, Located], ...]

    @property
    def revision(self) -> str:
        """The exact state of its files: one a dataset."""
        return " ".join(located.revision for _, located in self.located)


@dataclass(frozen=True)
class Places:
    """Where benchmarks are looked for, in this order; `none` says why in no place at all.

    `revisions` pins datasets on the hub, by their ids there, beside those that `benchmarks` pins.
    """

    folder: Path | None = None
    """Files in a hub's layout (`org__name/…`), or plain ones by the names that `benchmarks` lists."""
    hub: Hub | None = None
    none: str = ""
    revisions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shelf:
    """The benchmarks that could be had, why the others could not, and where they were looked for."""

    held: tuple[Held, ...]
    unchecked: dict[str, str]
    places: Places = Places()

    def revisions(self) -> dict[str, str]:
        """Give the exact state of each benchmark that is held."""
        return {held.benchmark.name: held.revision for held in self.held}


def commits(revisions: Mapping[str, str]) -> dict[str, str]:
    """Give the commits that `Shelf.revisions` tells of benchmarks, by the ids of their datasets on the hub."""
    return {
        source.hub: state
        for benchmark in BENCHMARKS
        for source, state in zip(benchmark.sources, revisions.get(benchmark.name, "").split(), strict=False)
        if source.hub and _COMMIT.fullmatch(state)
    }


def find_benchmarks(names: Sequence[str], places: Places) -> Shelf:
    """Find the benchmarks of these names; none: all that are known. Nothing is an error: what is missing is told.

    A hub that could not be reached once is not asked again.
    """
    held: list[Held] = []
    asked = places
    unknown = f"no benchmark of this name is known; there are {', '.join(NAMES)}"
    unchecked = dict.fromkeys([name for name in names if name not in NAMES], unknown)
    for benchmark in [known for known in BENCHMARKS if not names or known.name in names]:
        try:
            located = tuple((source, _located(benchmark, source, places)) for source in benchmark.sources)
        except FusedataError as error:
            unchecked[benchmark.name] = _reason(benchmark, error)
            if isinstance(error, HubError) and "could not be reached" in str(error):
                places = replace(places, hub=None, none="not asked: the hub could not be reached")
        else:
            held.append(Held(benchmark, located))
    return Shelf(tuple(held), unchecked, asked)


def _reason(benchmark: Benchmark, error: FusedataError) -> str:
    """Why a benchmark could not be had, as the end of a sentence."""
    terms = "it is gated: accept its terms on the hub, and log in; " if benchmark.gated else ""
    return (terms if isinstance(error, HubError) else "") + first_line(error)


def _located(benchmark: Benchmark, source: Source, places: Places) -> Located:
    """Find one dataset. Raises CorpusError, HubError, MissingExtraError."""
    if path := _in_folder(source, places.folder):
        return locate(benchmark.name, files=source.files if path.is_dir() else (), split=source.split, path=path)
    if places.hub is None:
        raise CorpusError(places.none or "not in the folder of benchmarks")
    if source.hub is None:
        raise CorpusError(f"it is on no hub: put a copy of {benchmark.where} into the folder of benchmarks")
    if places.hub == "modelscope" and source.modelscope is None:
        raise CorpusError(f"no copy of {source.hub} on ModelScope is known")
    name, pinned = (source.hub, source.revision) if places.hub == "huggingface" else (source.modelscope or "", None)
    return locate(
        source.hub,
        files=source.files,
        split=source.split,
        hub=places.hub,
        modelscope_id=source.modelscope,
        revision=places.revisions.get(name, pinned),
    )


def _in_folder(source: Source, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    names = [source.hub.replace("/", "__")] if source.hub else []
    return next((path for name in (*names, *source.plain) if (path := folder / name).exists()), None)


def read_items(shelf: Shelf) -> tuple[list[Item], Shelf]:
    """Read the texts of all benchmarks held; those that cannot be read are unchecked on the shelf that comes back."""
    items: list[Item] = []
    held, unchecked = [], dict(shelf.unchecked)
    for one in shelf.held:
        try:
            found = [item for source, located in one.located for item in _items(one.benchmark.name, source, located)]
            if not found:
                raise CorpusError("its files hold no text of it")
        except FusedataError as error:
            unchecked[one.benchmark.name] = first_line(error)
        else:
            items += found
            held.append(one)
    return items, replace(shelf, held=tuple(held), unchecked=unchecked)


def read_rows(held: Held, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read `columns`, as far as they are there, of each row of a benchmark, after the row's own name.

    Raises CorpusError.
    """
    for source, located in held.located:
        yield from _labelled(source, located, columns)


def _items(name: str, source: Source, located: Located) -> Iterator[Item]:
    columns = [column for names in (*source.texts, *source.choices) for column in names]
    for label, values in _labelled(source, located, columns):
        for text in _texts(source, values):
            yield Item(name, label, text)


def _labelled(source: Source, located: Located, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    wanted = [*columns, *filter(None, [source.item]), *([source.between[0]] if source.between else [])]
    first = 0
    for file in located.parts():
        row = -1
        for row, values in enumerate(_rows(file, wanted, located)):
            if _belongs(values, source):
                item = values.get(source.item or "")
                yield f"row {first + row}" if item is None else str(item), values
        first += row + 1


def _belongs(values: dict[str, Any], source: Source) -> bool:
    if source.between is None or source.between[0] not in values:
        return True
    column, low, high = source.between
    value = values[column] if isinstance(low, int) else str(values[column])
    return value is not None and low <= value <= high  # type: ignore[operator]


def _texts(source: Source, values: dict[str, Any]) -> Iterator[str]:
    choices = [text for names in source.choices for text in _flat(_first(names, values))]
    for names in source.texts:
        texts = [text for text in _flat(_first(names, values)) if text.strip()]
        texts = ["\n".join(texts)] if names == ("test_list",) else texts
        yield from texts
        if choices:
            yield from ("\n".join([text, *choices]) for text in texts)


def _first(names: Sequence[str], values: dict[str, Any]) -> object:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _flat(value: object) -> list[str]:
    """Give the texts of a value: a text, a list of texts, or a list of turns with `content`."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return _flat(value.get("content"))
    return [text for entry in value for text in _flat(entry)] if isinstance(value, list) else []


def _rows(file: CorpusFile, wanted: Sequence[str], located: Located) -> Iterator[dict[str, Any]]:
    """Read the columns of one file that it has. Raises CorpusError."""
    for frame in _frames(file, wanted, located):
        yield from frame.iter_rows(named=True)


def _frames(file: CorpusFile, wanted: Sequence[str], located: Located) -> Iterator[pl.DataFrame]:
    try:
        frame = _csv_or_arrow(file.path) if file.name.endswith((".csv", ".arrow")) else None
        has = frame.columns.__contains__ if frame is not None else _has(file)
        columns = list(filter(has, dict.fromkeys(wanted)))
        if not columns:
            raise file.error("it has none of the columns that hold the benchmark")
        one = replace(located, files=(file.path,), names=(file.name,))
        yield from [frame.select(columns)] if frame is not None else scan(one, columns)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise file.error(first_line(error)) from None


def _csv_or_arrow(path: Path) -> pl.DataFrame:
    if path.suffix == ".csv":
        return pl.read_csv(path, infer_schema=False)
    import pyarrow as pa  # noqa: PLC0415 - one benchmark needs it

    with pa.memory_map(str(path)) as file:
        frame = pl.from_arrow(pa.ipc.open_stream(file).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _has(file: CorpusFile) -> Callable[[str], bool]:
    """Tells of a column whether a file of rows has it, by its schema or its first rows."""
    return parquet_columns.has(file) if file.path.suffix == ".parquet" else json_columns.has(file)
