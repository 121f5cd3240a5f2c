"""Who writes a run: one process the whole of it, or several at once a shard each.

A shard samples, screens, verifies and scores the responses of its own prompts, whichever they are: it never waits for
what another shard makes, so shards may run side by side or one after another. Batches and windows are cut inside a
share. Where engine and reward model are deterministic for a key, the dataset has the bytes of an unsharded build; where
they are deterministic for a batch only, those of any build of the same number of shards.

Three files in the run folder are locked, by `flock`: a lock dies with its process, and the folder must be on storage
whose locks all machines see.

    .lock           by a whole build alone; by shards together
    .shard-2-of-8   by the process that builds this shard
    .shards         by one shard at a time, while it prepares the run, changes run.json, or ends
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from fusedata.errors import ConfigError, RunLockedError
from fusedata.schema import rank

_WRITTEN = re.compile(r"(\d+)/(\d+)")
_FAILED = re.compile(r"failed-(\d+)-of-(\d+)-")
_LOCK = re.compile(r"\.shard-\d+-of-(\d+)")


@dataclass(frozen=True)
class Shard:
    """The `number`-th, from 1, of `of` shares of a run's prompts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def tag(self) -> str:
        """The name of the shard in file names."""
        return f"{self.number}-of-{self.of}"

    def is_foreign(self, name: str) -> bool:
        """Whether another shard of the same number may be writing the part of this file name, of failed rows."""
        found = _FAILED.match(name)
        return found is not None and int(found[2]) == self.of and int(found[1]) != self.number

    def prompts(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Give the prompts of this share, in their order: a prompt's share depends on its prompt_id alone."""
        return prompts.filter(rank("shard", 0, prompts["prompt_id"]) % self.of == self.number - 1)


def read_shard(text: str) -> Shard:
    """Read `I/N`, 1 ≤ I ≤ N. Raises ConfigError."""
    found = _WRITTEN.fullmatch(text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise ConfigError(f"--shard {text}: give I/N with I from 1 to N, as 2/8 for the second of eight shards.")
    return Shard(number, of)


class Writer:
    """The right to write a run, for as long as it is entered: of one shard beside others, or (None) of the whole.

    Entering raises RunLockedError where another process has that right, and OSError. Between entering and `share`, one
    process prepares the run and other shards wait.
    """

    def __init__(self, root: Path, shard: Shard | None = None) -> None:
        """Lock nothing yet."""
        self._root, self._shard = root, shard
        self._stack, self._turn = ExitStack(), ExitStack()
        self._whole = -1
        self.alone = False
        """Nobody else writes the run; after `share`, of a shard: nobody did when it was opened."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.__exit__)
            self._stack.enter_context(self._turn)
            if self._shard:
                own = self._stack.enter_context(_opened(self._root / f".shard-{self._shard.tag}"))
                if not _locked(own, fcntl.LOCK_EX):
                    raise RunLockedError(f"{self._root}: another process is building shard {self._shard}; wait for it.")
                self._turn.enter_context(self.turn())
            self._whole = self._stack.enter_context(_opened(self._root / ".lock"))
            self.alone = _locked(self._whole, fcntl.LOCK_EX)
            if not self.alone:
                self._join()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        """Write beside other shards of the same number. Raises RunLockedError."""
        if not (self._shard and _locked(self._whole, fcntl.LOCK_SH)):
            remedy = "wait for it, or choose another --out"
            raise RunLockedError(f"{self._root}: another process is writing this run; {remedy}.")
        for path in self._root.glob(".shard-*"):
            found = _LOCK.fullmatch(path.name)
            if found and int(found[1]) != self._shard.of and not _is_free(path):
                what = f"is being built in {found[1]} shards, not {self._shard.of}"
                raise RunLockedError(f"{self._root}: {what}; give all shards the same number, or wait.")

    def share(self) -> None:
        """Let other shards in: the run is prepared. Raises RunLockedError."""
        if self._shard:
            if not _locked(self._whole, fcntl.LOCK_SH):
                raise RunLockedError(f"{self._root}: another process began to write this run; wait for it.")
            self._turn.close()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Be the one shard that looks at run.json and changes it; others wait."""
        if self._shard is None:
            yield
            return
        with _opened(self._root / ".shards") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def last(self) -> bool:
        """Give up writing beside others, and tell whether nobody else writes the run any more.

        It is so until this writer is closed. Of shards that end at the same time, one is told so: each gives up its
        lock while it looks, one after another.
        """
        if self._shard:
            self._turn.enter_context(self.turn())
            self.alone = _locked(self._whole, fcntl.LOCK_EX)  # where it fails, the shared lock is gone, too
        return self.alone


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a lock file; closing it ends the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int, kind: int) -> bool:
    """Lock an open file, without waiting, and tell whether that worked."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems say the latter
        return False
    return True


def _is_free(path: Path) -> bool:
    with _opened(path) as handle:
        return _locked(handle, fcntl.LOCK_EX)
