# ruff: noqa: RUF001 - the signs that models write are the matter of this module
r"""Boxed answers: `\boxed{...}`, nested, and several of them that are one answer."""

import re
from typing import Final, NamedTuple

from fusedata.verify.mathematics.parse import MAX_CHARS

MAX_BOXES: Final = 32
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_JOINT_NOISE: Final = re.compile(
    r"\\(?:quad|qquad|text|mathrm|textbf|[()\[\],;:! ])|[\s${}.]|\*\*"
    r"|\\[A-Za-z]*(?:_\{?\w+\}?)?\s*=|[A-Za-z](?:_\{?\w+\}?)?\s*="
)
_JOINT: Final = re.compile(r"(?:[,;和或、，]|and|or|&)+(?:and|or)?", re.IGNORECASE)
_JOINT_PHRASE: Final = re.compile(r"[^.!?\n]{0,40}(?:\band\b|\bor\b|和|或)\s?[^.!?\n]{0,20}")
PERCENT_AFTER: Final = re.compile(r"\s{0,3}(?:\$|\\\))?\s{0,3}(?:\\?%|percent\b|per cent\b|pct\b)")


class Found(NamedTuple):
    """What was read off a response: the answer, or None and why."""

    answer: str | None
    detail: str = ""


def boxes(response: str, last: int) -> Found:
    """The last box, with the boxes before it that are joined to it."""
    content, end = _box(response, last, len(response))
    if content is None:
        return Found(None, "the final answer is unfinished")
    if PERCENT_AFTER.match(response, end) and not content.rstrip().endswith("%"):
        content += "\\%"
    contents, start = [content], last
    for _ in range(MAX_BOXES):
        nearest = max(0, start - MAX_CHARS)
        before = max(response.rfind("\\boxed", nearest, start), response.rfind("\\fbox", nearest, start))
        if before < 0:
            break
        content, end = _box(response, before, start)
        if content is None or not end <= start or not _joins(response[end:start]):
            break
        start = before
        if content not in contents:
            contents.append(content)
    answer = " , ".join(reversed(contents)).strip()
    return Found(answer) if answer else Found(None, "no final answer found")


def _box(response: str, at: int, limit: int) -> tuple[str | None, int]:
    """The content of the box at `at` and where it ends; None where it is never closed."""
    match = _BOX.match(response, at)
    if not match or match.end() >= len(response):
        return None, len(response)
    start = match.end()
    if response[start] != "{":
        end = start + 1
        while end < len(response) and response[end].isalnum():
            end += 1
        return response[start:end], end
    depth = 0
    for brace in _BRACE.finditer(response, start, limit):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if not depth:
            return response[start + 1 : brace.start()], brace.end()
    return None, len(response)


def _joins(between: str) -> bool:
    """Whether the text between two boxes makes one answer of them."""
    if len(between) > 120:  # noqa: PLR2004 - a joint is short
        return False
    if ". " in between or "\n\n" in between:
        return False
    left = _JOINT_NOISE.sub("", between)
    return (
        not left
        or bool(_JOINT.fullmatch(left))
        or bool(_JOINT_PHRASE.fullmatch(" ".join(between.split())) and "=" not in left)
    )
