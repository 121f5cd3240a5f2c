"""The sandbox and the static checks on real programs: canonical solutions, and the same with one change."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutants import mutants
from plain_python import LIMIT, Verdict, judge_plainly

from fusedata.verify.code.prepare import prepare
from fusedata.verify.sandbox import Outcome, Program, Sandbox

Row = dict[str, object]

MUTANTS = 2_000
EXCEPTIONS: dict[str, str] = {}
"""Canonical solutions that do not pass, each with what is wrong with the data."""


def humaneval(shared: Path) -> Iterator[tuple[str, Row]]:
    with gzip.open(shared / "corpora" / "benchmarks" / "HumanEval.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            code = row["prompt"] + row["canonical_solution"]
            yield row["task_id"], {"code": code, "check": row["test"], "entry_point": row["entry_point"]}


def mbpp(shared: Path) -> Iterator[tuple[str, Row]]:
    for line in (shared / "corpora" / "code" / "mbpp.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield (
            f"MBPP/{row['task_id']}",
            {
                "code": row["code"],
                "tests": row["test_list"],
                "setup": row["test_setup_code"],
            },
        )


def leetcode(shared: Path) -> Iterator[tuple[str, Row]]:
    with gzip.open(shared / "corpora" / "code" / "LeetCodeDataset-v0.2.0-train.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            yield (
                f"LeetCode/{row['task_id']}",
                {
                    "code": row["completion"],
                    "check": row["test"],
                    "entry_point": row["entry_point"],
                    "preamble": row["prompt"],
                },
            )


def real(shared: Path) -> Iterator[tuple[str, Row]]:
    yield from humaneval(shared)
    yield from mbpp(shared)
    yield from leetcode(shared)


def test_no_canonical_solution_is_refused_without_being_run(shared: Path):
    refused = {name: p for name, row in real(shared) if isinstance(p := prepare(row), Outcome)}
    assert refused == {}


def test_no_canonical_solution_is_refused_where_it_stands_in_prose_without_a_fence(shared: Path):
    prose = "Sure! Here is a function that does it.\n\n{}\n\nIt works as follows: first it looks.\nNote: slow\n"
    rows = ((name, {**row, "response": prose.format(row["code"])}) for name, row in mbpp(shared))
    refused = {name: p for name, row in rows if isinstance(p := prepare({**row, "code": None}), Outcome)}
    assert refused == {}


def test_no_honest_program_of_the_shared_cases_is_refused_without_being_run(shared: Path):
    cases = [json.loads(line) for line in (shared / "sandbox_cases.jsonl").read_text().splitlines()]
    honest = [case for case in cases if case["accept"] == ["passed"]]
    assert len(honest) > 10
    assert [case["id"] for case in honest if isinstance(prepare(case), Outcome)] == []


@pytest.mark.docker
@pytest.mark.slow
def test_canonical_solutions_pass(shared: Path):
    rows = dict(real(shared))
    with Sandbox(timeout=10) as sandbox:  # MBPP/123 takes two seconds
        outcomes = dict(zip(rows, sandbox.run(_programs(rows)), strict=True))
    failing = {name: (o.status, o.detail) for name, o in outcomes.items() if not o.passed}
    print(f"{len(rows) - len(failing):,} of {len(rows):,} canonical solutions pass; not: {failing}")
    assert set(failing) == set(EXCEPTIONS)
    assert len(failing) <= 0.005 * len(rows)


def _programs(rows: dict[str, Row]) -> Iterator[Program]:
    for row in rows.values():
        program = prepare(row)
        assert isinstance(program, Program)
        yield program


def changed(shared: Path) -> Iterator[tuple[str, Row]]:
    """Give every program that a single change makes of a canonical solution, a few of each."""
    for name, row in (*humaneval(shared), *mbpp(shared)):
        for number, code in enumerate(mutants(str(row["code"]), 3, seed=name)):
            yield f"{name}#{number}", {**row, "code": code}


@pytest.mark.docker
@pytest.mark.slow
def test_a_program_with_one_change_gets_the_verdict_of_plain_python(shared: Path):
    rows = dict(changed(shared))
    prepared = {name: prepare(row) for name, row in rows.items()}
    plain = dict(zip(rows, judge_plainly(_as_they_are(rows)), strict=True))
    run = {name: program for name, program in prepared.items() if isinstance(program, Program)}
    outcomes = {**prepared, **_judged(run, LIMIT)}
    slow = {name for name in rows if _took_long(outcomes[name], plain[name])}
    other = {n: (outcomes[n], plain[n]) for n in rows if n not in slow and outcomes[n].passed != plain[n].passed}
    late = [name for name, (outcome, _) in other.items() if outcome.status == "timeout"]  # the machine was busy then
    again = _judged({name: run[name] for name in late}, 5 * LIMIT)
    other = {n: both for n, both in other.items() if n not in again or again[n].passed != plain[n].passed}
    passing = sum(verdict.passed for verdict in plain.values())
    print(f"{len(rows):,} mutants, {passing:,} pass, {len(slow)} too slow to compare, {len(other)} judged otherwise")
    assert len(rows) - len(slow) >= MUTANTS
    assert other == {}
    assert 0 < passing < len(rows)


def _judged(programs: dict[str, Program], timeout: float) -> dict[str, Outcome]:
    with Sandbox(timeout=timeout) as sandbox:
        return dict(zip(programs, sandbox.run(programs.values()), strict=True))


def _took_long(outcome: Outcome, plain: Verdict) -> bool:
    """Whether a program comes to an end, and near the limit: the one may take it for too slow, and the other not."""
    ended = outcome if plain.status == "timeout" else plain
    return ended.status != "timeout" and ended.seconds > 0.25 * LIMIT


def _as_they_are(rows: dict[str, Row]) -> Iterator[Program]:
    for row in rows.values():
        check, entry_point = row.get("check"), row.get("entry_point")
        yield Program(row["code"], tuple(row.get("tests") or ()), check, entry_point, row.get("setup") or "")
