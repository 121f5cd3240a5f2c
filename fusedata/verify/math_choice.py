"""Answers to multiple-choice questions: the letter that an answer is, and the letter that a response settles on."""

import re
from typing import Final

from fusedata.verify.math_extract import ANCHOR, MAX_BARE, TAIL

_CHOICE: Final = re.compile(r"[\s$({\\*\[]*(?:(?:text|mathrm|textbf|mathbf|rm|bf)\s*\{)?\s*\(?([A-J])[)}\s$.:*\]\\]*")
_CHOICE_AND_TEXT: Final = re.compile(r"\s*(?:\(([A-J])\)|([A-J])[.):]?)\s+\S")
_CHOICE_START: Final = re.compile(r"\W{0,4}([A-J])(?![A-Za-z'])(?=\W|[\u4e00-\u9fff]|$)")
_LETTER: Final = re.compile(r"(?<![A-Za-z'\\])([A-J])(?![A-Za-z'])")
_DENIED: Final = re.compile(r"(?:not|n't(?:\s+be)?|non|isn't|不是|不选|neither|nor)\W*$", re.IGNORECASE)


def choice(answer: str) -> str | None:
    r"""The letter A to J that an answer consists of (`\textbf{(C)}`, `C Cecile`), or None."""
    if match := _CHOICE.fullmatch(answer[:60]):
        return match[1]
    if len(answer) <= MAX_BARE and (match := _CHOICE_AND_TEXT.match(answer)):
        return match[1] or match[2]
    return None


def is_choice(answer: str) -> bool:
    """Whether an answer is a bare letter A to J, in whatever dress."""
    return bool(_CHOICE.fullmatch(answer[:60]))


def locate_choice(response: str) -> str | None:
    """The letter that a response settles on: after "the answer is", else where it begins, else the last not denied."""
    tail = response[-TAIL:]
    anchors = [match.end() for match in ANCHOR.finditer(tail)]
    for at in reversed(anchors[-3:]):
        if letter := _LETTER.search(tail, at, at + 60):
            return letter[1]
    if start := _CHOICE_START.match(response):
        return start[1]
    letters = [m[1] for m in _LETTER.finditer(tail) if not _DENIED.search(tail, max(0, m.start() - 12), m.start())]
    return letters[-1] if letters else None
