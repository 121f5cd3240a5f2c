"""Answers judged: mathematics and programs as builds judge them, choices by their letter."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from fusedata.evaluate.tasks import TASKS, JudgedBy, Question
from fusedata.verify.code.judge import Runs, judged
from fusedata.verify.math_answer import MathVerifier
from fusedata.verify.sandbox import Sandbox

_SAID = re.compile(
    r"(?i:answer|choice|option)(?i:\s+is|\s*:)?[\s*:$]*(?:\\boxed\{|\\text\{|\()*\s*([A-P])(?![A-Za-z])"
    r"|\\boxed\{\s*(?:\\text\{)?\s*\(?([A-P])\)?\s*\}"
)
_ALONE = re.compile(r"[\s*($]*([A-P])[\s*).$:]*")


class Verdict(NamedTuple):
    """`passed` is None where an answer could not be judged."""

    passed: bool | None
    detail: str


class Judge:
    """Judges answers for as long as it is entered; opens only what the benchmarks need.

    Raises VerifierError where there is no sandbox for programs, MissingExtraError.
    """

    def __init__(self, names: Sequence[str], *, timeout: float = 10.0) -> None:
        self._kinds: set[JudgedBy] = {TASKS[name].judged_by for name in names}
        self._timeout = timeout
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if "math" in self._kinds:
            self._math = self._stack.enter_context(MathVerifier())
        if "code" in self._kinds:
            sandbox: AbstractContextManager[Runs] = Sandbox(timeout=self._timeout)
            self._sandbox = self._stack.enter_context(sandbox)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def verdicts(self, name: str, questions: Sequence[Question], answers: Sequence[str]) -> list[Verdict]:
        """Judge the answer to each question of a benchmark."""
        pairs = list(zip(questions, answers, strict=True))
        kind = TASKS[name].judged_by
        if kind == "choice":
            return [_chosen(question.facts["gold"], answer) for question, answer in pairs]
        if kind == "math":
            found = self._math.verify_many((question.facts["gold"], answer) for question, answer in pairs)
            return [Verdict(verdict.passed, verdict.detail or verdict.extracted or "") for verdict in found]
        return self._code(pairs)

    def _code(self, pairs: Sequence[tuple[Question, str]]) -> list[Verdict]:
        """Judge programs: one that is held to several inputs passes when it passes all."""
        rows = [list(_rows(question.facts, answer)) for question, answer in pairs]
        outcomes = judged((row for each in rows for row in each), self._sandbox)
        verdicts = []
        for each in rows:
            found = [next(outcomes) for _ in each]
            worst = next((one for one in found if not one.passed), found[-1])
            verdicts.append(Verdict(worst.passed, f"{worst.status} {worst.detail}".strip()))
        return verdicts


def _rows(facts: Mapping[str, object], answer: str) -> Iterator[dict[str, object]]:
    cases = facts.get("cases")
    if isinstance(cases, list):
        yield from ({"response": answer, **case} for case in cases)
    else:
        yield {"response": answer, **facts}


def _chosen(gold: str, answer: str) -> Verdict:
    said = [one or other for one, other in _SAID.findall(answer)]
    alone = _ALONE.fullmatch(answer.strip().splitlines()[-1]) if answer.strip() else None
    found = said[-1] if said else alone[1] if alone else None
    return Verdict(found == gold, f"chose {found}" if found else "no letter was chosen")
