"""The verdict on one program: hears what its child reports, and compares it with what the plan expects."""

import json
import secrets
from typing import Any, Final

from fusedata.verify.sandbox.container import Ending, Kind, Trial
from fusedata.verify.sandbox.expect import Deferred, Expectation, holds, show
from fusedata.verify.sandbox.plan import Plan, Step
from fusedata.verify.sandbox.programs import Outcome, Program
from fusedata.verify.sandbox.values import Forged, Opaque, TooLargeError, decode, parse_line

UNDECIDED: Final = "undecided"
"""The status where two objects of the program's own were to be equal, which only the program can say."""
_FORBIDDEN: Final = frozenset((1, 13, 30, 97, 101))
"""EPERM, EACCES, EROFS, EAFNOSUPPORT, ENETUNREACH: how the container says no."""
_MARGIN: Final = 1 << 16
"""Bytes of output that are kept beyond as much as is expected, to tell that there was more."""
_NEARLY: Final = 0.9
"""Share of its limit of processor time after which a program killed by the kernel is taken to have been late."""


class Hearing:
    """What one program's child said, judged as it comes in."""

    def __init__(self, program: Program, plan: Plan, constants: list[object], timeout: float) -> None:
        self.program, self.plan, self.constants, self.timeout = program, plan, constants, timeout
        self.secrets = [secrets.token_hex(8) if step.kind == "run" else "" for step in plan.steps]
        self.next, self.rest, self.heard_end = 0, b"", False
        self.finding: tuple[str, str] | None = None
        self.error: list[Any] | None = None

    def trial(self, kind: Kind, cpu: int) -> Trial:
        """What the child is given: the program and the steps, without anything that is expected."""
        steps = [(s.kind, s.source, secret) for s, secret in zip(self.plan.steps, self.secrets, strict=True)]
        program = self.program
        task = {
            "cpu": cpu,
            "code": program.code,
            "setup": program.setup,
            "candidate": self.plan.candidate,
            "stdin": program.stdin,
            "prints": program.stdout is not None,
            "steps": steps,
        }
        keep = 0 if program.stdout is None else len(program.stdout.encode("utf-8", "replace")) + _MARGIN
        return Trial(json.dumps(task).encode(), kind, keep, self.hear)

    def hear(self, data: bytes) -> bool:
        """Take in bytes of a report; whether the verdict is settled, so that the program may be stopped."""
        self.rest += data
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            if self.finding:
                return True
            try:
                self._line(parse_line(line))
            except Forged:
                self.finding = ("error", "the program wrote into the report of its test")
        return self.finding is not None

    def outcome(self, ending: Ending, printed: bytes) -> Outcome:
        """The verdict, once the program ended."""
        status, detail = self._status(ending, printed)
        return Outcome(status == "passed", status, detail[:600], round(ending.seconds, 4), self.plan.isolation)

    def _status(self, ending: Ending, printed: bytes) -> tuple[str, str]:
        if self.finding:
            return self._named(*self.finding, ending)
        done = self.next == len(self.plan.steps)
        if self.error:
            return self._error(ending)
        prints = self.program.stdout is not None
        if done and (self.heard_end if prints else bool(self.plan.steps)):
            return _compare_output(self.program.stdout or "", printed) if prints else ("passed", "")
        if done and prints and ending.how == "exited" and ending.code == 0:
            return _compare_output(self.program.stdout or "", printed)
        return self._ended(ending)

    def _line(self, words: list[Any]) -> None:
        match words:
            case ["value", int(step), tree] if self._is_next(step, "value", "truth"):
                self._value(self.plan.steps[step], tree)
                self.next += 1
            case ["ran", int(step), str(secret)] if self._is_next(step, "run") and secret == self.secrets[step]:
                self.next += 1
            case ["large", int(step)] if self._is_next(step, "value", "truth"):
                self.finding = ("failed", f"{self.plan.steps[step].line}: the value is too large to compare")
            case ["error", str(phase), int(step), list(names), int() | None as number, _] if not self.error:
                self.error = [phase, step, [str(name)[:80] for name in names], number, ""]
            case ["message", str(text)] if self.error:
                self.error[4] = text
                self.finding = ("", "")
            case ["end"]:
                self.heard_end = True
            case _:
                raise Forged("out of turn")

    def _is_next(self, step: int, *kinds: str) -> bool:
        return step == self.next < len(self.plan.steps) and self.plan.steps[step].kind in kinds

    def _value(self, step: Step, tree: object) -> None:
        try:
            value = decode(tree)
        except TooLargeError as error:
            self.finding = ("failed", f"{step.line}: {error}")
            return
        assert step.expectation
        if step.expectation.relation.startswith("pair ") and _both_opaque(value):
            self.finding = (UNDECIDED, "")
        elif not holds(self._resolved(step.expectation), value):
            self.finding = ("failed", f"{step.line}: got {show(value)}")

    def _resolved(self, expectation: Expectation) -> Expectation:
        constant, *tolerances = (
            self.constants[x.number] if isinstance(x, Deferred) else x
            for x in (expectation.constant, *expectation.tolerances)
        )
        return Expectation(expectation.relation, constant, tuple(tolerances))

    def _named(self, status: str, detail: str, ending: Ending) -> tuple[str, str]:
        return (status, detail) if status else self._error(ending)

    def _error(self, ending: Ending) -> tuple[str, str]:
        """The status of a program that an exception ended."""
        assert self.error
        phase, step, names, number, message = self.error
        name = names[0] if names else "an exception"
        line = self.plan.steps[step].line if phase == "test" and 0 <= step < len(self.plan.steps) else ""
        detail = f"{line}: " * bool(line) + f"{name}: {message}".removesuffix(": ")
        if phase == "compile":
            return "syntax_error", detail
        if ending.out_of_memory or "MemoryError" in names:
            return "memory", detail
        if "OSError" in names and (number in _FORBIDDEN or name == "gaierror"):
            return "forbidden", detail
        if phase == "test" and "AssertionError" in names:
            return "failed", detail
        return "error", detail

    def _ended(self, ending: Ending) -> tuple[str, str]:
        """The status of a program that did not come to the end of its tests."""
        if ending.out_of_memory:
            return "memory", "used more memory than it may"
        if ending.how == "late" or (ending.how == "signalled" and ending.cpu >= _NEARLY * self.timeout):
            return "timeout", f"not over after {ending.cpu:.1f} s of the processor, {ending.seconds:.1f} s by the clock"
        if ending.how == "flooded":
            return "output", "printed or returned more than it may"
        if ending.how == "signalled":
            return "killed", f"ended by signal {ending.code}"
        return "error", f"the program ended before its tests did (exit status {ending.code})"


def _both_opaque(value: object) -> bool:
    return type(value) is tuple and all(isinstance(side, Opaque) for side in value)


def _compare_output(expected: str, printed: bytes) -> tuple[str, str]:
    """Compare output line by line, without trailing blanks and blank lines at the end."""
    got = printed.decode("utf-8", "replace")
    if _lines(got) == _lines(expected):
        return "passed", ""
    return "failed", f"printed {show(got)}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
