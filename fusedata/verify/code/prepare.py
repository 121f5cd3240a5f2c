"""A row into a program for the sandbox, or into the verdict that it earns without being started."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from fusedata.snippets import LEETCODE_PREAMBLE, parsed, placed_before
from fusedata.verify.code.extract import extract_program
from fusedata.verify.code.needs import Tests, used_by
from fusedata.verify.code.static import MAX_CHARS, Problem, static_problem
from fusedata.verify.sandbox.programs import Outcome, Program

VERSION: Final = "static 1"
"""Of what is found and refused here: a part of what verdicts depend on."""

_NO_PROGRAM: Final = Problem("static_error", "no program in the response")
_TEXTS: Final = ("response", "code", "check", "entry_point", "setup", "preamble", "stdin", "stdout")


def prepare(row: Mapping[str, object]) -> Program | Outcome:
    """Make the program of a row, or say why it is not run.

    A row holds `response` (a model's text, in which the program is found) or `code` (the program itself), and what it
    is judged by: `tests` (asserts: a list, or one text), `check` (source of `check(candidate)`) with `entry_point`, or
    `stdout` with `stdin`. `setup` runs between program and tests, `preamble` before the program; where it is absent
    and the entry point is a method of `Solution`, LeetCode's is used. Other keys are ignored. A row that lacks what it
    needs is not judged: `passed` None, status `unavailable`.
    """
    unusable = _unusable(row)
    if unusable:
        return Outcome(None, "unavailable", f"could not be judged: {unusable}", 0.0, "none")
    texts = {key: value for key in _TEXTS if isinstance(value := row.get(key), str)}
    tests = _tests(row.get("tests"))
    check, entry_point = texts.get("check"), texts.get("entry_point")
    preamble, setup = texts.get("preamble", _preamble(entry_point, tests)), texts.get("setup", "")
    beside = "\n".join([preamble, setup, *tests, check or ""])
    used = used_by(tests, check, entry_point, f"{preamble}\n{setup}")
    code = _code(texts, used)
    if not code.strip():
        return _refused(_NO_PROGRAM)
    problem = static_problem(code, used, None if "stdout" in texts else beside)
    if problem:
        return _refused(problem)
    program = placed_before(preamble, code)
    return Program(program, tests, check, entry_point, setup, texts.get("stdin"), texts.get("stdout"))


def _refused(problem: Problem) -> Outcome:
    return Outcome(False, problem.status, problem.detail, 0.0, "none")


def _unusable(row: Mapping[str, object]) -> str:
    """Say what a row lacks; empty: nothing."""
    if not isinstance(row.get("response"), str) and not isinstance(row.get("code"), str):
        return 'the row needs the text "response" or "code"'
    for key in _TEXTS:
        if not isinstance(row.get(key), str | None):
            return f'its "{key}" is not a text'
    tests = row.get("tests")
    if not isinstance(tests, str | None) and not (
        isinstance(tests, Sequence) and all(isinstance(test, str) for test in tests)
    ):
        return 'its "tests" are not a list of texts'
    if row.get("check") is not None and not row.get("entry_point"):
        return 'its "check" needs the text "entry_point"'
    if not _tests(tests) and row.get("check") is None and row.get("stdout") is None:
        return 'the row needs "tests", "check" or "stdout"'
    return ""


def _tests(value: object) -> tuple[str, ...]:
    """Give the tests of a row: a text is cut into its statements, where it parses."""
    if isinstance(value, str):
        return tuple(statements(value))
    values = value if isinstance(value, Sequence) else ()
    return tuple(test for test in values if isinstance(test, str) and test.strip())


def statements(code: str) -> list[str]:
    """Cut code into its top-level statements; as one where it does not parse."""
    try:
        body = parsed(code).body
    except (SyntaxError, RecursionError, MemoryError):
        return [code]
    lines = code.splitlines()
    if any(one.end_lineno == other.lineno for one, other in pairwise(body)):
        return [code]
    return ["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in body]


def _preamble(entry_point: str | None, tests: Sequence[str]) -> str:
    leetcode = (entry_point or "").startswith("Solution()") or any("Solution()." in test for test in tests)
    return LEETCODE_PREAMBLE if leetcode else ""


def _code(texts: Mapping[str, str], used: Tests) -> str:
    """Give the program; the wanted names are those that the tests need it to define."""
    if "code" in texts:
        return texts["code"]
    entry = (used.entry_point or "").partition("(")[0]
    names = {*used.names, *([entry] if entry.isidentifier() else [])}
    return (extract_program(texts["response"], names) if len(texts["response"]) <= MAX_CHARS else None) or ""
