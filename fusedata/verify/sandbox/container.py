"""One hardened container: started, asked one program after the other, and taken away."""

import contextlib
import json
import math
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fusedata.assets import asset
from fusedata.errors import VerifierError
from fusedata.verify.sandbox.engine import LABEL, first_line, runner_digest

if TYPE_CHECKING:
    import docker

HEADER: Final = struct.Struct(">cIddIII")
FRAME: Final = struct.Struct(">cI")
ENDING: Final = struct.Struct(">ciddI")
"""As in sandbox/runner.py, which explains them."""
_MULTIPLEXED: Final = struct.Struct(">BxxxI")
_HOW: Final = {b"x": "exited", b"s": "signalled", b"t": "late", b"o": "flooded", b"c": "stopped"}

MOST_PRINTED: Final = 8 << 20
MOST_REPORTED: Final = 16 << 20
_START_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 20.0
_PATIENCE: Final = 5
"""What a container may take beyond a program's own time before it counts as broken."""
_STOP_SECONDS: Final = 0.2
"""How long a program whose verdict is settled may go on before it is ended, which costs more than most programs do."""
_AHEAD: Final = 4
_AHEAD_BYTES: Final = 48 << 10
"""Programs, and bytes of their tasks, that are sent before the first has ended; a pipe holds 64 KiB."""
_TMPFS_MB: Final = 64


class Ending(NamedTuple):
    """How a program ended: `how` is exited, signalled, late, flooded or stopped (by the host).

    `code` is the exit status or the signal, `cpu` and `seconds` are of the processor and by the clock, `out_of_memory`
    counts processes that the kernel killed for memory meanwhile.
    """

    how: str
    code: int
    cpu: float
    seconds: float
    out_of_memory: int


class Limits(NamedTuple):
    """What a program may use: seconds of the processor, and megabytes of memory with all its processes and files."""

    timeout: float
    memory_mb: int

    @property
    def cpu(self) -> int:
        """Whole seconds of the processor after which the kernel ends any process that the runner did not."""
        return math.ceil(self.timeout) + 1

    @property
    def clock(self) -> float:
        """Seconds by the clock: a program that waits, or waits for a processor, gets so long."""
        return 2 * self.timeout + 3


class Kind(NamedTuple):
    """What a container's interpreter starts with: its hash seed, and whether numpy is loaded, which slows each fork."""

    seed: int
    numpy: bool

    def environment(self) -> dict[str, str]:
        """The variables that say so to the runner."""
        return {"PYTHONHASHSEED": str(self.seed), "SANDBOX_ALSO_WARM": "numpy" if self.numpy else ""}


class Trial(NamedTuple):
    """One program to run: the task for the child, in a container of which kind, how much of what it prints is kept.

    `hear` is given what the child reports, and answers whether no more is wanted.
    """

    task: bytes
    kind: Kind
    keep: int
    hear: Callable[[bytes], bool]


class BrokenError(Exception):
    """The container died, or what it sent makes no sense. `for_memory`: the kernel killed the runner itself."""

    def __init__(self, reason: str, *, for_memory: bool = False) -> None:
        super().__init__(reason)
        self.for_memory = for_memory


def options(limits: Limits, runtime: str, info: dict[str, Any]) -> dict[str, Any]:
    """The options of the container: what it may not do. `info` is what the engine says of itself."""
    tmpfs = f"rw,nosuid,nodev,noexec,size={_TMPFS_MB}m,nr_inodes=16384,mode=1777"
    cpus = {"nano_cpus": 10**9} if info.get("CPUCfsQuota", True) else {}
    return {
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": tmpfs, "/dev/shm": tmpfs},  # noqa: S108 - inside the container
        "ipc_mode": "none",
        "cap_drop": ["ALL"],
        "cap_add": ["SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE"],
        "security_opt": ["no-new-privileges", f"seccomp={asset('sandbox', 'seccomp.json').read_text()}"],
        "mem_limit": f"{limits.memory_mb}m",
        "memswap_limit": f"{limits.memory_mb}m",
        "pids_limit": 128,
        "log_config": {"type": "none"},
        "runtime": runtime,
        **cpus,
    }


