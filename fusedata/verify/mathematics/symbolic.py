r"""What a worker process does with a pair that exact arithmetic left open: numbers first, then math-verify.

math-verify takes `1/2004!` for `1/2006!`, `52_8` for `52_9`, `1 - 1/e` for `1 + 1/e` and `4` for `4\sqrt(2)`. It is
therefore asked only where our own reading of the two answers cannot decide, and is never asked about the shapes
that it is known to lose: subscripts on numbers, factorials, times and ratios, powers of powers, long numbers.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from fusedata.verify.mathematics.clean import clean
from fusedata.verify.mathematics.compare import Judge, equal
from fusedata.verify.mathematics.numeric import NumericJudge
from fusedata.verify.mathematics.parse import readings
from fusedata.verify.mathematics.tokens import Node, NotMathError, changes_value
from fusedata.verify.mathematics.units import clash

MAX_SYMBOLIC_CHARS: Final = 400
MAX_NESTING: Final = 12
_HUGE: Final = re.compile(r"\d{16}|\^\s*\{?\s*\(?-?\d{4}|\^\s*\{[^{}]*\^|\^[^{]?\^|!|\d_|\d\s?:|\*\*|\d[eE]\d")
_TEXT: Final = re.compile(r"\\text\s*\{([^{}]*)\}")
_COMPOUND: Final = re.compile(
    r"\d[^\d]*\\text\s*\{[^{}]*[^\W\d_][^{}]*\}[^\d]*\d|\d\s*\\text\s*\{?\s*\d|(?<![\d^_}])\d+\s+\d+(?![\d/])|\d\s*'"
)
Verdict = tuple[bool | None, str]


def load_numbers() -> None:
    """Import what every question needs."""
    import mpmath  # type: ignore[import-untyped]  # noqa: F401, PLC0415


def load_library() -> None:
    """Import math-verify, and let it build its tables."""
    _math_verify("1", "x+1")


def decide(gold: str, answer: str, before_library: Callable[[], None]) -> Verdict:
    """Whether two bare answers are equal; None with a reason where neither way can tell.

    `before_library` is called before math-verify is asked.
    """
    trees = _trees(gold), _trees(answer)
    if trees[0] and trees[1]:
        verdict = any_reading(trees[0], trees[1], NumericJudge())
        if verdict is not None:
            return verdict, ""
        if clash(trees[0][0], trees[1][0]):
            return None, "could not be judged: units are not converted"
    return _library(gold, answer, before_library)


def _trees(text: str) -> list[Node]:
    try:
        return readings(text)
    except NotMathError:
        return []


def any_reading(golds: list[Node], answers: list[Node], judge: Judge) -> bool | None:
    """Equal if any reading of the one is equal to any of the other; different if none can be."""
    if golds and answers and clash(golds[0], answers[0]):
        return equal(golds[0], answers[0], judge)
    verdicts = [equal(gold, answer, judge) for gold in golds for answer in answers]
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _library(gold: str, answer: str, before_library: Callable[[], None]) -> Verdict:
    texts = clean(gold).replace("¤", ""), clean(answer).replace("¤", "")
    for text in texts:
        if reason := _refusal(text):
            return None, f"could not be judged: {reason}"
    before_library()
    verdict = _math_verify(*texts)
    if verdict is None:
        return None, "could not be judged: no parser reads both answers"
    return verdict, ""


def _refusal(text: str) -> str:
    """Why a text is kept from math-verify, or nothing."""
    if len(text) > MAX_SYMBOLIC_CHARS:
        return "the answer is too long"
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        return "the answer is nested too deeply"
    if _COMPOUND.search(text):
        return "the answer has several quantities"
    if any(changes_value(words) for words in _TEXT.findall(text)):
        return "words after a number change it"
    return "the answer holds numbers too big or of a kind that math-verify misreads" if _HUGE.search(text) else ""


def _math_verify(gold: str, answer: str) -> bool | None:
    """What math-verify says of two LaTeX answers; None where it cannot read one of them."""
    import math_verify

    def read(text: str) -> list[Any]:
        config = [math_verify.LatexExtractionConfig()]
        found: list[Any] = math_verify.parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
        return found

    try:
        parsed = read(gold), read(answer)
        if not parsed[0] or not parsed[1]:
            return None
        return bool(math_verify.verify(parsed[0], parsed[1], timeout_seconds=None))
    except Exception:  # noqa: BLE001 - foreign code on hostile input: whatever it raises is "cannot read"
        return None
