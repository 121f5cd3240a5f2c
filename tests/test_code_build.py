"""Builds that judge programs by unit tests: with a twin engine, and the real sandbox where Docker is."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from conftest import write_corpus
from plain_python import judge_plainly
from runs import invoke

from fusedata.build import Build, Silent
from fusedata.config import validate
from fusedata.errors import VerifierError
from fusedata.plan import Advance
from fusedata.profile import Profile
from fusedata.recipe import Correctness, Recipe
from fusedata.sample.protocol import Completion, Request
from fusedata.status import status
from fusedata.store import read_prompts, read_run
from fusedata.testing import EchoEngine, HashReward
from fusedata.verify.checks import Check, opened, unit_tests
from fusedata.verify.sandbox.programs import Outcome, Program

MODEL = "test/coder"
PROBLEMS = ("add", "double", "negate", "shout", "never")
SOLUTIONS = {
    "add": ("a, b", "a + b", "1, 2", "3"),
    "double": ("n", "2 * n", "4", "8"),
    "negate": ("n", "-n", "4", "-4"),
    "shout": ("text", "text.upper()", "'a'", "'A'"),
    "never": ("n", "n + 1", "1", "2"),
}


class Coder(EchoEngine):
    """Answers with programs: the samples of a prompt are right, wrong, not a program, and right in other words.

    `never` is never solved, and `negate` always.
    """

    def _answer(self, request: Request) -> Completion:
        name = next(n for n in PROBLEMS if f"`{n}(" in request.messages[0]["content"])
        parameters, body, _, _ = SOLUTIONS[name]
        code = f"def {name}({parameters}):\n    return {body}"
        said = {
            0: f"Here:\n```python\n{code}\n```",
            1: f"```python\n{code.replace('return', 'return None and')}\n```",
            2: "I would rather not.",
            3: f"```python\n{code}\n```\nThis is it.",
        }[0 if name == "negate" else request.sample]
        text = said.replace("return", "return None and") if name == "never" else said
        return Completion(f"{text} ({request.sample})", "stop", len(request.messages), 5)


class Plainly:
    """A twin of the sandbox for the honest programs above: plain Python."""

    def __init__(self) -> None:
        self.ran: list[Program] = []

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        held = list(programs)
        self.ran += held
        for verdict in judge_plainly(held):
            yield Outcome(verdict.passed, verdict.status, "", verdict.seconds, "shared")

    @contextmanager
    def check(self, correctness: Correctness | None, profile: Profile) -> Iterator[Check | None]:
        yield unit_tests(self, correctness, {"name": "unit_tests"}) if correctness else None


def problem(name: str, **changes: object) -> dict[str, object]:
    parameters, body, given, value = SOLUTIONS[name]
    row = {
        "text": f"Write a Python function `{name}({parameters})`.",
        "tests": [f"assert {name}({given}) == {value}", f"assert {name}({given}) is not None"],
        "code": f"def {name}({parameters}): return {body}",
    }
    return {**row, **changes}


def recipe(
    folder: Path, rows: list[dict[str, object]], corpus: dict[str, object] | None = None, **changes: object
) -> Recipe:
    tests = {"form": "asserts", "column": "tests", "solution": "code"}
    path = write_corpus(folder / "code.jsonl", rows)
    data: dict[str, object] = {
        "name": "code",
        "corpora": [{"id": "test/code", "path": str(path), "prompt": "text", "tests": tests, **(corpus or {})}],
        "source_models": [{"id": MODEL, "samples": 4, "license": "mit"}],
        "correctness": {"check": "unit_tests"},
        "reward": {"model": "fusedata/hash-reward"},
        "dpo": {},
        "split": {"order": "shared", "test": 0.0},
    }
    return validate(Recipe, {**data, **changes}, "test")


def built(folder: Path, asked: Recipe, **seams: object) -> Path:
    build = Build(asked, Profile(name="test"), lambda *_: Coder(), lambda *_: HashReward(), **seams)
    build.run(folder / "run")
    return folder / "run"


ROWS = [
    *map(problem, PROBLEMS),
    problem("add", text="Without tests: `add(`", tests=[]),
    problem("add", text="With a wrong solution: `add(`", code="def add(a, b): return a"),
]


def dataset(run: Path, kind: str) -> pl.DataFrame:
    return pl.read_parquet(run / "dataset" / kind / "data" / "*.parquet")


def hold_to_the_method(run: Path) -> None:
    """SFT takes passing programs, pairs a passing one against a failing one; what no response solves is left out."""
    sft, dpo = dataset(run, "sft"), dataset(run, "dpo")
    names = {f"`{name}(": name for name in PROBLEMS}

    def solved(rows: pl.DataFrame, column: str) -> set[str]:
        return {name for mark, name in names.items() for turns in rows[column] if mark in turns[0]["content"]}

    assert solved(sft, "messages") == {"add", "double", "negate", "shout"}
    assert solved(dpo, "prompt") == {"add", "double", "shout"}
    assert set(sft["verdict"]) == set(dpo["chosen_verdict"]) == {"passed"}
    assert set(dpo["rejected_verdict"]) <= {"failed", "static_error"}
    assert set(dpo["rejected_sample"]) <= {1, 2}
    assert set(dpo["chosen_sample"]) <= {0, 3}
    rewards = {row["prompt_id"]: row["reward"] for row in sft.iter_rows(named=True)}
    assert all(rewards[row["prompt_id"]] == row["chosen_reward"] for row in dpo.iter_rows(named=True))


def test_programs_become_datasets_as_the_method_says(tmp_path: Path):
    hold_to_the_method(built(tmp_path, recipe(tmp_path, ROWS), open_check=Plainly().check))


@pytest.mark.docker
def test_programs_become_datasets_in_the_real_sandbox(tmp_path: Path):
    run = built(tmp_path, recipe(tmp_path, ROWS))
    hold_to_the_method(run)
    (progress,) = (row for row in status(run).progress if row.table == "verdicts")
    assert progress.verdicts == {"passed": 10, "failed": 6, "static_error": 4}


@pytest.mark.docker
def test_a_recipe_may_refuse_what_passes_beside_its_tests_only(tmp_path: Path):
    tests = {"form": "asserts", "column": "tests"}  # no solution: it would be refused as well
    row = problem("add", tests=["if True:\n    box = [1]\n    assert add(1, 2) == 3 and box"])
    strict = {"check": "unit_tests", "isolation": "split"}
    asked = recipe(tmp_path, [row], {"tests": tests}, correctness=strict)
    run = built(tmp_path, asked)
    (progress,) = (row for row in status(run).progress if row.table == "verdicts")
    assert progress.verdicts == {"passed": 0, "failed": 1, "static_error": 1, "unavailable": 2}
    assert not list((run / "dataset" / "sft").glob("data/*.parquet"))


def test_rows_that_cannot_be_judged_are_dropped_with_a_count_and_told(tmp_path: Path):
    run = built(tmp_path, recipe(tmp_path, ROWS), open_check=Plainly().check)
    (flow,) = status(run).flows
    assert flow.holds
    assert (flow.rows_read, flow.prompts) == (7, 5)
    assert flow.left_out == {"no tests": 1, "solution does not pass its tests": 1}
    assert flow.dropped == {"no correct response": 1}
    assert (flow.sft, flow.dpo, flow.both) == (4, 3, 3)
    card = (run / "dataset" / "dpo" / "README.md").read_text()
    assert "of the responses whose programs pass all unit tests" in card
    assert "the lowest reward among those that fail a test" in card
    assert "no tests | 1" in card
    assert "Tests are examples" in card


def test_verdicts_are_counted_by_their_status(tmp_path: Path):
    run = built(tmp_path, recipe(tmp_path, ROWS), open_check=Plainly().check)
    (progress,) = (row for row in status(run).progress if row.table == "verdicts")
    assert progress.verdicts == {"passed": 10, "failed": 6, "static_error": 4}
    assert "passed  failed  static_error" in invoke("status", run)
    overview = invoke("inspect", run)
    assert "passed" in overview
    assert "static_error" in overview
    one = invoke("inspect", run, "--prompt", read_prompts(read_run(run))["prompt_id"][0])
    assert "tests: assert " in one
    assert "gold answer" not in one


def test_a_second_build_judges_nothing_and_changed_tests_are_judged_anew(tmp_path: Path):
    first, second, third = Plainly(), Plainly(), Plainly()
    run = built(tmp_path, recipe(tmp_path, ROWS), open_check=first.check)
    before = dataset(run, "sft")
    built(tmp_path, recipe(tmp_path, ROWS), open_check=second.check)
    assert second.ran == []
    assert dataset(run, "sft").equals(before)
    harder = [problem("double", tests=["assert double(4) == 8", "assert double(5) == 10"]), *ROWS[2:], problem("add")]
    built(tmp_path, recipe(tmp_path, harder), open_check=third.check)
    texts = [program for program in third.ran if program.code.startswith("def ") and "\n" in program.code]
    assert {name for name in PROBLEMS for p in texts if f"def {name}(" in p.code} == {"double"}
    assert len(first.ran) > len(third.ran)


def test_a_build_over_responses_that_the_corpus_carries_needs_no_model(tmp_path: Path):
    carried = {"responses": {"column": "answer", "source_model": "human"}, "sampled": False}
    rows = [problem(name, answer=f"Try:\n```python\n{problem(name)['code']}\n```") for name in ("add", "double")]
    asked = recipe(tmp_path, rows, carried, dpo=None, source_models=[])
    run = built(tmp_path, asked, open_check=Plainly().check)
    assert dataset(run, "sft")["source_model"].to_list() == ["human", "human"]


class Watch(Silent):
    """Notes which stages began."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Advance]:
        self.seen.append(name)
        yield lambda _: None


