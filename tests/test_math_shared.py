"""The verifier on pairs of other projects' tests and on real corpora, where they lie beside the project."""

import json
import os
import random
from pathlib import Path

import pytest

from fusedata.verify.math_answer import MathVerifier

SHARED = Path(os.environ.get("FUSEDATA_SHARED") or Path(__file__).resolve().parents[2] / "shared")
CASES = SHARED / "math_cases.jsonl"
GSM8K = [SHARED / "corpora/math/gsm8k-train.jsonl", SHARED / "corpora/benchmarks/gsm8k-test.jsonl"]
OPEN_MATH = SHARED / "corpora/math/openmathinstruct2-train_1M-first100.jsonl"
MATH500 = SHARED / "corpora/benchmarks/math-500.jsonl"

# Where our verdict is not the expected one, with the reason. Label math first.
MATH_EXCEPTIONS = {
    ("", "0"): "an empty gold is unjudged: it says nothing of the response",
}
DELIBERATE = {
    ("2.74", "Soucis : 2,74 $ a.."): "a decimal comma inside a sentence is read as two numbers",
    ("4, 10, -2", "10, 4, -2"): "the order of a bare list is free",
    ("4, .1, 2", "0.1, 4, 2"): "the order of a bare list is free",
    ("33.3", "\\frac{100}{3}"): "fewer than 5 digits are no rounding",
    ("3", "3s"): "a bare letter is a symbol",
    ("1 and odd prime numbers", "1 and all odd prime numbers"): "answers in words must be the same words",
    (
        "$(\\begin{pmatrix}\\frac{1}{3}\\\\ \\frac{1}{5} \\end{pmatrix})$",
        "$\\begin{pmatrix}0.33\\\\0.2 \\end{pmatrix}$",
    ): "fewer than 5 digits are no rounding",
    (
        "(\\begin{pmatrix}0.29\\\\0.196\\\\-0.186\\\\\\end{pmatrix})",
        "\\begin{pmatrix}0.290243531202435\\\\0.196008371385084\\\\-0.186381278538813\\end{pmatrix}",
    ): "two decimals are compared as they stand",
    (
        "\\\\boxed{W(n) = 1 \\\\text{ and } W(n) = -1",
        "W(x)=1orW(x)=-1",
    ): "an unclosed box is no answer",
}


def rows(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project (FUSEDATA_SHARED names another place)")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def verifier():
    with MathVerifier(workers=2) as shared:
        yield shared


@pytest.fixture(scope="module")
def judged(verifier):
    cases = rows(CASES)
    return list(zip(cases, verifier.verify_many((c["gold"], c["pred"]) for c in cases), strict=True))


def missed(judged, *labels):
    return {
        (case["gold"], case["pred"]): verdict.passed
        for case, verdict in judged
        if case["label"] in labels and verdict.passed is not case["expected"]
    }


def test_math_label_is_right_but_for_the_listed_exceptions(judged):
    assert missed(judged, "math").keys() == MATH_EXCEPTIONS.keys()


def test_math_label_is_right_in_98_percent(judged):
    total = sum(case["label"] == "math" for case, _ in judged)
    assert len(missed(judged, "math")) <= 0.02 * total


def test_math_label_has_no_false_accept(judged):
    assert True not in missed(judged, "math").values()


def test_policy_and_choice_rows_differ_only_where_we_mean_it(judged):
    assert missed(judged, "policy", "choice").keys() == DELIBERATE.keys()


def solutions(name):
    if name == "gsm8k":
        return [(row["answer"].split("####")[-1].strip(), row["answer"]) for path in GSM8K for row in rows(path)]
    if name == "open math":
        return [(row["expected_answer"], row["generated_solution"]) for row in rows(OPEN_MATH)]
    return [(row["answer"], row["solution"]) for row in rows(MATH500)]


@pytest.mark.parametrize("name", ["gsm8k", "open math", "math-500"])
def test_every_real_solution_reaches_its_gold(verifier, name):
    pairs = solutions(name)
    wrong = [pair for pair, v in zip(pairs, verifier.verify_many(pairs), strict=True) if v.passed is not True]
    assert wrong == []


@pytest.mark.parametrize("name", ["gsm8k", "open math", "math-500"])
def test_every_real_gold_verifies_against_itself(verifier, name):
    golds = [(gold, gold) for gold, _ in solutions(name)]
    assert all(v.passed for v in verifier.verify_many(golds))


@pytest.mark.parametrize("name", ["gsm8k", "open math", "math-500"])
def test_gold_of_another_problem_is_refused(verifier, name):
    pairs = solutions(name)
    draw = random.Random(20)
    crossed = [(draw.choice(pairs)[0], response) for _, response in pairs for _ in range(3)]
    found = list(zip(crossed, verifier.verify_many(crossed), strict=True))
    accepted = {(gold, v.extracted) for (gold, _), v in found if v.passed}
    assert {pair for pair in accepted if bare(pair[0]) != bare(pair[1])} == set()


def bare(answer):
    """An answer without what the policies let a response leave out: a name, degrees, percent, dollars, digit groups."""
    for mark in ("^\\circ", "\\%", "\\$", "x=", ",", "\\!", " "):
        answer = answer.replace(mark, "")
    return answer


def test_gold_of_another_problem_is_seldom_unjudged(verifier):
    pairs = solutions("math-500")
    draw = random.Random(21)
    crossed = [(draw.choice(pairs)[0], response) for _, response in pairs for _ in range(3)]
    assert sum(v.passed is None for v in verifier.verify_many(crossed)) <= 3
