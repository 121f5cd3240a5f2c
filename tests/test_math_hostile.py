"""No text may hang, crash or run: texts made to break the verifier."""

import time

import pytest

from fusedata.verify.math_answer import MathVerifier

MEGABYTE = 1_000_000
LONG = {
    "braces": "{" * MEGABYTE,
    "boxes never closed": "\\boxed{" * 150_000,
    "boxes side by side": "\\boxed{1}" * 110_000,
    "boxes in a list": "\\boxed{1}," * 100_000,
    "dollars": "$" * MEGABYTE,
    "brackets": "(" * 500_000 + "1" + ")" * 500_000,
    "nested fractions": "\\frac{1}{" * 2000 + "1" + "}" * 2000,
    "the answer is": "the answer is " * 80_000,
    "Answer:": "Answer:\n" * 120_000,
    "答案": "答案" * 300_000,
    "numbers": "1 " * 500_000,
    "digit groups": "1,000," * 160_000,
    "text": "\\text{" * 150_000,
    "formulas": "$x$ " * 250_000,
    "openings": "\\(" * 400_000,
    "minus": "-" * MEGABYTE + "1",
    "bars": "|" * MEGABYTE,
    "blanks": " " * MEGABYTE + "1",
    "final answer": "final answer" * 90_000,
}
SHORT = [
    "\0",
    "\ud800 5",
    "the answer is \ud800",
    "\u202e42\u202c",
    "\\boxed{٤٢}",
    r"\boxed{9^{9^{9}}}",
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{10^{10^{10}}}",
    r"\boxed{(10^9)!}",
    r"\boxed{5!!!!!!!!!!!!!!!!!!!!!!!!!!!!!}",
    r"\boxed{\sin(9^{9^9})}",
    r"\boxed{(x+1)^{1000000}}",
    r"\boxed{(x+y+z+w)^{60}(a+b+c)^{60}}",
    r"\boxed{\binom{10^9}{5\cdot 10^8}}",
    r"\boxed{\sqrt{" + "7" * 300 + "}}",
    r"\boxed{" + r"\sqrt" * 700 + "2}",
    r"\boxed{" + r"\pm 1" * 500 + "}",
    r"\boxed{2" + "^2" * 600 + "}",
    r"\boxed{2" + "/2" * 700 + "}",
    r"\boxed{" + "+".join(["x"] * 700) + "}",
    r"\boxed{" + "(1," * 60 + ")" * 60 + "}",
    r"\boxed{" + "1" * 4000 + "}",
    r"\boxed{" + "1" * 100_000 + "}",
    r"\boxed{1e4000}",
    r"\boxed{1e-999999999999}",
    r"\boxed{\infty-\infty}",
    r"\boxed{0^0}",
    r"\boxed{0^{-1}}",
    r"\boxed{1/0}",
    r"\boxed{\log(\log(\log(0)))}",
    r"\boxed{\begin{pmatrix}1&2\\3\end{pmatrix}}",
    r"\boxed{x_{" + "{" * 200 + "}" * 200 + "}}",
]
GOLDS = ["42", r"\sqrt{7} + e^x", r"\{1, e\pi, 3\}", "yes"]


@pytest.fixture(scope="module")
def verifier():
    with MathVerifier(workers=1, timeout=1.0) as shared:
        yield shared


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_is_judged_within_two_seconds_of_the_processor(verifier, name):
    start = time.process_time()
    assert verifier.verify("42", LONG[name]).passed is not True
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("response", SHORT, ids=lambda text: ascii(text[:40]))
def test_hostile_answer_gets_a_verdict_in_time(verifier, response):
    verifier.verify(r"\tan^2 y + 1", r"\sec^2 y")
    for gold in GOLDS:
        start = time.process_time()
        verdict = verifier.verify(gold, response)
        assert time.process_time() - start < 5.0
        assert verdict.passed is not True or "42" in response or "٤" in response


@pytest.mark.parametrize("text", SHORT, ids=lambda text: ascii(text[:40]))
def test_hostile_gold_gets_a_verdict(verifier, text):
    assert verifier.verify(text, "43").passed is not True


@pytest.mark.parametrize(
    "wrapping", ["{}", r"\boxed{{{}}}", "The answer is {}", "#### {}", r"\boxed{{1 + {}}}", r"\boxed{{\text{{{}}}}}"]
)
def test_code_in_an_answer_is_never_run(verifier, tmp_path, wrapping):
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path('{trap}').touch()"
    for gold in ("42", code, r"\sqrt{2}"):
        verifier.verify(gold, wrapping.format(code))
        verifier.verify(gold, wrapping.format(f'exec("{code}")'))
    assert not trap.exists()


def test_power_too_big_to_compute_is_still_known_to_be_another_number(verifier):
    assert verifier.verify("1", r"\boxed{2^{2^{2^{49}}}}").passed is False


def test_power_too_big_to_compute_equals_itself(verifier):
    assert verifier.verify("9^{9^9}", r"\boxed{9^{9^{9}}}").passed is True


@pytest.mark.parametrize(
    "content", ["9" * 100_000, "\\frac{1}{" * 3000 + "1" + "}" * 3000], ids=["digits", "fractions"]
)
def test_closed_box_past_the_limit_is_unjudged(verifier, content):
    assert verifier.verify("18", f"\\boxed{{{content}}}").passed is None
