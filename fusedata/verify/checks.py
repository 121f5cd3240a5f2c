"""The checks that a recipe can ask for, ready to judge: responses, and what responses are judged by."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import orjson
import polars as pl

from fusedata.profile import Profile
from fusedata.recipe import Correctness
from fusedata.verify.code.judge import Runs, judged
from fusedata.verify.code.prepare import VERSION
from fusedata.verify.math_answer import MathVerifier
from fusedata.verify.sandbox import Sandbox


class Verdict(NamedTuple):
    """What a check says of one response: `passed` is None where it could not be judged."""

    passed: bool | None
    status: str
    detail: str


class Check(NamedTuple):
    """An open check.

    `judge` takes rows (text, answer, tests) and gives a verdict each; `gold` takes rows (answer, tests, solution) and
    says of each why it cannot serve to judge by, or None. `identity` is what verdicts depend on besides.
    """

    judge: Callable[[pl.DataFrame], Iterator[Verdict]]
    gold: Callable[[pl.DataFrame], Iterator[str | None]]
    identity: Mapping[str, object]


@contextmanager
def opened(correctness: Correctness | None, profile: Profile) -> Iterator[Check | None]:
    """Open the check of a recipe; None where it has none. Raises VerifierError, MissingExtraError."""
    if correctness is None:
        yield None
    elif correctness.check == "math_answer":
        with _math_answer(correctness, profile) as check:
            yield check
    else:
        with _unit_tests(correctness, profile) as check:
            yield check


@contextmanager
def _math_answer(correctness: Correctness, profile: Profile) -> Iterator[Check]:
    limits = profile.verification
    identity = {"name": correctness.check, "version": MathVerifier.VERSION, **limits.model_dump(exclude={"workers"})}
    with MathVerifier(workers=limits.workers, timeout=limits.timeout, memory_mb=limits.memory_mb) as verifier:

        def judge(rows: pl.DataFrame) -> Iterator[Verdict]:
            for v in verifier.verify_many(zip(rows["answer"], rows["text"], strict=True)):
                status = {True: "right", False: "wrong", None: "unjudged"}[v.passed]
                yield Verdict(v.passed, status, "; ".join(filter(None, (v.extracted, v.detail))))

        def gold(rows: pl.DataFrame) -> Iterator[str | None]:
            for verdict in verifier.verify_many((answer, answer) for answer in rows["answer"]):
                yield None if verdict.passed else verdict.detail or "it does not equal itself"

        yield Check(judge, gold, identity)


@contextmanager
def _unit_tests(correctness: Correctness, profile: Profile) -> Iterator[Check]:
    with Sandbox(**profile.sandbox.model_dump()) as sandbox:
        known = {"name": correctness.check, "version": VERSION, "isolation": correctness.isolation or "any"}
        yield unit_tests(sandbox, correctness, {**known, **sandbox.identity()})


def unit_tests(sandbox: Runs, correctness: Correctness, identity: Mapping[str, object]) -> Check:
    """Give the check that runs programs in `sandbox`."""

    def judge(rows: pl.DataFrame) -> Iterator[Verdict]:
        pairs = zip(rows["text"], rows["tests"], strict=True)
        for outcome in judged(({**orjson.loads(tests), "response": text} for text, tests in pairs), sandbox):
            if outcome.passed and outcome.isolation != "split" and correctness.isolation == "split":
                yield Verdict(None, "unavailable", "it passed, but the tests had to run in the program's own process")
            else:
                yield Verdict(outcome.passed, outcome.status, outcome.detail)

    def gold(rows: pl.DataFrame) -> Iterator[str | None]:
        """A corpus without solutions is taken at its word."""
        solved = rows.filter(pl.col("solution").is_not_null())
        pairs = zip(solved["solution"], solved["tests"], strict=True)
        outcomes = judged(({**orjson.loads(tests), "response": solution} for solution, tests in pairs), sandbox)
        for solution in rows["solution"]:
            outcome = next(outcomes) if solution is not None else None
            yield None if outcome is None or outcome.passed else f"{outcome.status}: {outcome.detail}"

    return Check(judge, gold, identity)
