"""The verifier on small cases of our own: what is equal, what is different, what is found, what is left open."""

import json
from pathlib import Path

import pytest

from fusedata.verify.math_answer import MathVerdict, MathVerifier, extract_answer

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "math_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def verifier():
    with MathVerifier(workers=1) as shared:
        yield shared


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{p['gold']} | {p['response']}"[:60] for p in PAIRS])
def test_pair_is_judged_as_written(verifier, pair):
    assert verifier.verify(pair["gold"], pair["response"]).passed is pair["passed"]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so $x = \boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{\text{a } \{2\}}", r"\text{a } \{2\}"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1 , 2"),
        (r"\boxed{1}, \boxed{2}, or \boxed{3}", "1 , 2 , 3"),
        (r"First \boxed{1}. Then, and only then, \boxed{2}", "2"),
        (r"\fbox{7}", "7"),
        (r"the share is \boxed{20} percent", r"20\%"),
        ("She sold 48/2 = 24.\n#### 1,080", "1,080"),
        ("The answer is 42 because 6 * 7 = 42.", "42"),
        ("Answer: $x = 5$", "$x = 5$"),
        ("**Final Answer:** 12 apples. I hope it is correct.", "12 apples"),
        ("\\boxed{255} is the interest. Final Answer: The final answer is $10,455$.", "$10,455$"),
        ("经过计算，答案是 15。", "15"),
        ("所以答案为：$\\frac{2}{5}$。", r"$\frac{2}{5}$"),
        ("答案：每份应该是 (\\frac{2}{5}) 吨。", r"(\frac{2}{5})"),
        ("故选B。", "B"),
        ("Then 3 + 4 = 7 birds sit on 2 fences, 14 in all", "14"),
        ("3 3/4", "3 3/4"),
        ("", None),
        ("I do not know.", None),
        (r"\boxed{", None),
        (r"\boxed{}", None),
        (r"first \boxed{3}, so \boxed{4", None),
    ],
)
def test_final_answer_is_found(response, answer):
    assert extract_answer(response) == answer


def test_last_number_as_last_resort_is_told_in_the_detail(verifier):
    assert verifier.verify("7", "We count 3 and 4, which makes 7 birds in the end").detail == (
        "no marked answer: the last value was taken"
    )


def test_no_answer_is_wrong_and_says_so(verifier):
    assert verifier.verify("42", "I do not know.") == MathVerdict(False, None, "none", "no final answer found")


def test_unclosed_box_is_wrong_and_says_so(verifier):
    assert verifier.verify("42", r"so \boxed{42") == MathVerdict(False, None, "none", "the final answer is unfinished")


def test_empty_gold_is_unjudged(verifier):
    assert verifier.verify(" ", "42") == MathVerdict(
        None, None, "none", "could not be judged: the gold answer is empty"
    )


@pytest.mark.parametrize("gold", ["", r"\boxed{", r"\frac{1}{", "{" * 100, "1" * 5000, "see \\boxed{4"])
def test_gold_that_cannot_serve_does_not_verify_against_itself(verifier, gold):
    assert verifier.verify(gold, gold).passed is None


def test_gold_may_be_a_response_itself(verifier):
    assert verifier.verify(r"Adding up, we get $\boxed{12}$.", "The answer is 12.").passed is True


def test_letter_gold_takes_the_letter_that_the_response_settles_on(verifier):
    assert verifier.verify("D", "The answer is for sure D, it can't be A or B").extracted == "D"


def test_pair_that_needs_no_worker_starts_none():
    with MathVerifier(workers=1) as verifier:
        verifier.verify("1/2", "0.5")
        assert verifier._pool.pids() == []


def test_method_tells_who_decided(verifier):
    methods = {
        verifier.verify("1/2", "0.5").method,
        verifier.verify(r"\tan^2 y + 1", r"\sec^2 y").method,
        verifier.verify("1", "").method,
    }
    assert methods == {"exact", "symbolic", "none"}


def test_version_names_the_libraries_that_decide():
    assert "math-verify 0." in MathVerifier.VERSION
    assert "sympy 1." in MathVerifier.VERSION


def test_many_keeps_the_order_of_its_input(verifier):
    pairs = [("2", "2"), (r"\sin(2x)", r"2\sin x\cos x"), ("3", "4"), (r"\sec^2 x", r"1+\tan^2 x"), ("5", "5")] * 5
    assert [v.passed for v in verifier.verify_many(pairs)] == [True, True, False, True, True] * 5


def test_many_reads_its_input_as_it_goes(verifier):
    seen = []

    def pairs():
        for number in range(5000):
            seen.append(number)
            yield str(number), str(number)

    next(iter(verifier.verify_many(pairs())))
    assert len(seen) == 1
