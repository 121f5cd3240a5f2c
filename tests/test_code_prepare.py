"""Rows into programs, and what becomes of rows that cannot be judged."""

from collections.abc import Iterable, Iterator

import pytest

from fusedata.verify.code.judge import judged
from fusedata.verify.code.prepare import prepare, statements
from fusedata.verify.sandbox.programs import Outcome, Program

CODE = "def f(x):\n    return x + 1"
ROW = {"code": CODE, "tests": ["assert f(3) == 4"]}


def test_a_row_with_code_is_its_program_and_other_keys_are_ignored():
    assert prepare({**ROW, "id": 7, "note": None, "setup": "y = 1"}) == Program(
        CODE, ("assert f(3) == 4",), setup="y = 1"
    )


def test_a_row_with_a_response_is_the_program_in_it():
    row = {"response": f"Here:\n```python\n{CODE}\n```\nDone.", "tests": "assert f(3) == 4\n# and\nassert f(0) == 1\n"}
    assert prepare(row) == Program(CODE, ("assert f(3) == 4", "assert f(0) == 1"))


def test_code_is_taken_as_it_is_even_where_it_looks_like_a_response():
    code = f'"""\n```python\nx\n```\n"""\n{CODE}'
    assert prepare({**ROW, "code": code}) == Program(code, ("assert f(3) == 4",))


@pytest.mark.parametrize(("row", "key"), [({"response": "I cannot."}, "response"), ({"code": " \n"}, "code")])
def test_where_there_is_no_program_it_failed_without_being_run(row: dict[str, object], key: str):
    outcome = prepare({"tests": ROW["tests"], **row})
    assert outcome == Outcome(False, "static_error", "no program in the response", 0.0, "none")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, 'the row needs the text "response" or "code"'),
        ({"code": 1, "tests": []}, 'the row needs the text "response" or "code"'),
        ({"code": CODE}, 'the row needs "tests", "check" or "stdout"'),
        ({"code": CODE, "tests": []}, 'the row needs "tests", "check" or "stdout"'),
        ({"code": CODE, "tests": ["  "]}, 'the row needs "tests", "check" or "stdout"'),
        ({"code": CODE, "tests": "# nothing"}, 'the row needs "tests", "check" or "stdout"'),
        ({"code": CODE, "tests": [1]}, 'its "tests" are not a list of texts'),
        ({"code": CODE, "tests": {"a": 1}}, 'its "tests" are not a list of texts'),
        ({"code": CODE, "check": "def check(candidate): pass"}, 'its "check" needs the text "entry_point"'),
        ({"code": CODE, "check": 3, "entry_point": "f"}, 'its "check" is not a text'),
        ({**ROW, "setup": ["x"]}, 'its "setup" is not a text'),
    ],
)
def test_a_row_that_lacks_what_it_needs_is_not_judged(row: dict[str, object], why: str):
    assert prepare(row) == Outcome(None, "unavailable", f"could not be judged: {why}", 0.0, "none")


def test_tests_are_cut_into_statements_where_they_stand_on_lines_of_their_own():
    assert statements("x = [\n    1,\n]\nassert f(x) == 1") == ["x = [\n    1,\n]", "assert f(x) == 1"]
    assert statements("x = 1; y = 2") == ["x = 1; y = 2"]
    assert statements("not python (") == ["not python ("]


class Lazy:
    """Runs programs some ahead of what it gives, as the sandbox does."""

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        waiting = []
        for program in programs:
            waiting.append(program)
            if len(waiting) == 3:
                yield self._outcome(waiting.pop(0))
        yield from map(self._outcome, waiting)

    def _outcome(self, program: Program) -> Outcome:
        return Outcome(True, "passed", program.code, 0.1, "split")


@pytest.mark.parametrize("refused", [set(), {0}, {9}, {0, 1, 2, 3}, {3, 4, 8, 9}, set(range(10))])
def test_outcomes_come_in_the_order_of_their_rows(refused: set[int]):
    rows = [{**ROW, "code": "def g(): pass" if n in refused else f"{CODE}  # {n}"} for n in range(10)]
    outcomes = list(judged(rows, Lazy()))
    assert [outcome.passed for outcome in outcomes] == [n not in refused for n in range(10)]
    assert all(outcomes[n].detail == rows[n]["code"] for n in range(10) if n not in refused)
