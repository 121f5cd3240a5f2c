# ruff: noqa: RUF001 - the signs that models write are the matter of this module
r"""Find the final answer in a response. Every search is linear in the text, or bounded.

Tried in this order, the later in the text winning between the first three:

1. `\boxed{...}` (nested; several boxes joined by a comma, "and" or "or" are one answer);
2. `#### 12`, as GSM8K writes;
3. "Final answer: ...";
4. "the answer is ...", "Answer: ...", 答案是, 答案为, 故选 and the like in other languages;
5. a response that is nothing but an answer;
6. the last number or formula, as a last resort that is told in the detail.
"""

import re
from typing import Final

from fusedata.verify.mathematics.boxes import PERCENT_AFTER, Found, boxes
from fusedata.verify.mathematics.parse import MAX_CHARS, readings
from fusedata.verify.mathematics.tokens import NotMathError, is_word

MAX_BARE: Final = 300
TAIL: Final = 20_000
_LAST_RESORT: Final = "no marked answer: the last value was taken"


_STRONG: Final = re.compile(r"final\s{1,4}answer|最终答案", re.IGNORECASE)
ANCHOR: Final = re.compile(
    r"(?:\banswers?|\bsolution set|\bsolutions?(?!\W{0,4}[:：]))\W{0,4}(?:to [^.:\n]{1,60}?|for [^.:\n]{1,60}?)?\s{0,3}"
    r"(?:is\b|are\b|was\b|would be\b|should be\b|equals\b|[:=：])"
    r"|\banswer\s{0,3}(?=[$\\])|答案\W{0,3}(?:应该是|应为|是|为|选|[:：])?|故选\W?|应选\W?"
    r"|réponse\s{0,3}(?:est\b|[:：])|respuesta\s{0,3}(?:es\b|:)|antwort\s{0,3}(?:ist\b|:)|risposta\s{0,3}(?:è|:)|ответ\s{0,3}[:—-]",
    re.IGNORECASE,
)
_STOP: Final = re.compile(r"\n|(?<![\d\s])\.(?=\s|$)|\.(?=\s+[A-Z])|。|<\||✅|\bI hope\b|\bbecause\b|\bsince\b")
_LEAD: Final = re.compile(
    r"(?:[\s*:：=_`>]|is\b|are\b|approximately\b|about\b|exactly\b|simply\b|therefore\b|thus\b"
    r"|option\b|choice\b|equal to\b|for sure\b|given by\b|just\b)*",
    re.IGNORECASE,
)
_SPAN: Final = re.compile(
    r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,1000})\$|\\\(((?:[^\\]|\\[^)]){1,1000})\\\)|\\\[((?:[^\\]|\\[^\]]){1,2000})\\\]"
)
_NUMBER: Final = re.compile(
    r"(?:(?<![A-Za-z0-9.)\]}])[-−])?[$€£¥]?(?<![A-Za-z0-9.\\^_,])(?:\d+\s\d+/\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,:]\d+)?|\.\d+)"
    r"(?:/\d+)?(?:\s{0,2}(?:×|\\times|\*|·)\s{0,2}10\^\{?-?\d+\}?)?(?:\s?\\?%)?(?![\d])"
)
_LATEX_RUN: Final = re.compile(
    r"[-\d(]{0,12}\\(?:frac|dfrac|tfrac|sqrt|pi|infty|begin|left|text|pm)[^\u4e00-\u9fff\n$]{0,400}"
)
_PROSE: Final = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}|[\u4e00-\u9fff]")
_STATED: Final = re.compile(r"(?:\b(?:is|are|was|equals|est|es|ist)|[是为])\W{0,4}$", re.IGNORECASE)
_LIMITED: Final = re.compile(
    r"(?:\b(?:not|never|neither|nor|than|at\s+(?:least|most)|between|from|but|except|double|twice|triple|half"
    r"|(?:half|third|quarter|negative|opposite|double|square)\s+of|up\s+to|under|over|above|below|exceeds)|n't)"
    r"(?:\s+(?:equal\s+to|equal|be|exactly|just))*[\s$(]*$",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(r"(?:\bnot|n't)(?:\s+be)?[\s$(]*$", re.IGNORECASE)
_NEGATIVE: Final = re.compile(r"\b(?:minus|negative)[\s$(]*$", re.IGNORECASE)
_CALCULATED: Final = re.compile(
    r"[\s$)]*(?:[A-Za-z]+\s+){0,2}(?:[-+*/×÷^]|\\(?:times|cdot|div)\b|x\b|(?:times|plus|minus|divided|multiplied)\b)"
    r"[^=,;\n]*=",
    re.IGNORECASE,
)
_CONTINUED: Final = re.compile(
    r"[\s,$)]*(?:[A-Za-z]+\s+){0,2}(?:(?:[-+*/×÷]|\\times|\\cdot|x)\s*[$\\]*\d|(?:times|plus|minus)\s+[$\\]*\d"
    r"|(?:divided|multiplied)\s+by\b|(?:more|less|fewer|greater)\s+than\b|or\s+(?:more|less|fewer)\b|out\s+of\b"
    r"|to\s+[$\\]*\d|R\s*\d|remainder\b|squared\b|cubed\b|factorial\b"
    r"|of\s+[$\\]*\d|(?:is|was)\s+(?:not|wrong|incorrect)\b)"
    r"|[\s$)]*(?:and|or|nor)\s+[$\\]*\d"
    r"|\s*(?!(?:for|in|at|per|by|with|on|of|from|when|after|as|if|every|each|about|within|before|during|is|was|are)\b)"
    r"[A-Za-z]+,?\s+(?:and\s+)?\d[\d.]*\s*[A-Za-z]",
    re.IGNORECASE,
)
_EDGES: Final = " \t\n\r*.,;:。，；：_`"
_STARTS: Final = " \t\n\r*,;:。，；：_`"


def extract_answer(response: str) -> str | None:
    r"""The final answer of a response as it is written there, or None where there is none.

    `extract_answer("so $x = \\boxed{\\frac12}$.")` is `\frac12`. Never raises.
    """
    return locate(response).answer


def locate(response: str) -> Found:
    """The final answer of a response, and a sentence where there is none or it is only a guess."""
    box = max(response.rfind("\\boxed"), response.rfind("\\fbox"))
    mark = response.rfind("####")
    strong = max((m.start() for m in _STRONG.finditer(response, max(0, len(response) - TAIL))), default=-1)
    if mark > box and mark >= strong and (line := _marked_line(response, mark)):
        return Found(line)
    if strong > box and (answer := _after(response, strong)):
        return Found(answer)
    if box >= 0:
        return boxes(response, box)
    return _unboxed(response)


def trim(text: str) -> str:
    """A text without the punctuation round it; the point of `.5` stays."""
    return text.rstrip(_EDGES).lstrip(_STARTS)


def is_marked(text: str) -> bool:
    """Whether a text marks an answer, so that it is a response and not a bare answer."""
    return (
        "\\boxed" in text
        or "\\fbox" in text
        or "####" in text
        or bool(_STRONG.search(text[-TAIL:]) or ANCHOR.search(text[-TAIL:]))
    )


def _marked_line(response: str, mark: int) -> str:
    start = mark
    while start < len(response) and response[start] in "# \t*":
        start += 1
    end = response.find("\n", start)
    return trim(response[start : end if end >= 0 else None])


# -- phrases -------------------------------------------------------------------------------------------------------


def _unboxed(response: str) -> Found:
    if not response.strip():
        return Found(None, "no final answer found")
    if len(response) <= MAX_BARE and _is_bare(response):
        return Found(trim(response) or None)
    tail = response[-TAIL:]
    anchors = [match.end() for match in ANCHOR.finditer(tail)]
    for at in reversed(anchors[-3:]):
        segment = _segment(tail, at)
        answer = _value(segment, leading=True)
        if answer and not (tail[at - 1] in ":：" and _goes_on(tail, at, segment, answer)):
            return Found(answer)
    value = _value(tail[-MAX_CHARS:], leading=False)
    return Found(value, _LAST_RESORT) if value else Found(None, "no final answer found")


def _goes_on(text: str, at: int, segment: str, answer: str) -> bool:
    """Whether "Answer:" only heads a solution: a sentence that does not begin with a value, and numbers after it."""
    rest = text.find(segment, at) + len(segment)
    return not segment.strip(_EDGES + "$(\\[{").startswith(answer[:4].strip("$(\\[{")) and any(
        map(str.isdigit, text[rest:])
    )


def _after(response: str, at: int) -> str | None:
    """The value after "final answer", which may go on with "is", a colon or a line end."""
    at = _STRONG.match(response, at).end()  # type: ignore[union-attr]
    if (more := ANCHOR.search(response, max(0, at - 7), at + 80)) and more.end() > at:
        at = more.end()
    return _value(_segment(response, at), leading=True)


def _segment(text: str, at: int) -> str:
    """The sentence that begins at `at`, past the marks before it."""
    lead = _LEAD.match(text, at, at + 200)
    at = lead.end() if lead else at
    end = _STOP.search(text, at, at + MAX_CHARS)
    segment = text[at : end.start() if end else at + MAX_CHARS]
    for opening, closing in (("\\[", "\\]"), ("$$", "$$"), ("\\begin", "\\end")):
        if segment.startswith(opening) and (close := text.find(closing, at + 2, at + MAX_CHARS)) >= 0:
            return text[at : close + 2]
    return segment


def _is_bare(text: str) -> bool:
    """Whether a text is an answer and nothing else: it parses, and is not a sentence."""
    words = sum(is_word(word) for word in _PROSE.findall(text))
    if is_marked(text) or words > 6 or _SENTENCE.search(text):  # noqa: PLR2004 - words of a unit
        return False
    if not words and ("\\" in text or _DIGITS_ONLY.fullmatch(text)):
        return True
    try:
        readings(text)
    except NotMathError as error:
        return "change" in str(error)
    return True


_DIGITS_ONLY: Final = re.compile(r"[-+\d.,'!^%$()/]{1,40}")
_SENTENCE: Final = re.compile(
    r"\b(?:is|are|was|the|so|therefore|thus|hence|we|have|get|gets|it|its|because|then|which|that|has|find|found|not|therefore|this|there|first|can't)\b"
    r"|[.!?]\s+\S|[\u4e00-\u9fff]{4}|\n",
    re.IGNORECASE,
)


def _value(text: str, *, leading: bool) -> str | None:
    """The value in a stretch of prose: the first thing in it where `leading`, else the last."""
    stripped = trim(text)
    if not stripped:
        return None
    if leading and len(stripped) <= MAX_BARE and _is_bare(stripped):
        return stripped
    if found := sorted(_values(text)):
        if leading:
            return _leading(text, found)
        start, end, value = max(found, key=lambda item: (item[1], -item[0]))
        return text[max(0, start - 12) : end] if _DENIED.search(text, max(0, start - 20), start) else value
    if leading and len(stripped) <= MAX_BARE and len(stripped.split()) <= 8:  # noqa: PLR2004 - a phrase
        return stripped
    return None


def _leading(text: str, found: list[tuple[int, int, str]]) -> str:
    """The value that answers in a sentence: what it begins with, what a sum comes to, what stands after "is"."""
    if not text[: found[0][0]].strip(_EDGES + "$("):
        return _accepted(text, found[-1] if _CALCULATED.match(text, found[0][1]) else found[0])
    if "=" in text:
        return _accepted(text, found[-1])
    stated = [item for item in found if _STATED.search(text, max(0, item[0] - 12), item[0])]
    numbers = [item for item in found if any(char.isdigit() for char in item[2])]
    return _accepted(text, (stated or numbers or [found[-1]])[0])


def _accepted(text: str, item: tuple[int, int, str]) -> str:
    """A value with the sign that a word before it gives; the whole sentence where words make it another value."""
    start, end, value = item
    if _LIMITED.search(text, max(0, start - 40), start) or _CONTINUED.match(text, end):
        return trim(text)
    return f"-{value}" if _NEGATIVE.search(text, max(0, start - 20), start) else value


def _values(text: str) -> list[tuple[int, int, str]]:
    """The formulas and numbers in a text as (start, end, value); a number inside a formula does not count."""
    found = [span for match in _SPAN.finditer(text) if (span := _span(text, match))]
    for match in _LATEX_RUN.finditer(text):
        start = match.start()
        if not _inside(start, found) and (value := _longest(match[0])):
            found.append((start, start + len(value), value))
    numbers = [(m.start(), m.end(), m[0].strip()) for m in _NUMBER.finditer(text) if not _inside(m.start(), found)]
    return found + numbers


def _span(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """A formula between dollars or brackets, with a percent sign that follows it; None where it is prose."""
    value = next(group for group in match.groups() if group).strip()
    if not _parses(value) and ("\\" not in value or _PROSE.search(value)):
        return None
    percent = "\\%" if "%" not in value and PERCENT_AFTER.match(text, match.end()) else ""
    return match.start(), match.end(), value + percent


def _inside(at: int, spans: list[tuple[int, int, str]]) -> bool:
    return any(start <= at < end for start, end, _ in spans)


def _parses(value: str) -> bool:
    try:
        return bool(readings(value))
    except NotMathError:
        return False


def _longest(run: str) -> str | None:
    """The longest start of a run of LaTeX that is an answer, cut back at blanks and closing marks."""
    cuts = [at for at, char in enumerate(run) if char in " )]},;."][-12:]
    for at in (len(run), *reversed(cuts)):
        for candidate in (run[:at], run[: at + 1]):
            if trim(candidate) and not _PROSE.search(candidate.replace("\\", "\\\\")) and _parses(candidate):
                return trim(candidate)
    return None
