"""Answers to multiple-choice questions: the letter that an answer is, and the letter that a response settles on."""

import re
from typing import Final

from fusedata.verify.mathematics.extract import ANCHOR, MAX_BARE, TAIL
from fusedata.verify.mathematics.tokens import is_word

_DRESS: Final = 60
_CHOICE: Final = re.compile(r"[\s$({\\*\[]*(?:(?:text|mathrm|textbf|mathbf|rm|bf)\s*\{)?\s*\(?([A-J])[)}\s$.:*\]\\]*")
_CHOICE_AND_TEXT: Final = re.compile(r"\s*(?:\(([A-J])\)|([A-J])[.):]?)\s+\S")
_CHOICE_START: Final = re.compile(r"\W{0,4}([A-J])(?![A-Za-z'])(?=\W|[\u4e00-\u9fff]|$)")
_LETTER: Final = re.compile(r"(?<![A-Za-z'\\])([A-J])(?![A-Za-z'])")
_DENIED: Final = re.compile(r"(?:not|n't(?:\s+be)?|non|isn't|不是|不选|neither|nor)\W*$", re.IGNORECASE)
_WORD: Final = re.compile(r"(?<![\\A-Za-z])[^\W\d_]+")
_DRESSED: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|bf|rm)\s*\{\s*(\([A-J]\))\s*\}")
_SPACE: Final = re.compile(r"(?:\\(?:[ ,;:!]|q?quad\b)|~|\s)+")
_LETTERED: Final = re.compile(r"[\s:*$]{0,4}(?:\(([A-J])\)|([A-J])\))(?!\s*(?:or|and)\b)[\s.:]")
_SEVERAL: Final = re.compile(r"[)\s.*]{0,4}(?:,|&|and\b|or\b|和|或)[(\s*]{0,4}(?-i:[A-J])(?![A-Za-z'])", re.IGNORECASE)


def choice(answer: str) -> str | None:
    r"""The letter A to J that an answer consists of (`\textbf{(C)}`, `C Cecile`), or None."""
    if len(answer) <= _DRESS and (match := _CHOICE.fullmatch(answer)):
        return match[1]
    if len(answer) <= MAX_BARE and "\\" in answer:
        answer = _SPACE.sub(" ", _DRESSED.sub(r" \1 ", answer))
    match = _CHOICE_AND_TEXT.match(answer) if len(answer) <= MAX_BARE else None
    if match and not _SEVERAL.match(answer, max(match.end(1), match.end(2))):
        return match[1] or match[2]
    return None


def is_choice(answer: str) -> bool:
    """Whether an answer is a bare letter A to J, in whatever dress."""
    return len(answer) <= _DRESS and bool(_CHOICE.fullmatch(answer))


def is_phrase(answer: str) -> bool:
    """Whether an answer has words in it, other than "and" and "or"."""
    return any(is_word(word) for word in _WORD.findall(answer) if word.lower() not in {"and", "or"})


def lettered(response: str) -> str | None:
    """The letter that the last "the answer is" is followed by where a text comes after it: `(C) 15`."""
    tail = response[-TAIL:]
    ends = [match.end() for match in ANCHOR.finditer(tail)]
    match = _LETTERED.match(tail, ends[-1]) if ends and "\\boxed" not in response else None
    return (match[1] or match[2]) if match and not _SEVERAL.match(tail, match.end()) else None


def locate_choice(response: str) -> str | None:
    """The letter that a response settles on: after "the answer is", else where it begins, else the last not denied."""
    tail = response[-TAIL:]
    anchors = [match.end() for match in ANCHOR.finditer(tail)]
    for at in reversed(anchors[-3:]):
        if letter := _LETTER.search(tail, at, at + 60):
            return None if _SEVERAL.match(tail, letter.end()) else letter[1]
    if start := _CHOICE_START.match(response):
        return None if _SEVERAL.match(response, start.end()) else start[1]
    letters = [m[1] for m in _LETTER.finditer(tail) if not _DENIED.search(tail, max(0, m.start() - 12), m.start())]
    return letters[-1] if letters else None
