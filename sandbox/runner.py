# ruff: noqa: INP001, PTH123 - no package, and as few modules as can be
"""The first process of a sandbox container: it keeps a warm interpreter and forks a child for each program.

It runs as root with the few capabilities that starting and sweeping programs takes (SETUID, SETGID, KILL, CHOWN,
DAC_OVERRIDE); the child that runs a program has a uid of its own, no capability, and limits it cannot raise. The
runner understands nothing of programs, tests or values: it moves bytes between the host (standard input and output)
and the child, holds the clock, and when the program is over kills and removes whatever is left of it. Bytes that pass
through are wiped from memory, so that a later child, which is a copy of this process, finds no trace of them.

From the host: a header (HEADER), then what the child is to read. To the host: frames (FRAME), see the constants. One
program at a time; what the host sends ahead waits in the pipe, where no child can read it. SIGUSR1 ends the program
that runs. The end of standard input ends the runner, and with it, as it is process 1, everything in the container.
"""

import contextlib
import ctypes
import gc
import hashlib
import json
import os
import pathlib
import random
import resource
import select
import signal
import struct
import sys
import time

import child
import traces

HEADER = struct.Struct(">cIddIII")
"""Kind (JOB), length of what the child is to read, seconds of the processor and by the clock, and in bytes: the
most that the program may print, the most of it that is sent to the host, the most that the child may report."""
JOB = b"J"
FRAME = struct.Struct(">cI")
"""Kind and length of a frame to the host."""
HELLO, REPORT, OUTPUT, END = b"H", b"R", b"O", b"E"
ENDING = struct.Struct(">ciddI")
"""How it ended, exit status or signal, seconds of the processor, seconds by the clock, children killed for memory."""
EXITED, SIGNALLED, LATE, FLOODED, STOPPED = b"x", b"s", b"t", b"o", b"c"

TICK = 0.03
"""Seconds between two looks at what children report: a short program is one message, a long one can be stopped."""
PATIENCE = 5
"""How many times its limit by the clock a program may take that works, and waits for a processor."""
LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 64 << 20,
    resource.RLIMIT_MEMLOCK: 64 << 10,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_NPROC: 64,
}
UIDS = range(10_000, 60_000)

fork = ctypes.PyDLL(None).fork
"""The C library's own. Python's calls what modules asked to be called after a fork, threading and random among them:
new locks and seeds that a process without threads has no need of, and a third of the cost of a child."""
_buffer = bytearray(1 << 20)
_view = memoryview(_buffer)


