"""Who writes a run on an object store, which has no file locks: one process, which holds a lease and renews it.

A lease is an object that says until when it holds. A build that was killed cannot end its own, which then keeps the
next one out until it is over.
"""

import contextlib
import json
import threading
import time
import uuid
from pathlib import Path
from typing import Self

from fusedata.errors import RunError, RunLockedError
from fusedata.shards import Writer
from fusedata.storage import failures, put

LEASE_S = 120.0
"""Seconds after which a lease that nobody renews is over: as long as a killed build keeps the next one out."""
_RENEWALS = 6
"""How often a lease is renewed until it would be over."""


class Lease(Writer):
    """The right to write a run on an object store: an object that says until when, renewed as long as it is entered.

    Each new lease has the next number and is put where its name is free, so of two that take over one fails; a store
    that would put it twice is found out, and refused. A lease holds for what its holder's clock says. A holder that was
    suspended for longer than the lease may meet another writer when it goes on; parts are still whole, and rows may
    have been made twice.
    """

    def __init__(self, root: Path) -> None:
        """Hold nothing yet."""
        super().__init__(root)
        self._owner, self._ended = uuid.uuid4().hex, threading.Event()
        self._name = root

    def __enter__(self) -> Self:
        held = sorted(self._root.glob(".lease-*"))
        left = json.loads(held[-1].read_bytes())["expires"] - time.time() if held else 0
        if left > 0:
            self._refuse(left)
        number = int(held[-1].name.removeprefix(".lease-")) + 1 if held else 1
        self._name = self._root / f".lease-{number:09d}"
        if not self._say(LEASE_S, new=True) and self._holder() != self._owner:  # ours: put twice, answered once
            self._refuse(LEASE_S)
        self._check_store()
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

    def _refuse(self, left: float) -> None:
        remedy = f"wait for it (or {left:.0f} seconds, where it was killed), or choose another --out"
        raise RunLockedError(f"{self._root}: another process is writing this run; {remedy}.")

    def _check_store(self) -> None:
        """Raise RunError where the store puts an object in place of another although it is told not to."""
        if self._say(LEASE_S, new=True):
            what = "the store replaces objects that are to be put only where there is none, so two builds could mix"
            raise RunError(f"{self._root}: {what}; choose another --out.")

    def _holder(self) -> object:
        return json.loads(self._name.read_bytes())["owner"]

    def _say(self, seconds: float, *, new: bool = False) -> bool:
        said = {"owner": self._owner, "expires": time.time() + seconds if seconds else 0}
        return put(self._name, json.dumps(said).encode(), new=new)

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / _RENEWALS):
            with contextlib.suppress(*failures()):
                self._say(LEASE_S)