def test_without_a_docker_engine_the_build_stops_before_anything_is_sampled(tmp_path: Path, monkeypatch):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    watch = Watch()
    with pytest.raises(VerifierError, match="There is no Docker engine") as caught:
        built(tmp_path, recipe(tmp_path, ROWS), reporter=watch)
    assert "\n" not in str(caught.value)
    assert watch.seen == []


def test_without_a_docker_engine_other_recipes_are_built_as_ever(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with opened(Correctness(check="math_answer"), Profile(name="test")) as check:
        assert check
        rows = pl.DataFrame({"answer": ["4"], "text": ["It is 4."], "tests": [None]})
        assert [verdict.status for verdict in check.judge(rows)] == ["right"]
    with opened(None, Profile(name="test")) as check:
        assert check is None
    run = built(tmp_path, recipe(tmp_path, ROWS, correctness=None))
    assert dataset(run, "sft").height == 7


@pytest.mark.docker
@pytest.mark.model
@pytest.mark.slow
def test_the_shipped_recipe_builds_pairs_and_sft_rows_under_the_local_profile(tmp_path: Path):
    run = tmp_path / "run"
    invoke("build", "code", "--profile", "local", "--limit", 16, "--out", run)
    assert dataset(run, "sft").height
    assert dataset(run, "dpo").height
    assert set(dataset(run, "sft")["verdict"]) == {"passed"}
    assert json.loads((run / "run.json").read_text())["stand_ins"]
