"""The containers of one thread, with several judgements under way in them."""

from collections import deque
from collections.abc import Callable
from typing import Final

from fusedata.verify.sandbox.container import BrokenError, Container, Kind, Trial
from fusedata.verify.sandbox.judging import Judge, Judgement, Result
from fusedata.verify.sandbox.programs import Outcome

UNDER_WAY: Final = 6
"""Judgements under way at once: while a container runs one program, others wait in its pipe."""


class Box:
    """A container of each kind, started when it is needed and replaced when it broke. Not for several threads."""

    def __init__(self, start: Callable[[Kind], Container], judge: Judge) -> None:
        self.judge = judge
        self._start = start
        self._containers: dict[Kind, Container] = {}
        self._asking: deque[tuple[Trial, Judgement]] = deque()
        self._running: deque[tuple[Trial, Judgement]] = deque()
        self._names: dict[Judgement, int] = {}

    @property
    def full(self) -> bool:
        """Whether as many judgements are under way as may be."""
        return len(self._names) >= UNDER_WAY

    @property
    def empty(self) -> bool:
        """Whether nothing is under way."""
        return not self._names

    def begin(self, name: int, judgement: Judgement) -> list[tuple[int, Outcome]]:
        """Start a judgement; what is settled by that: it, where no trial is needed."""
        self._names[judgement] = name
        return self._advance(judgement, None)

    def proceed(self) -> list[tuple[int, Outcome]]:
        """Send what can be sent, and wait for the first trial under way; name and outcome of what is settled by it."""
        while self._asking and self._container(self._asking[0][0].kind).takes(self._asking[0][0]):
            trial, judgement = self._asking.popleft()
            self._container(trial.kind).send(trial)
            self._running.append((trial, judgement))
        trial, judgement = self._running.popleft()
        return self._advance(judgement, self._result(trial))

    def sound(self) -> bool:
        """Whether every container still tells a right program from a wrong one. Nothing may be under way."""
        for kind in list(self._containers):
            settled = self.begin(0, self.judge.sound(kind))
            while not settled:
                settled = self.proceed()
            if settled[0][1].passed is not True:
                return False
        return True

    def discard(self) -> None:
        """Take all containers away."""
        while self._containers:
            self._containers.popitem()[1].close()

    def recycle(self, after: int) -> None:
        """Take away containers that ran `after` programs. Nothing may be under way."""
        for kind in [kind for kind, container in self._containers.items() if container.programs >= after]:
            self._containers.pop(kind).close()

    def _container(self, kind: Kind) -> Container:
        if kind not in self._containers:
            self._containers[kind] = self._start(kind)
        return self._containers[kind]

    def _advance(self, judgement: Judgement, result: Result | None) -> list[tuple[int, Outcome]]:
        try:
            trial = next(judgement) if result is None else judgement.send(result)
        except StopIteration as stop:
            return [(self._names.pop(judgement), stop.value)]
        self._asking.append((trial, judgement))
        return []

    def _result(self, trial: Trial) -> Result:
        """What became of a trial; where its container broke, those behind it go to a fresh one."""
        container = self._containers[trial.kind]
        try:
            return container.finish()
        except BrokenError as error:
            del self._containers[trial.kind]
            container.close()
            innocent = [entry for entry in self._running if entry[0].kind == trial.kind]
            self._running = deque(entry for entry in self._running if entry[0].kind != trial.kind)
            self._asking.extendleft(reversed(innocent))
            return error
