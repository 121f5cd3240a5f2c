"""What a user names, as datasets: a folder, a file, or a dataset on a hub; whoever made it, split by split, lazily."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
from polars.io.plugins import register_io_source

from fusedata.collect import json_rows
from fusedata.collect.locate import SUFFIXES, CorpusFile, Located
from fusedata.collect.read import scan as scan_json
from fusedata.errors import CorpusError, RunError
from fusedata.mixture import is_mixture
from fusedata.shapes import COLUMNS, PARTS, TOLD, Kind, Shape, common, recognised
from fusedata.store import Run, first_line, read_run

Hub = Literal["huggingface", "modelscope"]

_MODELSCOPE = "ms:"
"""What begins the id of a dataset on ModelScope, whatever hub is meant otherwise."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SHARD = re.compile(r"[-_.]\d+-of-\d+.*$|-\d+$")
_NAMED = re.compile("(sft|dpo)[-_](train|test|valid|validation|val|dev|eval)")
_OUR_OWN = {"checksums.json", "dataset_info.json", "dataset_infos.json", "run.json", "croissant.json"}
_FOLDERS = {"data", "default", "main", "."}
"""Folders that are no name of a dataset."""
_SAMPLE = 1_000


@dataclass(frozen=True)
class Dataset:
    """One dataset of SFT rows or pairs, lazily.

    `stored` has the columns that its files have, `rows` those of `shapes`; both with `split` and `row`, the row's
    number within its split. `folder` holds its card, if it has one. `ours`: its rows are as fusedata writes them.
    """

    name: str
    shape: Shape
    stored: pl.LazyFrame
    rows: pl.LazyFrame
    folder: Path
    files: tuple[Path, ...]

    @property
    def kind(self) -> Kind:
        """`sft` or `dpo`."""
        return self.shape.kind

    @property
    def ours(self) -> bool:
        """Whether its rows have the columns that fusedata writes."""
        return self.shape.name == "fusedata"

    def as_messages(self) -> pl.LazyFrame:
        """Give rows as TRL takes them (`messages`, or `prompt`, `chosen`, `rejected`), with what else they tell."""
        parts, stored = PARTS[self.kind], set(self.stored.collect_schema())
        told = [name for name in TOLD[self.kind] if name in stored or (name == "corpus" and "dataset" in stored)]
        turns = {"messages": pl.concat_list(*parts)} if self.kind == "sft" else {part: pl.col(part) for part in parts}
        return self.rows.select(*told, "split", "row", **turns)


def open_datasets(
    source: str | Path, *, hub: Hub = "huggingface", revision: str | None = None, cache: Path | None = None
) -> tuple[list[Dataset], Run | None]:
    """Give the datasets of what a user named, and the run where it is one of one recipe.

    Raises RunError where there is none, CorpusError where one cannot be read, HubError where the hub refuses.
    """
    root = Path(source).expanduser()
    if not (root / "run.json").is_file():
        return datasets_in(*find_folder(source, hub=hub, revision=revision, cache=cache)), None
    run, folder = read_run(root), root / "dataset"
    if not folder.is_dir():
        raise RunError(f"{root}: has no dataset yet; `fusedata status {root}` says what is left.")
    return datasets_in(*find_folder(folder)), None if is_mixture(run) else run


class Found(NamedTuple):
    """Where a dataset lies on this disk: its folder, its data files, and the commit they are of; None: of no hub."""

    folder: Path
    files: list[Path]
    commit: str | None


def find_folder(
    name: str | Path, *, hub: Hub = "huggingface", revision: str | None = None, cache: Path | None = None
) -> tuple[Path, list[Path]]:
    """Give the folder of what a user named, and its data files: on this disk, else fetched from the hub.

    Raises RunError where there is neither, HubError or MissingExtraError where the hub cannot be asked.
    """
    return fetched(name, hub=hub, revision=revision, cache=cache)[:2]


def fetched(
    name: str | Path, *, hub: Hub = "huggingface", revision: str | None = None, cache: Path | None = None
) -> Found:
    """Give what `find_folder` gives, and the commit that it was at on the hub."""
    if str(name).startswith(_MODELSCOPE):
        name, hub = str(name).removeprefix(_MODELSCOPE), "modelscope"
    path = Path(name).expanduser()
    if path.is_file():
        return Found(path.parent, [path], None)
    if path.is_dir():
        return Found(path, _data_files(path), None)
    if not _HUB_ID.fullmatch(str(name)):
        wanted = "name a run, a folder or file of data, or a dataset on a hub (owner/name, ms:owner/name)"
        raise RunError(f"{name}: there is no such folder; {wanted}.")
    from fusedata.collect import hubs  # noqa: PLC0415 - what is on this disk needs no hub client

    fetch = hubs.from_modelscope if hub == "modelscope" else hubs.from_huggingface
    commit, found = fetch(str(name), _wanted, revision, cache)
    return Found(_common_folder(found), [path for file, path in found.items() if _is_data(file)], commit)


def _wanted(names: Sequence[str]) -> list[str]:
    return [name for name in names if _is_data(name) or name in {"README.md", "recipe.toml"}]


