"""The sandbox: some containers, a thread for each, programs in and outcomes out in order."""

import hashlib
import json
import os
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Self

from fusedata.errors import FusedataError, VerifierError
from fusedata.verify.sandbox.box import Box
from fusedata.verify.sandbox.container import BrokenError, Container, Kind, Limits
from fusedata.verify.sandbox.engine import connect, find_image, remove_stopped, runner_digest
from fusedata.verify.sandbox.judging import SEEDS, Judge
from fusedata.verify.sandbox.programs import Outcome, Program

if TYPE_CHECKING:
    import docker

VERSION: Final = "1"
"""Of how programs are judged; a part of what verdicts depend on."""
BATCH: Final = 64
"""Programs between two canaries in one container: so many are judged again where a canary fails."""
RECYCLED_AFTER: Final = 2000
"""Programs after which a container is replaced by a fresh one."""
_IN_FLIGHT: Final = 3 * BATCH
_IDLE_SECONDS: Final = 0.02
_REMEMBERED: Final = 10_000
_CANARY_TRIES: Final = 3
_START_TRIES: Final = 3


_NOTHING: Final = Program("")


class _Ticket:
    """A program that waits for its outcome."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.done = threading.Event()
        self.waiters = 0
        self.outcome: Outcome | None = None

    def settle(self, outcome: Outcome | None) -> None:
        """Give the outcome; None: there is none, for the sandbox broke down. The program is needed no more."""
        self.outcome, self.program = outcome, _NOTHING
        self.done.set()

    def final(self) -> bool:
        """Whether it is judged for good."""
        return bool(self.outcome and self.outcome.passed is not None)


class Sandbox:
    """Containers for as long as it is entered; none is started before there is a program.

    `timeout` is in seconds of the processor, `memory_mb` is for a program with all its processes and files, `workers`
    the number of containers (default: one a core). Raises MissingExtraError, or VerifierError where there is no engine,
    no image or no such runtime.
    """

    def __init__(
        self,
        *,
        image: str = "fusedata-sandbox",
        runtime: str = "runc",
        workers: int | None = None,
        timeout: float = 2.0,
        memory_mb: int = 512,
    ) -> None:
        self._image, self._runtime = image, runtime
        self._workers = workers or len(os.sched_getaffinity(0))
        self._limits = Limits(timeout, memory_mb)
        self._queue: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._known: OrderedDict[bytes, _Ticket] = OrderedDict()
        self._error: Exception | None = None
        self._digest, self._leaving = "", False

    def __enter__(self) -> Self:
        client = connect()
        self._digest = find_image(client, self._image, self._runtime)
        remove_stopped(client)
        client.close()
        return self

    def __exit__(self, *error: object) -> None:
        self._leaving = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def identity(self) -> dict[str, str]:
        """What verdicts depend on besides programs and tests."""
        return {
            "version": VERSION,
            "image": self._digest,
            "runner": runner_digest(),
            "runtime": self._runtime,
            "timeout": f"{self._limits.timeout:g}",
            "memory_mb": str(self._limits.memory_mb),
            "hash_seeds": " ".join(map(str, SEEDS)),
        }

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Judge programs, in order, a bounded number in flight; equal ones are judged once.

        Raises VerifierError where containers cannot be started any more.
        """
        waiting: deque[_Ticket] = deque()
        try:
            for program in programs:
                waiting.append(self._submit(program))
                while len(waiting) >= _IN_FLIGHT * self._workers or (waiting and waiting[0].done.is_set()):
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for ticket in waiting:
                ticket.waiters -= 1

    def _submit(self, program: Program) -> _Ticket:
        key = hashlib.sha256(json.dumps(program).encode()).digest()
        ticket = self._known.get(key)
        if not ticket or (not ticket.waiters and not ticket.final()):
            ticket = self._known[key] = _Ticket(program)
            self._start_thread()
            self._queue.put(ticket)
        ticket.waiters += 1
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return ticket

    def _start_thread(self) -> None:
        if self._error:
            raise self._error
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"sandbox-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _result(self, ticket: _Ticket) -> Outcome:
        ticket.done.wait()
        ticket.waiters -= 1
        if not ticket.outcome:
            assert self._error
            raise self._error
        return ticket.outcome

    def _work(self) -> None:
        """Judge what is queued in containers of this thread's own, until the sandbox is left."""
        taken: list[_Ticket] = []
        try:
            client = connect()
            box = Box(lambda kind: self._container(client, kind), Judge(self._limits))
            try:
                self._judge_queued(box, taken)
            finally:
                box.discard()
                client.close()
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits for outcomes
            self._give_up(error, taken)

    def _container(self, client: "docker.DockerClient", kind: Kind) -> Container:
        """Start a container; one that ends before it is ready is tried again."""
        for number in range(1, _START_TRIES + 1):
            try:
                return Container(client, self._digest, self._runtime, self._limits, kind)
            except BrokenError as error:
                if number == _START_TRIES:
                    raise VerifierError(f"{error}.") from None
        raise AssertionError("unreachable")

    def _judge_queued(self, box: Box, taken: list[_Ticket]) -> None:
        """Judge programs; outcomes are given out once canaries have confirmed the containers they come from."""
        outcomes: dict[int, Outcome] = {}
        over = False
        while not over or taken:
            ticket = None
            if not over and not box.full and len(taken) < BATCH:
                ticket, over = self._next(wait=None if not taken else 0.0 if not box.empty else _IDLE_SECONDS)
            if ticket:
                taken.append(ticket)
                outcomes.update(box.begin(len(taken) - 1, box.judge.judge(ticket.program)))
            elif not box.empty:
                outcomes.update(box.proceed())
            elif taken:
                self._give_out(box, taken, outcomes)

    def _next(self, wait: float | None) -> tuple[_Ticket | None, bool]:
        """A ticket that someone still waits for, if one comes in time; and whether the sandbox is being left."""
        while True:
            try:
                ticket = self._queue.get(block=wait != 0.0, timeout=wait)
            except queue.Empty:
                return None, False
            if ticket is None or ticket.waiters:
                return ticket, ticket is None

    def _give_out(self, box: Box, taken: list[_Ticket], outcomes: dict[int, Outcome]) -> None:
        """Settle what was judged; where a canary fails, judge it again in fresh containers."""
        for _ in range(_CANARY_TRIES):
            if box.sound():
                break
            box.discard()
            outcomes.clear()
            for number, ticket in enumerate(taken):
                outcomes.update(box.begin(number, box.judge.judge(ticket.program)))
            while not box.empty:
                outcomes.update(box.proceed())
        else:
            why = "could not be judged: the sandbox does not tell a right program from a wrong one"
            outcomes.update(dict.fromkeys(range(len(taken)), Outcome(None, "unavailable", why, 0.0, "none")))
        for number, ticket in enumerate(taken):
            ticket.settle(outcomes[number])
        taken.clear()
        outcomes.clear()
        box.recycle(RECYCLED_AFTER)

    def _give_up(self, error: Exception, taken: list[_Ticket]) -> None:
        """Let everyone who waits know that there is no sandbox any more."""
        known = isinstance(error, FusedataError)
        self._error = error if known else VerifierError(f"The sandbox broke down: {type(error).__name__}: {error}.")
        for ticket in taken:
            ticket.settle(None)
        while True:
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                return
            if left:
                left.settle(None)