def become(uid: int, job: int, report: int, output: int) -> None:
    """Turn a forked child into the process of a program: no capability, no descriptor but its own. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
        os.setsid()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.dup2(job, 250)
        os.dup2(report, 251)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 250)
        child.main(250, 251)
    finally:
        os._exit(70)


def read_exactly(count: int) -> bytes:
    """Read from the host; the end of the stream ends the runner."""
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def hand_over(target: int, count: int) -> None:
    """Move `count` bytes from the host to a child, and keep nothing."""
    while count:
        size = os.readv(0, [_view[: min(count, len(_buffer))]])
        if not size:
            sys.exit(0)
        sent = 0
        while sent < size:
            sent += os.write(target, _view[sent:size])
        _buffer[:size] = bytes(size)
        count -= size
    os.close(target)


def send(kind: bytes, body: bytes | memoryview = b"") -> None:
    """Send one frame to the host."""
    head = FRAME.pack(kind, len(body))
    sent = os.writev(1, [head, body]) - len(head)
    while sent < len(body):
        sent += os.write(1, memoryview(body)[sent:])


def read(source: int) -> int:
    """Read what is in a pipe into the buffer; its size, 0 for nothing."""
    try:
        return os.readv(source, [_view])
    except BlockingIOError:
        return 0


class Job:
    """One program on its way: its child, the runner's ends of the child's pipes, and the clock."""

    def __init__(self, uid: int) -> None:
        """Fork the child; it waits until it is given something to do."""
        task, self.task = os.pipe()
        self.report, report = os.pipe()
        self.output, output = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            become(uid, task, report, output)
        for end in (task, report, output):
            os.close(end)
        os.set_blocking(self.report, False)
        os.set_blocking(self.output, False)
        self.printed = self.reported = 0
        self.cpu, self.status = 0.0, None

    def start(self, header: tuple) -> None:
        """Give the child its task, and start the clock."""
        _, length, self.allowed, self.seconds, self.most_printed, self.kept, self.most_reported = header
        hand_over(self.task, length)
        self.began = time.monotonic()

    def watch(self, wake: int) -> tuple[bytes, int]:
        """Wait for the end of the child, or for a reason to end it: how it ended, and its exit status or signal."""
        poll = select.poll()
        for source in (self.output, wake):
            poll.register(source, select.POLLIN)
        tick = self.began + TICK
        while not self.flooded():
            now = time.monotonic()
            if now >= tick:
                tick = now + TICK
                self.listen()
                if self.late(now - self.began):
                    return LATE, 0
            ready = {source for source, _ in poll.poll((tick - now) * 1000 + 1)}
            if self.output in ready:
                self.hear()
            if wake in ready:
                signals = os.read(wake, 512)
                self.reap()
                if self.status is not None:
                    return (EXITED, self.status) if self.status >= 0 else (SIGNALLED, -self.status)
                if signal.SIGUSR1 in signals:
                    return STOPPED, 0
        return FLOODED, 0

    def late(self, seconds: float) -> bool:
        """Whether the child used up its time: of the processor, or by the clock.

        By the clock it has more while the machine is slow: while it worked for most of the time in which it had a
        processor, and waited for one for long.
        """
        if seconds >= self.allowed:
            with contextlib.suppress(OSError):
                if time.clock_gettime(~self.pid << 3 | 2) >= self.allowed:  # the clock of another process
                    return True
        if self.seconds <= seconds < PATIENCE * self.seconds:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{self.pid}/schedstat") as file:
                worked, waited, _ = (int(word) / 1e9 for word in file.read().split())
                return worked <= (seconds - waited) / 2 or waited <= seconds / 4
        return seconds >= self.seconds

    def listen(self) -> None:
        """Send the host what the child reports."""
        while self.reported <= self.most_reported and (size := read(self.report)):
            self.reported += size
            if self.reported <= self.most_reported:
                send(REPORT, _view[:size])
            _buffer[:size] = bytes(size)

    def hear(self) -> None:
        """Take in what the program printed; send the host as much of it as it asked for."""
        while self.printed <= self.most_printed and (size := read(self.output)):
            if self.printed < self.kept:
                send(OUTPUT, _view[: min(size, self.kept - self.printed)])
            _buffer[:size] = bytes(size)
            self.printed += size

    def flooded(self) -> bool:
        """Whether the program printed or reported too much."""
        return self.printed > self.most_printed or self.reported > self.most_reported

    def reap(self, *, block: bool = False) -> None:
        """Take in processes that ended, a program's orphans among them; `block`: until there is none."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, 0 if block else os.WNOHANG)
                if pid == 0:
                    return
                self.cpu += used.ru_utime + used.ru_stime
                if pid == self.pid:
                    self.status = os.waitstatus_to_exitcode(status)

    def sweep(self) -> None:
        """End and reap every other process of the container, and empty every folder that a program can write."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # this is process 1: all but itself, in one step that no fork escapes
        self.reap(block=True)
        self.listen()
        self.hear()
        os.close(self.report)
        os.close(self.output)
        for folder in traces.WIPED:
            traces.wipe(folder)


def serve(wake: int) -> None:
    """Run one program after the other, for ever."""
    first = random.SystemRandom().choice(UIDS[::100])
    killed, number = traces.out_of_memory(), 0
    while True:
        number += 1
        job = Job(first + number % 100)
        header = HEADER.unpack(read_exactly(HEADER.size))
        if header[0] != JOB:
            sys.exit("the host sent what is no job")
        job.start(header)
        how, code = job.watch(wake)
        seconds = time.monotonic() - job.began
        job.sweep()
        before, killed = killed, traces.out_of_memory()
        send(END, ENDING.pack(FLOODED if job.flooded() else how, code, job.cpu, seconds, killed - before))


def digest() -> str:
    """The digest of this runner's files: the host refuses an image that holds others than its own."""
    sources = [pathlib.Path(name).read_bytes() for name in (__file__, child.__file__, traces.__file__)]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def main() -> None:
    """Load what programs usually import, say hello, and serve."""
    if os.getpid() != 1:
        sys.exit("runner.py must be process 1 of a container: it ends every other process that it can see.")
    child.warm_up()
    os.umask(0o022)
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    for folder in traces.WIPED:
        traces.wipe(folder)
    os.chdir("/tmp")  # noqa: S108 - the private tmpfs
    hello = {"digest": digest(), "python": sys.version.split()[0], "hash_seed": os.environ.get("PYTHONHASHSEED")}
    send(HELLO, json.dumps(hello).encode())
    gc.collect()
    gc.freeze()
    gc.disable()
    serve(wake)


if __name__ == "__main__":
    main()