def _is_data(name: str) -> bool:
    parts = name.split("/")
    return name.endswith(SUFFIXES) and parts[-1] not in _OUR_OWN and not any(part.startswith(".") for part in parts)


def _data_files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in files if _is_data(file.relative_to(folder).as_posix())]


def _common_folder(found: Mapping[str, Path]) -> Path:
    """Give the folder of a hub's snapshot: above a file by as many steps as its name has parts."""
    for name, path in found.items():
        return path.parents[name.count("/")]
    raise RunError("The dataset holds no file that fusedata reads: " + ", ".join(SUFFIXES) + ".")


def datasets_in(folder: Path, files: Sequence[Path]) -> list[Dataset]:
    """Group data files into datasets and splits by their names, as hubs do; files of other rows are left aside.

    Raises RunError where no file holds SFT rows or pairs, CorpusError where one cannot be read.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        groups.setdefault(_place(file.relative_to(folder)), []).append(file)
    found: dict[tuple[str, Shape], dict[str, list[Path]]] = {}
    for (config, split), paths in groups.items():
        shape = recognised(_columns(paths[0]))
        if shape is not None:
            found.setdefault((config, shape), {})[split] = paths
    if not found:
        wanted = "`messages`, `conversations`, or `chosen` and `rejected`"
        raise RunError(f"{folder}: is no SFT or DPO data; no file in it (Parquet or JSON) has rows with {wanted}.")
    names = [config for config, _ in found]
    return [
        _dataset(folder, config if names.count(config) == 1 and config else shape.kind, config, shape, splits)
        for (config, shape), splits in found.items()
    ]


def _place(name: Path) -> tuple[str, str]:
    """Tell dataset and split of a file by its name: `sft/data/train-00000-of-00001.parquet` is ("sft", "train")."""
    stem = name.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        stem = stem.removesuffix(suffix)
    parts, split = list(name.parent.parts), _SHARD.sub("", stem)
    if split.isdigit() and parts:
        split = parts.pop()
    if named := _NAMED.fullmatch(split):
        parts, split = [*parts, named[1]], named[2]
    return "/".join(part for part in parts if part not in _FOLDERS), split


def _columns(path: Path) -> dict[str, pl.DataType]:
    """Give the columns of a file; of JSON, those of its first row, whose types are told later."""
    if path.suffix == ".parquet":
        return dict(_parquet(path).collect_schema())
    first = next(json_rows.batches(CorpusFile(str(path.parent), path.name, path), _SAMPLE))
    return {key: pl.Null() for row in first.objects for key in row}


def _parquet(path: Path) -> pl.LazyFrame:
    try:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}); fetch or write it again.") from error
    return rows


def _dataset(folder: Path, name: str, config: str, shape: Shape, splits: Mapping[str, list[Path]]) -> Dataset:
    own = folder / config
    stored, rows = [], []
    for split, paths in sorted(splits.items(), key=lambda item: (item[0] != "train", item[0])):
        frame = _scanned(folder, paths).with_columns(split=pl.lit(split)).with_row_index("row")
        frame = frame.with_columns(pl.col("row").cast(pl.Int64))
        stored.append(frame)
        schema = {column: dtype for column, dtype in frame.collect_schema().items() if column not in {"split", "row"}}
        rows.append(common(frame, schema, shape))
    files = tuple(path for paths in splits.values() for path in paths)
    joined = pl.concat(stored, how="diagonal_relaxed") if len(stored) > 1 else stored[0]
    return Dataset(name, shape, joined, pl.concat(rows), own if own.is_dir() else folder, files)


def _scanned(folder: Path, paths: Sequence[Path]) -> pl.LazyFrame:
    parquet = [path for path in paths if path.suffix == ".parquet"]
    frames = [_parquet(path) for path in parquet]
    if len(parquet) < len(paths):
        frames.append(_json(folder, [path for path in paths if path not in parquet]))
    return pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]


def _json(folder: Path, paths: Sequence[Path]) -> pl.LazyFrame:
    """Scan JSON files lazily: each query reads them anew, in flat memory.

    All columns where each has one type in all rows; else those that `shapes` knows.
    """
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    located = Located(str(folder), "folder", "", tuple(paths), names)
    columns = [column for path in paths for column in _columns(path) if column not in {"file", "row", "split"}]
    columns = list(dict.fromkeys(columns))
    try:
        schema = _schema(located, columns)
    except CorpusError:
        columns = [column for column in columns if column in COLUMNS]
        schema = _schema(located, columns)

    def read(
        wanted: list[str] | None, predicate: pl.Expr | None, count: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        for frame in scan_json(located, columns):
            kept = frame if predicate is None else frame.filter(predicate)
            part = (
                kept.select(columns if wanted is None else wanted) if wanted != [] else pl.DataFrame(height=kept.height)
            )
            yield part if count is None else part.head(count)
            count = None if count is None else count - part.height
            if count is not None and count <= 0:
                return

    return register_io_source(read, schema=schema)


def _schema(located: Located, columns: Sequence[str]) -> dict[str, Any]:
    """Give the columns' types over all rows: what the first frame has, for the types are settled before it is made."""
    first = next(scan_json(located, columns, batch_rows=1))
    return {column: first.schema[column] for column in columns}
