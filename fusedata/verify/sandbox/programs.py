"""What goes into the sandbox and what comes out: a program with its tests, and its outcome."""

from typing import NamedTuple


class Program(NamedTuple):
    """One program and what it is judged by: asserts, a check function, or the output for an input.

    `tests` are lines of Python, mostly asserts; `check` is source that defines `check(candidate)`, where the candidate
    is `entry_point` (a name or an expression such as `Solution().twoSum`). `setup` runs after the program and before
    the tests. `stdout` is what the program must print when it reads `stdin`.
    """

    code: str
    tests: tuple[str, ...] = ()
    check: str | None = None
    entry_point: str | None = None
    setup: str = ""
    stdin: str | None = None
    stdout: str | None = None


class Outcome(NamedTuple):
    """The verdict on one program.

    `passed` is None where it could not be judged. `status` is passed, failed (an assertion), error (an exception),
    syntax_error, timeout, memory, output, killed, forbidden, or unavailable (the sandbox's own fault; passed is None).
    `seconds` is wall-clock time in the sandbox. `isolation` is what the verdict rests on: "split" (values compared
    outside the container), "shared" (asserts inside the program's own process) or "none" (nothing was started).
    """

    passed: bool | None
    status: str
    detail: str
    seconds: float
    isolation: str
