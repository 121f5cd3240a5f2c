"""Rows judged in order: those that need no run at once, the others by the sandbox."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from fusedata.verify.code.prepare import prepare
from fusedata.verify.sandbox.programs import Outcome, Program

_NO_OBJECT = Outcome(None, "unavailable", "could not be judged: the row is no JSON object", 0.0, "none")


class Runs(Protocol):
    """What runs programs: the sandbox, or its twin in tests."""

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Give the outcome of each program, in order."""
        ...


def judged(rows: Iterable[object], sandbox: Runs) -> Iterator[Outcome]:
    """Give the outcome of each row (see `prepare`), in order; of what is no row, that it could not be judged."""
    waiting: deque[Outcome | None] = deque()

    def programs() -> Iterator[Program]:
        for row in rows:
            prepared = prepare(row) if isinstance(row, Mapping) else _NO_OBJECT
            waiting.append(prepared if isinstance(prepared, Outcome) else None)
            if isinstance(prepared, Program):
                yield prepared

    for outcome in sandbox.run(programs()):
        yield from _known(waiting)
        waiting.popleft()
        yield outcome
    yield from _known(waiting)


def _known(waiting: deque[Outcome | None]) -> Iterator[Outcome]:
    while waiting and (outcome := waiting[0]) is not None:
        waiting.popleft()
        yield outcome
