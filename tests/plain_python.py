"""Programs judged by plain CPython, without a sandbox: what the sandbox's verdicts are held to.

A process of its own reads programs as JSON lines and forks a child for each: only programs that people wrote, and
small changes of them, may come here.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fusedata.verify.sandbox import Program

LIMIT = 4
"""Seconds of the processor that a program may take."""
_CODES = {0: "passed", 3: "failed", 4: "error"}


class Verdict(NamedTuple):
    """`status` is passed, failed (an assertion), error or timeout; `seconds` are of the processor."""

    status: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def judge_plainly(programs: Iterable[Program]) -> Iterator[Verdict]:
    """Give the verdict on each program, in order. One hash seed for all, as in the sandbox."""
    command = [sys.executable, "-W", "ignore", __file__]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        writer = threading.Thread(target=_write, args=(process.stdin, programs))
        writer.start()
        for line in process.stdout:
            yield Verdict(*json.loads(line))
        writer.join()


def _write(stream, programs) -> None:
    with stream:
        for program in programs:
            stream.write(json.dumps(program._asdict()) + "\n")


def _serve() -> None:
    for line in sys.stdin:
        program = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(program)
        _, status, used = os.wait4(child, 0)
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGALRM}
        verdict = "timeout" if late else _CODES.get(os.waitstatus_to_exitcode(status), "error")
        print(json.dumps([verdict, used.ru_utime + used.ru_stime]), flush=True)


def _run(program: dict) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 1))
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    signal.alarm(10 * LIMIT)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    scope = sys.modules["__main__"].__dict__
    for name in [name for name in scope if not name.startswith("__")]:
        del scope[name]
    _exec = exec
    try:
        _exec(compile(program["code"], "program", "exec"), scope)
        _exec(program["setup"], scope)
        for test in program["tests"]:
            _exec(test, scope)
        if program["check"] is not None:
            _exec(program["check"], scope)
            scope["check"](eval(program["entry_point"], scope))
    except AssertionError:
        code = 3
    except BaseException:  # noqa: BLE001 - whatever a program raises
        code = 4
    else:
        code = 0
    import os as system

    system._exit(code)


if __name__ == "__main__":
    _serve()
