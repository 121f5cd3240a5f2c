"""Properties of the verifier that hold for whatever it is given."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.verify.math_answer import MathVerifier, extract_answer

VERIFIER = MathVerifier(workers=1, timeout=0.5)
WHOLE = st.integers(-(10**30), 10**30)
SLOW = settings(deadline=None, max_examples=60)
PIECES = st.sampled_from(
    [
        "\\frac",
        "{",
        "}",
        "\\boxed{",
        "1",
        "23",
        "x",
        "e",
        "i",
        "\\pi",
        "^",
        "_",
        "!",
        "(",
        ")",
        "[",
        ",",
        "\\sqrt",
        "+",
        "-",
        "/",
        "\\pm",
        "=",
        "<",
        "%",
        "$",
        " ",
        "\\text{cm}",
        "and",
        ".",
        "|",
        "\\{",
        "\\}",
        "\\infty",
        "\\cup",
        ":",
        "sin",
        "\\log",
        "&",
        "\\\\",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\begin",
        "'",
        "5.5",
        "3/4",
        "\x00",
        "答案是",
    ]
)


@pytest.fixture(scope="module", autouse=True)
def _closed():
    yield
    VERIFIER.close()


@given(st.text())
@SLOW
def test_no_text_raises(text):
    assert VERIFIER.verify("42", text).passed in {True, False, None}
    assert VERIFIER.verify(text, text).passed in {True, False, None}


@given(st.lists(PIECES, max_size=25).map("".join), st.lists(PIECES, max_size=12).map("".join))
@SLOW
def test_no_mixture_of_mathematics_raises(gold, response):
    assert VERIFIER.verify(gold, response).passed in {True, False, None}


@given(st.text())
def test_finding_an_answer_never_raises(text):
    assert isinstance(extract_answer(text), str | None)


@given(st.one_of(WHOLE.map(str), st.fractions().map(str), st.decimals(allow_nan=False, allow_infinity=False).map(str)))
@SLOW
def test_a_number_is_never_different_from_itself(text):
    assert VERIFIER.verify(text, text).passed is not False
    assert VERIFIER.verify(text, f"The answer is \\boxed{{{text}}}.").passed is not False


@given(WHOLE)
@SLOW
def test_a_number_and_the_next_are_never_equal(number):
    assert VERIFIER.verify(str(number), str(number + 1)).passed is False


@given(WHOLE)
@SLOW
def test_digit_groups_do_not_change_a_number(number):
    assert VERIFIER.verify(str(number), f"{number:,}").passed is True


@given(WHOLE, st.integers(1, 10**20), WHOLE, st.integers(1, 10**20))
@SLOW
def test_fractions_are_equal_exactly_when_their_values_are(top, bottom, other_top, other_bottom):
    gold, answer = f"\\frac{{{top}}}{{{bottom}}}", f"{other_top}/{other_bottom}"
    assert VERIFIER.verify(gold, answer).passed is (Fraction(top, bottom) == Fraction(other_top, other_bottom))


@given(st.integers(-50, 50), st.integers(1, 12), st.integers(-50, 50), st.integers(1, 12))
@SLOW
def test_exact_verdict_is_symmetric(top, bottom, other_top, other_bottom):
    left, right = (
        f"\\frac{{{top}}}{{{bottom}}}",
        str(other_top / other_bottom if other_bottom in {1, 2, 4} else other_top),
    )
    assert VERIFIER.verify(left, right).passed is VERIFIER.verify(right, left).passed


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=8, unique=True), st.randoms())
@SLOW
def test_order_of_a_set_is_free(numbers, draw):
    shuffled = list(numbers)
    draw.shuffle(shuffled)
    assert VERIFIER.verify(", ".join(map(str, numbers)), f"\\{{{', '.join(map(str, shuffled))}\\}}").passed is True


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6))
@SLOW
def test_order_of_a_tuple_counts(numbers):
    turned = numbers[::-1]
    gold, answer = (f"({', '.join(map(str, items))})" for items in (numbers, turned))
    assert VERIFIER.verify(gold, answer).passed is (numbers == turned)


@given(st.integers(1, 400), st.integers(1, 400))
@SLOW
def test_square_roots_are_equal_exactly_when_their_squares_are(left, right):
    assert VERIFIER.verify(f"\\sqrt{{{left}}}", f"$\\sqrt{{{right}}}$").passed is (left == right)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(2, 41))
@SLOW
def test_mixed_number_is_a_sum(whole, top, bottom):
    if top < bottom:
        total = Fraction(whole) + Fraction(top, bottom)
        assert VERIFIER.verify(f"{total.numerator}/{total.denominator}", f"{whole} {top}/{bottom}").passed is True
