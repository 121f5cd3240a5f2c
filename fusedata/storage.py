"""Run folders on an object store, by URL: what differs there from a folder of this machine.

An object is whole or not there, and cannot be renamed: what is written is put under its name when it is complete. A
part is put where its name is free; one of the same rows that is there already counts as written. There are no file
locks: the one writer holds a lease, an object that it renews (`Lease`). A dataset is put file by file, so a reader may
meet half of a new one for a moment.

A folder by URL is a `UPath`: it has the methods of `Path` that are used here, and nothing of `os` takes it.
"""

import contextlib
import errno
import json
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import polars as pl

from fusedata.errors import ConfigError, MissingExtraError, RunError, RunLockedError
from fusedata.shards import Writer

_LEASE_S = 120.0
"""Seconds after which a lease that nobody renews is over: as long as a killed build keeps the next one out."""


def place(text: str) -> Path:
    """Give a folder by its path or URL. Raises ConfigError, MissingExtraError.

    `s3://bucket/folder` is the one kind of URL; AWS_ENDPOINT_URL and the other variables of AWS's clients say where
    and who. Listings are not remembered: other processes write, too.
    """
    if "://" not in text:
        return Path(text)
    if not text.startswith("s3://"):
        remedy = "give s3://BUCKET/FOLDER (and AWS_ENDPOINT_URL for a store that is not Amazon's), or a path"
        raise ConfigError(f"{text}: runs are not kept there; {remedy}.")
    try:
        import s3fs  # noqa: F401 - named here, so that its absence is told
        from upath import UPath
    except ImportError as error:
        raise MissingExtraError("s3", text) from error
    return cast("Path", UPath(text.rstrip("/"), use_listings_cache=False))


def is_url(path: Path) -> bool:
    """Whether a folder or file lies on an object store."""
    return not isinstance(path, Path)


def locations(paths: Sequence[Path]) -> Any:  # noqa: ANN401 - what polars' scans take
    """Give files as polars takes them; it speaks to object stores itself, by the same variables."""
    return [str(path) if is_url(path) else path for path in paths]


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Give what is raised where a file or an object cannot be had, and `more`."""
    botocore = sys.modules.get("botocore.exceptions")  # who has not loaded it meets none of its errors
    return (OSError, *more, *((botocore.BotoCoreError,) if botocore else ()))


def unwritable(path: Path, error: Exception) -> RunError:
    """Give the error of a file that cannot be written."""
    if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error):
        return RunError(f"{path.parent}: the disk is full; free some space and build again: finished parts are kept.")
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RunError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or lines[0].rstrip('.')}).")


def _put(path: Path, data: bytes, *, new: bool = False) -> bool:
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
            _put(path, file.getvalue())
    except failures(pl.exceptions.PolarsError) as error:
        raise unwritable(path, error) from error


def put_part(path: Path, rows: pl.DataFrame, same_by: Sequence[str]) -> None:
    """Put a part; one of its name whose rows are equal `same_by` these columns stays as it is. Raises RunError.

    It is there where a put was answered too late and sent again, or where another process made the same batch.
    """
    try:
        with BytesIO() as file:
            rows.write_parquet(file)
            if not _put(path, file.getvalue(), new=True):
                held = pl.read_parquet(BytesIO(path.read_bytes()))
                if not held.select(same_by).equals(rows.select(same_by)):
                    _put(path, file.getvalue())
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
                _put(folder / str(path.relative_to(local)), path.read_bytes())
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


class Lease(Writer):
    """The right to write a run on an object store: an object that says until when, renewed as long as it is entered.

    Each new lease has the next number and is put where its name is free, so of two that take over one fails. A lease
    holds for what its holder's clock says. A holder that was suspended for longer than the lease may meet another
    writer when it goes on; parts are still whole, and rows may have been made twice.
    """

    def __init__(self, root: Path) -> None:
        """Hold nothing yet."""
        super().__init__(root)
        self._owner, self._ended = uuid.uuid4().hex, threading.Event()
        self._name = root

    def __enter__(self) -> Self:
        held = sorted(self._root.glob(".lease-*"))
        if held and json.loads(held[-1].read_bytes())["expires"] > time.time():
            self._refuse()
        number = int(held[-1].name.removeprefix(".lease-")) + 1 if held else 1
        self._name = self._root / f".lease-{number:09d}"
        if not self._say(_LEASE_S, new=True):
            self._refuse()
        for old in held:
            old.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        self.alone = True
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(*failures()):
            self._say(0)

    def _refuse(self) -> None:
        remedy = f"wait for it (or {_LEASE_S:.0f} seconds, where it was killed), or choose another --out"
        raise RunLockedError(f"{self._root}: another process is writing this run; {remedy}.")

    def _say(self, seconds: float, *, new: bool = False) -> bool:
        said = {"owner": self._owner, "expires": time.time() + seconds if seconds else 0}
        return _put(self._name, json.dumps(said).encode(), new=new)

    def _renew(self) -> None:
        while not self._ended.wait(_LEASE_S / 6):
            with contextlib.suppress(*failures()):
                self._say(_LEASE_S)
