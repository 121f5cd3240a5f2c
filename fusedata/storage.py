"""Run folders on an object store, by URL: what differs there from a folder of this machine.

An object is whole or not there, and cannot be renamed: what is written is put under its name when it is complete. A
part is put where its name is free; one of the same rows that is there already counts as written. There are no file
locks: the one writer holds a lease (`fusedata/lease.py`). A dataset is put file by file, so a reader may
meet half of a new one for a moment.

A folder by URL is a `UPath`: it has the methods of `Path` that are used here, and nothing of `os` takes it.
"""

import contextlib
import errno
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl
from polars.io.plugins import register_io_source

from fusedata.errors import ConfigError, MissingExtraError, RunError

# Here, as a path of gs:// may reach a worker before it loads the client, which puts unconditionally by gRPC, and prints
# what it raises.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
_READERS = 8
"""How many objects are read at a time."""


@dataclass(frozen=True)
class Store:
    """A kind of object store: its client for fsspec, the extra that brings that, and what says where and who."""

    client: str
    extra: str
    told_by: str


STORES = {
    "s3": Store("s3fs", "s3", "AWS_ENDPOINT_URL for a store that is not Amazon's"),
    "gs": Store("gcsfs", "gcs", "GOOGLE_APPLICATION_CREDENTIALS"),
    "oss": Store("fusedata.oss", "oss", "OSS_REGION, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"),
}
"""By the scheme of their URLs."""


def place(text: str) -> Path:
    """Give a folder by its path or URL. Raises ConfigError, MissingExtraError.

    Environment variables of the store's own clients say where it is and who asks. Listings are not remembered: other
    processes write, too.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    store = STORES.get(scheme)
    if store is None:
        remedy = "give s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, oss://BUCKET/FOLDER or a path"
        raise ConfigError(f"{text}: runs are not kept there; {remedy}.")
    try:
        import_module(store.client)
        from upath import UPath
    except ImportError as error:
        raise MissingExtraError(store.extra, text) from error
    return cast("Path", UPath(text.rstrip("/"), use_listings_cache=False))


def is_url(path: Path) -> bool:
    """Whether a folder or file lies on an object store."""
    return not isinstance(path, Path)


def scan(
    paths: Sequence[Path],
    schema: pl.Schema | None = None,
    row_index_name: str | None = None,
    row_index_offset: int = 0,
    **options: Any,  # noqa: ANN401
) -> pl.LazyFrame:
    """Read Parquet files of one schema lazily, as pl.scan_parquet does, in folders or on object stores.

    Polars speaks to S3 itself. What lies elsewhere is read by the store's client, so that one set of variables says
    where and who: object by object, some at a time.
    """
    if not paths or getattr(paths[0], "protocol", "s3") == "s3":
        options |= {"row_index_name": row_index_name, "row_index_offset": row_index_offset}
        places: Any = [str(path) if is_url(path) else path for path in paths]
        return pl.scan_parquet(places, schema=schema, **options)
    read, found = partial(_read, list(paths)), schema or pl.Schema(pl.read_parquet_schema(_held(paths[0])))
    rows = register_io_source(read, schema=found)
    return rows.with_row_index(row_index_name, row_index_offset) if row_index_name else rows


def _read(
    paths: list[Path],
    columns: list[str] | None,
    predicate: pl.Expr | None,
    rows: int | None,
    _: int | None,
) -> Iterator[pl.DataFrame]:
    """Read whole objects, in order, as polars asks for them."""
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(paths), _READERS):
            for held in pool.map(_held, paths[start : start + _READERS]):
                frame = pl.read_parquet(held, columns=columns)
                if rows is not None:
                    frame = frame.head(rows)
                    rows -= frame.height
                yield frame if predicate is None else frame.filter(predicate)
            if rows == 0:
                return


def _held(path: Path) -> BytesIO:
    return BytesIO(path.read_bytes())


_RAISED = {
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
    "aiohttp": "ClientError",
    "oss2.exceptions": "OssError",
}
"""What the clients of object stores raise beside OSError, by the module that has it."""


def sizes(paths: Sequence[Path]) -> list[int]:
    """Give the bytes of files of one folder; of an object store by a listing, not a request each."""
    if not paths or not is_url(paths[0]):
        return [path.stat().st_size for path in paths]
    held: Any = paths[0].parent
    found = held.fs.find(held.path, detail=True)
    return [int(found[cast("Any", path).path]["size"]) for path in paths]


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Give what is raised where a file or an object cannot be had, and `more`."""
    loaded = [(sys.modules.get(name), error) for name, error in _RAISED.items()]  # who loads none of it meets none
    return (OSError, *more, *(getattr(module, error) for module, error in loaded if module))


def unwritable(path: Path, error: Exception) -> RunError:
    """Give the error of a file that cannot be written."""
    if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error):
        return RunError(f"{path.parent}: the disk is full; free some space and build again: finished parts are kept.")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RunError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or lines[0].rstrip('.')}).")


def put(path: Path, data: bytes, *, new: bool = False) -> bool:
    """Put an object as a whole; `new`: unless there is one of that name, which is told by False."""
    held: Any = path
    try:
        held.fs.pipe_file(held.path, data, mode="create" if new else "overwrite")
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def uploading(path: Path) -> Iterator[BinaryIO]:
    """Write an object, which is put in its place at the end. Raises RunError."""
    try:
        with BytesIO() as file:
            yield file
            put(path, file.getvalue())
    except failures(pl.exceptions.PolarsError) as error:
        raise unwritable(path, error) from error


def put_part(path: Path, rows: pl.DataFrame, same_by: Sequence[str]) -> None:
    """Put a part; one of its name whose rows are equal `same_by` these columns stays as it is. Raises RunError.

    It is there where a put was answered too late and sent again, or where another process made the same batch.
    """
    try:
        with BytesIO() as file:
            rows.write_parquet(file)
            if not put(path, file.getvalue(), new=True):
                held = pl.read_parquet(BytesIO(path.read_bytes()))
                if not held.select(same_by).equals(rows.select(same_by)):
                    put(path, file.getvalue())
    except failures(pl.exceptions.PolarsError) as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def uploading_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder of this machine, then put its files in place of those of `folder`. Raises RunError."""
    with tempfile.TemporaryDirectory() as name:
        local = Path(name) / folder.name
        local.mkdir()
        yield local
        files = [path for path in sorted(local.rglob("*")) if path.is_file()]
        new = {str(folder / path.relative_to(local)): path for path in files}
        try:
            for path in files:
                put(folder / str(path.relative_to(local)), path.read_bytes())
            for old in folder.rglob("*"):
                if str(old) not in new and old.is_file():
                    old.unlink()
        except failures() as error:
            raise unwritable(folder, error) from error


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, where it is there."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    held: Any = folder
    with contextlib.suppress(FileNotFoundError):
        held.fs.rm(held.path, recursive=True)


def read_ahead(paths: Sequence[Path]) -> Generator[None, float, None]:
    """Let the system read local files before they are asked for, `_AHEAD` bytes; sent is what share of them is read.

    polars waits for the disk between files, a fifth of the time of those that are not in memory yet.
    """
    sizes = [0 if is_url(path) or not path.exists() else path.stat().st_size for path in paths]
    asked, share = 0, 0.0
    for path, size in zip(paths, sizes, strict=True):
        while asked > share * sum(sizes) + _AHEAD:
            share = yield
        if size:
            read_soon([path])
        asked += size
    while True:
        yield


def read_soon(paths: Iterable[Path]) -> None:
    """Let the system read local files, of those that are there, while something else is done."""
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with contextlib.suppress(OSError), path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


_AHEAD = 512 << 20
