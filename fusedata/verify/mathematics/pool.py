"""Worker processes with a hard limit on time and memory, each asked one question at a time.

A worker that passes its time is killed and replaced, and the question is answered "could not be judged". A worker
that dies of something else is replaced and its question asked once more. Processes are started by `subprocess`
(no fork of a threaded parent runs Python), in a session of their own, so that Ctrl-C reaches the parent alone;
they end at the end of file that the parent's death leaves on their standard input.
"""

import contextlib
import json
import math
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import fusedata
from fusedata.errors import VerifierError
from fusedata.verify.mathematics.worker import HEADER, frame

START_SECONDS: Final = 120.0
MAX_FAILED_STARTS: Final = 3
MAX_TRIES: Final = 2


PATIENCE: Final = 10
"""How many times its limit a question may take by the clock, while it waits for a processor."""


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that a process used, all its threads together; no number where none can be had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Ticket:
    """A question that waits for its answer."""

    def __init__(self, gold: str, answer: str) -> None:
        self.question = {"gold": gold, "answer": answer}
        self.tries = 0
        self.done = False
        self.verdict: bool | None = None
        self.detail = ""

    def settle(self, verdict: bool | None, detail: str) -> None:
        """Answer the question."""
        self.verdict, self.detail, self.done = verdict, detail, True


class _Worker:
    """One process, what it is asked, and until when it may answer."""

    def __init__(self, memory_mb: int, seconds: float) -> None:
        root = str(Path(fusedata.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
        self.process = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
            [sys.executable, "-P", "-m", "fusedata.verify.mathematics.worker", str(memory_mb), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
            bufsize=0,
        )
        self.ready = False
        self.ticket: Ticket | None = None
        self.deadline = time.monotonic() + START_SECONDS
        self.asked = self.worked = 0.0
        self.buffer = b""

    def ask(self, ticket: Ticket, seconds: float) -> None:
        """Send a question; a worker that is already dead is noticed when it is read."""
        self.ticket = ticket
        self.begin(seconds)
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(frame(ticket.question))

    def begin(self, seconds: float) -> None:
        """Start the clock of a question."""
        self.asked, self.worked = time.monotonic(), cpu_seconds(self.process.pid)
        self.deadline = self.asked + seconds

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class WorkerPool:
    """Up to `workers` processes, started when there is something to ask."""

    def __init__(self, *, workers: int, seconds: float, memory_mb: int) -> None:
        self._limit, self._seconds, self._memory_mb = workers, seconds, memory_mb
        self._workers: list[_Worker] = []
        self._waiting: deque[Ticket] = deque()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._failed_starts = 0

    def submit(self, ticket: Ticket) -> None:
        """Queue a question and, where a worker is free, ask it."""
        with self._lock:
            self._waiting.append(ticket)
            self._dispatch()

    def wait(self, ticket: Ticket) -> None:
        """Block until a question is answered."""
        while not ticket.done:
            self.pump(block=True)

    def pump(self, *, block: bool) -> None:
        """Take in what workers said, replace the late and the dead, and ask what is queued."""
        with self._lock:
            self._dispatch()
            busy = [worker.deadline for worker in self._workers if worker.ticket or not worker.ready]
            if not busy:
                return
            patience = max(0.0, min(busy) - time.monotonic()) if block else 0.0
            for key, _ in self._selector.select(patience):
                self._hear(key.data)
            now = time.monotonic()
            for worker in [w for w in self._workers if (w.ticket or not w.ready) and w.deadline <= now]:
                self._late(worker)
            self._dispatch()

    def close(self) -> None:
        """End every worker; questions still open are answered "could not be judged"."""
        with self._lock:
            for worker in list(self._workers):
                self._drop(worker)
            for ticket in self._waiting:
                ticket.settle(None, "could not be judged: the verifier was closed")
            self._waiting.clear()
            self._selector.close()
            self._selector = selectors.DefaultSelector()

    def pids(self) -> list[int]:
        """The process ids of the workers alive."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def _dispatch(self) -> None:
        idle = [worker for worker in self._workers if worker.ready and not worker.ticket]
        while self._waiting and idle:
            idle.pop().ask(self._waiting.popleft(), self._seconds)
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._waiting) > starting and len(self._workers) < self._limit:
            self._start()
            starting += 1

    def _start(self) -> None:
        try:
            worker = _Worker(self._memory_mb, self._seconds)
        except OSError as error:
            raise VerifierError(f"The mathematics verifier cannot start a worker process: {error}.") from error
        self._workers.append(worker)
        assert worker.process.stdout
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

    def _drop(self, worker: _Worker) -> Ticket | None:
        """End a worker; give back the question that it leaves unanswered."""
        assert worker.process.stdout
        self._selector.unregister(worker.process.stdout)
        self._workers.remove(worker)
        worker.end()
        ticket, worker.ticket = worker.ticket, None
        if ticket:
            ticket.settle(None, "could not be judged: the verifier was closed")
        return ticket

    def _late(self, worker: _Worker) -> None:
        """End a worker that used up its time: of the processor, so that a busy machine changes no verdict."""
        ready = worker.ready
        spent = cpu_seconds(worker.process.pid) - worker.worked
        if worker.ticket and spent < self._seconds and time.monotonic() < worker.asked + PATIENCE * self._seconds:
            worker.deadline = time.monotonic() + max(self._seconds - spent, 0.05)
            return
        ticket = self._drop(worker)
        if ticket:
            ticket.settle(None, f"could not be judged: no verdict within {self._seconds:g} s")
        elif not ready:
            self._start_failed(f"is not ready after {START_SECONDS:g} s")

    def _hear(self, worker: _Worker) -> None:
        assert worker.process.stdout
        data = os.read(worker.process.stdout.fileno(), 1 << 16)
        if not data:
            self._died(worker)
            return
        worker.buffer += data
        while message := _message(worker):
            if message.get("state") == "loading":
                worker.deadline = time.monotonic() + START_SECONDS
            elif message.get("state") == "ready":
                worker.ready, self._failed_starts = True, 0
                worker.begin(self._seconds)
            elif worker.ticket:
                worker.ticket.settle(message["verdict"], message["detail"])
                worker.ticket = None

    def _died(self, worker: _Worker) -> None:
        ready = worker.ready
        ticket = self._drop(worker)
        if not ticket:
            if not ready:
                self._start_failed(f"ended with code {worker.process.returncode}")
            return
        ticket.tries += 1
        if ticket.tries < MAX_TRIES:
            ticket.done = False
            self._waiting.appendleft(ticket)
        else:
            ticket.settle(None, "could not be judged: the worker died twice")

    def _start_failed(self, how: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            self.close()
            raise VerifierError(
                f"The mathematics verifier's worker process {how}: check that math-verify is installed and"
                f" that {self._memory_mb} MiB of memory are enough."
            )


def _message(worker: _Worker) -> dict[str, Any] | None:
    """The first whole frame in a worker's buffer, taken out of it."""
    if len(worker.buffer) < HEADER.size:
        return None
    end = HEADER.size + HEADER.unpack_from(worker.buffer)[0]
    if len(worker.buffer) < end:
        return None
    body, worker.buffer = worker.buffer[HEADER.size : end], worker.buffer[end:]
    message: dict[str, Any] = json.loads(body)
    return message
