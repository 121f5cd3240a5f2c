"""One program to its verdict: plan, constants, run, and once more where the hash seed may have decided.

A judgement is a generator: it asks for trials and is sent what became of them, so one thread has several under way.
"""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Generator
from typing import Final

from fusedata.verify.sandbox.container import BrokenError, Ending, Kind, Limits, Trial
from fusedata.verify.sandbox.hearing import UNDECIDED, Hearing
from fusedata.verify.sandbox.plan import Plan, UnusableTestsError, plan_in_child, plan_of
from fusedata.verify.sandbox.programs import Outcome, Program
from fusedata.verify.sandbox.values import Forged, Opaque, TooLargeError, decode, parse_line

Result = tuple[Ending, bytes] | BrokenError
Judgement = Generator[Trial, Result, Outcome]

TRIES: Final = 2
"""How often a program is run for which the container breaks, each time in a fresh one."""
SEEDS: Final = (0, 1)
"""Hash seeds: all programs run under the first; one that fails, and may depend on it, once more under the second."""
_KEPT_CONSTANTS: Final = 1000
_BY_HASH: Final = re.compile(r"\b(?:set|frozenset|hash|keys|items|id)\b|\{")
"""What makes the order of a program's work depend on the hash seed stands in its text as one of these."""
_PLAIN: Final = Kind(SEEDS[0], numpy=False)


class Judge:
    """Judges programs under some limits, and remembers the values of constants that stood in their tests."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._constants: OrderedDict[tuple[str, tuple[str, ...]], list[object] | None] = OrderedDict()

    def judge(self, program: Program) -> Judgement:
        """Judge a program."""
        try:
            plan = _plan(program)
            constants = yield from self._constants_of(plan)
            if constants is None:
                plan, constants = plan_in_child(program), []
        except UnusableTestsError as error:
            return Outcome(None, "unavailable", f"could not be judged: {error}", 0.0, "none")
        kind = Kind(SEEDS[0], "numpy" in program.code or "numpy" in program.setup)
        outcome = yield from self._tried(program, plan, constants, kind)
        if outcome.status == UNDECIDED:
            plan, constants = plan_in_child(program), []
            outcome = yield from self._tried(program, plan, constants, kind)
        if outcome.status in {"failed", "error"} and _BY_HASH.search(program.code):
            again = yield from self._tried(program, plan, constants, kind._replace(seed=SEEDS[1]))
            if again.passed:
                return again._replace(detail="passed under the second of two hash seeds")
        return outcome

    def sound(self, kind: Kind) -> Judgement:
        """Whether a container still passes a right program and fails a wrong one, both never seen before."""
        number = secrets.randbelow(10**9) + 2
        test = f"assert f({number}) == {number * number}"
        right, wrong = (Program(f"def f(x):\n    return x * {what}", (test,)) for what in ("x", number - 1))
        passed = yield from self._tried(right, plan_of(right), [], kind)
        failed = yield from self._tried(wrong, plan_of(wrong), [], kind)
        fine = passed.status == "passed" and failed.status == "failed"
        return passed if fine else Outcome(None, "unavailable", "a canary died", 0.0, "none")

    def _tried(self, program: Program, plan: Plan, constants: list[object], kind: Kind) -> Judgement:
        """Run a program; where the container broke, again in a fresh one."""
        broken: list[BrokenError] = []
        while len(broken) < TRIES:
            hearing = Hearing(program, plan, constants, self.limits.timeout)
            result = yield hearing.trial(kind, self.limits.cpu)
            if isinstance(result, BrokenError):
                broken.append(result)
            elif result[0].how == "stopped" and not hearing.finding:
                broken.append(BrokenError("it was ended in place of another program"))
            else:
                return hearing.outcome(*result)
        if all(error.for_memory for error in broken):
            return Outcome(False, "memory", "used more memory than it may", 0.0, plan.isolation)
        return Outcome(None, "unavailable", f"could not be judged: the sandbox broke ({broken[-1]})", 0.0, "none")

    def _constants_of(self, plan: Plan) -> Generator[Trial, Result, list[object] | None]:
        """The values of constants that are no literals, from a child without the program; None where it fails."""
        if not plan.constants:
            return []
        key = (plan.imports, plan.constants)
        if key not in self._constants:
            self._constants[key] = yield from self._evaluated(plan)
            if len(self._constants) > _KEPT_CONSTANTS:
                self._constants.popitem(last=False)
        return self._constants[key]

    def _evaluated(self, plan: Plan) -> Generator[Trial, Result, list[object] | None]:
        lines = bytearray()

        def hear(data: bytes) -> bool:
            lines.extend(data)
            return False

        steps = [("value", source, "") for source in plan.constants]
        task = json.dumps({"cpu": self.limits.cpu, "code": plan.imports, "steps": steps}).encode()
        result = yield Trial(task, _PLAIN, 0, hear)
        if isinstance(result, BrokenError):
            return None
        try:
            values = [decode(words[2]) for words in map(parse_line, bytes(lines).splitlines()) if words[0] == "value"]
        except (Forged, TooLargeError, IndexError):
            return None
        whole = len(values) == len(steps) and not any(isinstance(value, Opaque) for value in values)
        return values if whole else None


def _plan(program: Program) -> Plan:
    if program.stdout is not None and not program.tests and program.check is None:
        return Plan((), None, (), "", "split")
    return plan_of(program)