class Container:
    """A running container and the connection to its runner.

    Raises VerifierError where it cannot be started or is of another version, BrokenError where it ends at once.
    """

    def __init__(self, client: "docker.DockerClient", image: str, runtime: str, limits: Limits, kind: Kind) -> None:
        import docker

        self.limits, self.programs = limits, 0
        self.waiting: deque[Trial] = deque()
        self._sizes: deque[int] = deque()
        self._raw, self._rest, self._stderr = bytearray(), bytearray(), b""
        self._api = client.api
        try:
            host = self._api.create_host_config(**options(limits, runtime, client.info()))
            self._id: str = self._api.create_container(
                image,
                stdin_open=True,
                detach=False,
                host_config=host,
                labels={LABEL: str(os.getpid())},
                environment=kind.environment(),
                hostname="sandbox",
            )["Id"]
            attached = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            stream = self._api.attach_socket(self._id, params=attached)
            self._stream, self._socket = stream, getattr(stream, "_sock", stream)
            self._socket.settimeout(_START_SECONDS)
            self._api.start(self._id)
        except (docker.errors.DockerException, OSError) as error:
            raise VerifierError(f"A sandbox container cannot be started: {first_line(error)}.") from None
        self._greet(image)

    def _greet(self, image: str) -> None:
        try:
            kind, body = self._frame()
            hello = json.loads(body)
        except (BrokenError, ValueError, OSError) as error:
            self.close()
            raise BrokenError(f"The runner of the sandbox image {image} does not start: {error}") from None
        if kind != b"H" or hello.get("digest") != runner_digest():
            self.close()
            raise VerifierError(
                f"The image {image} was built by another version of fusedata: build it again, `fusedata sandbox build`."
            )

    def takes(self, trial: Trial) -> bool:
        """Whether a trial can be sent yet: what waits in the pipe must fit it, or both sides could wait for ever."""
        if not self.waiting:
            return True
        return len(self.waiting) < _AHEAD and sum(self._sizes) + len(trial.task) <= _AHEAD_BYTES

    def send(self, trial: Trial) -> None:
        """Send a trial; a container that is gone is noticed by `finish`."""
        self.programs += 1
        self.waiting.append(trial)
        self._sizes.append(len(trial.task))
        limits = (self.limits.timeout, self.limits.clock, MOST_PRINTED, min(trial.keep, MOST_PRINTED), MOST_REPORTED)
        with contextlib.suppress(OSError):
            self._socket.sendall(HEADER.pack(b"J", len(trial.task), *limits) + trial.task)

    def finish(self) -> tuple[Ending, bytes]:
        """Wait for the end of the first trial: how it ended, and the first `keep` bytes of what it printed.

        Its `hear` is given what the child reports, as it comes; a program of which it wants no more is ended after a
        while. Raises BrokenError, after which the container is of no more use.
        """
        trial, printed = self.waiting[0], b""
        patience = _PATIENCE * self.limits.clock + _GRACE_SECONDS
        self._socket.settimeout(patience)
        try:
            while True:
                try:
                    kind, body = self._frame()
                except TimeoutError:
                    if self._socket.gettimeout() == patience:
                        raise
                    self._socket.settimeout(patience)
                    self._stop()
                    continue
                if kind == b"E":
                    self.waiting.popleft()
                    self._sizes.popleft()
                    return _ending(body), printed
                if kind == b"O":
                    printed += body
                elif kind == b"R" and trial.hear(body):
                    self._socket.settimeout(_STOP_SECONDS)
                if len(printed) > MOST_PRINTED:
                    raise BrokenError("the runner passed on more than it may")
        except OSError as error:
            raise BrokenError(f"no answer: {error}", for_memory=self._died_for_memory()) from None

    def _stop(self) -> None:
        """Ask the runner to end the program that runs. One that is over by then may hit its successor: see judging."""
        import docker

        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._api.kill(self._id, signal="SIGUSR1")

    def close(self) -> None:
        """Take the container away, whatever it is doing."""
        import docker

        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._api.remove_container(self._id, force=True)

    def _frame(self) -> tuple[bytes, bytes]:
        """The next frame of the runner. Raises BrokenError, or TimeoutError, after which it can be called again."""
        while True:
            if len(self._rest) >= FRAME.size:
                kind, length = FRAME.unpack_from(self._rest)
                if length > MOST_REPORTED:
                    raise BrokenError("the runner sent a frame that is too long")
                end = FRAME.size + length
                if len(self._rest) >= end:
                    body = bytes(self._rest[FRAME.size : end])
                    del self._rest[:end]
                    return kind, body
            self._receive()

    def _receive(self) -> None:
        """Take in more of the runner's standard output, out of what the engine multiplexes."""
        piece = self._socket.recv(1 << 18)
        if not piece:
            last = self._stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise BrokenError(last or "the container ended", for_memory=self._died_for_memory())
        self._raw += piece
        while len(self._raw) >= _MULTIPLEXED.size:
            stream, length = _MULTIPLEXED.unpack_from(self._raw)
            end = _MULTIPLEXED.size + length
            if len(self._raw) < end:
                return
            body = self._raw[_MULTIPLEXED.size : end]
            del self._raw[:end]
            if stream == 1:
                self._rest += body
            else:
                self._stderr = (self._stderr + body)[-2000:]

    def _died_for_memory(self) -> bool:
        import docker

        try:
            return bool(self._api.inspect_container(self._id)["State"]["OOMKilled"])
        except (docker.errors.DockerException, OSError, KeyError):
            return False


def _ending(body: bytes) -> Ending:
    if len(body) != ENDING.size:
        raise BrokenError("the runner sent no whole ending")
    how, code, cpu, seconds, killed = ENDING.unpack(body)
    return Ending(_HOW.get(how, "stopped"), code, cpu, seconds, killed)
