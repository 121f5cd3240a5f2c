r"""Whether a response's final answer to a mathematics problem equals the gold answer: right, wrong, or unjudged.

The modules named here lie in `fusedata.verify.mathematics`. The answer is found (`extract`), read into a tree by a
grammar of our own (`parse`), and compared by exact arithmetic (`exact`, `compare`). What that leaves open goes to a
worker process with a hard limit of time and memory (`pool`, `worker`): many digits at several points (`numeric`), then
math-verify (`symbolic`). No text of a model reaches `eval`, `sympify` or `parse_expr` of ours; length, nesting, digits,
exponents and terms are bounded before anything is computed.

The three values of `passed`:

- True: the answers are equal.
- False: they are different; or the response gives no answer, or an unfinished one (`\boxed{4`).
- None: not judged, and `detail` says why: a limit or the time was passed, no parser reads both answers, or the gold
  answer is empty, unfinished or over a limit (such a gold does not verify against itself either).

Where neither grammar reads an answer, answers in plain words are compared as words, and an answer in words is no
number. An accepted wrong answer is worse than a refused right one, so that what is in doubt is refused:

| question | decided |
|---|---|
| `28%` and `0.28`; `28%` and `28` | equal; equal too, but only above 1: `0.5%` is never `0.5` |
| units (`5 cm` and `5`, `90^\circ` and `90`, `17\text{ any words}` and `17`) | may be left out |
| two known units that differ (`5 cm` and `5 m` or `5%`, am and pm) | different; unjudged if the numbers differ |
| a bare letter as a unit (`3s`) | is a symbol: different from `3`; `3\text{ s}` is equal |
| `1,234` | 1234; a list only if the other side is one. Between brackets a comma separates |
| `1 000`, `1\,000`, `1{,}000` | 1000 |
| `1,5` | 1.5, or the list 1 and 5: equal to either |
| `32, 349` | a list, not 32349 |
| rounding | a decimal of 5 or more digits is equal to a value without finite decimals that it rounds or cuts off |
| `\frac{\sqrt3}{3} \approx 0.577` | the exact part counts |
| names (`x = 2`, `f(x) = 2`, `(p, q) = (3, 2)`) | may be left out, not swapped: `x = 3` is not `y = 3` |
| an equation and one of its sides (`7 = 11a + c`) | different |
| order of a list, `\{...\}`, "and", "or" | free; free of repeats for sets and lists of tuples |
| order of a tuple or of an interval | counts; a bare list equals a tuple in the same order |
| `(0, 5)` and `0 < x < 5`, `x > 3` and `(3, \infty)` | equal |
| `\pm a` | the two values, in any order |
| `52_8` | digits and base count: neither `52_9` nor `52` |
| `3 3/4`, `3\frac{3}{4}` | 15/4, if the fraction is proper |
| two quantities (`3\text{ hours } 20\text{ minutes}`) | unjudged: never the first of them |
| words that change a number (`7\text{ tens}`, `18\text{ or more}`) | unjudged; thousand and the like multiply |
| `not 18`, `less than 18`, `18 to 20`, `18 or 19` in a sentence | never the bare 18; `negative 18` is -18 |
| `18 x 2 = 36` in a sentence | 36 |
| `0 = 18`, `18 \approx 20` | not a value: different from 18 |
| 2:3 and 4:6, 2:3 and 2/3 | unjudged: a ratio or a time; `5:00 p.m.` is `5 p.m.` |
| `3 and 1/2` | 3.5, or the two values: equal to either |
| `x \ge 2` and `x \le 5` against `[2, 5]` | unjudged |
| several boxes | one answer if joined by commas, "and", "or"; else the last. An unclosed last box is no answer |
| a stray backslash at the end | is ignored |
| words | compared without case, blanks and punctuation; `1 and odd primes` is not `1 and all odd primes` |
| a letter A to J as the gold | the letter that the response settles on (`D. it can't be A`, `(D) Alina`) |
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from types import TracebackType
from typing import ClassVar, Final, NamedTuple, Self

from fusedata.verify.mathematics.boxes import Found
from fusedata.verify.mathematics.choice import choice, is_choice, is_phrase, lettered, locate_choice
from fusedata.verify.mathematics.clean import clean
from fusedata.verify.mathematics.extract import MAX_BARE, extract_answer, is_marked, locate
from fusedata.verify.mathematics.judge import ExactJudge
from fusedata.verify.mathematics.parse import MAX_CHARS, readings
from fusedata.verify.mathematics.pool import Ticket, WorkerPool
from fusedata.verify.mathematics.rational import rational_or_none
from fusedata.verify.mathematics.symbolic import any_reading
from fusedata.verify.mathematics.tokens import Node, NotMathError

__all__ = ["MathVerdict", "MathVerifier", "extract_answer"]

WINDOW: Final = 512
_JUDGE: Final = ExactJudge()
_BLANK: Final = re.compile(r"(?<!\d) | (?!\d)")
_HOPELESS: Final = ("unfinished", "unbalanced", "empty", "too long", "too deeply")


def _cores() -> int:
    """Count the processors that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MathVerdict(NamedTuple):
    """What the verifier says of one response.

    `method` is "exact" (decided by exact arithmetic or as words), "symbolic" (decided, or given up, by a worker
    process) or "none" (nothing was compared). `detail` is empty or one short sentence.
    """

    passed: bool | None
    extracted: str | None
    method: str
    detail: str


class MathVerifier:
    """Decides pairs of gold answer and response. A context manager: it owns worker processes.

    Workers (one for each processor unless `workers` says otherwise) start when a pair first needs one. A pair may
    take a worker `timeout` seconds and `memory_mb` MiB of address space: past that it is unjudged. May be shared by
    threads.
    """

    VERSION: ClassVar[str] = f"math-answer 1, math-verify {version('math-verify')}, sympy {version('sympy')}"

    def __init__(self, *, workers: int | None = None, timeout: float = 2.0, memory_mb: int = 1024) -> None:
        self._pool = WorkerPool(workers=workers or _cores(), seconds=timeout, memory_mb=memory_mb)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. A verifier that is used again starts new ones."""
        self._pool.close()

    def verify(self, gold: str, response: str) -> MathVerdict:
        """Judge one response, which may be a bare answer. The gold may be a response too, if it marks its answer.

        Raises VerifierError where worker processes cannot be had; never because of what the texts hold.
        """
        return next(self.verify_many([(gold, response)]))

    def verify_many(self, pairs: Iterable[tuple[str, str]]) -> Iterator[MathVerdict]:
        """Judge pairs of gold and response, in their order, with at most `WINDOW` of them open at a time."""
        waiting: deque[MathVerdict | _Open] = deque()
        for gold, response in pairs:
            item = _fast(gold, response)
            if isinstance(item, _Open):
                self._pool.submit(item.ticket)
                self._pool.pump(block=False)
            waiting.append(item)
            while waiting and (len(waiting) >= WINDOW or _is_done(waiting[0])):
                yield self._finish(waiting.popleft())
        while waiting:
            yield self._finish(waiting.popleft())

    def _finish(self, item: "MathVerdict | _Open") -> MathVerdict:
        if isinstance(item, MathVerdict):
            return item
        self._pool.wait(item.ticket)
        return MathVerdict(item.ticket.verdict, item.found.answer, "symbolic", item.ticket.detail or item.found.detail)


class _Open(NamedTuple):
    """A pair that a worker decides."""

    found: Found
    ticket: Ticket


def _is_done(item: MathVerdict | _Open) -> bool:
    return isinstance(item, MathVerdict) or item.ticket.done


def _fast(gold: str, response: str) -> MathVerdict | _Open:
    """The verdict where it needs no worker."""
    wanted, problem = _gold(gold)
    if problem:
        return MathVerdict(None, None, "none", f"could not be judged: {problem}")
    found = _found(wanted, response)
    if found.answer is None:
        return MathVerdict(False, None, "none", found.detail)
    if found.answer == wanted:
        return MathVerdict(True, found.answer, "exact", found.detail)
    return _compared(wanted, found.answer, found)


@lru_cache(maxsize=4096)
def _gold(gold: str) -> tuple[str, str]:
    """The gold answer, and why it cannot serve as one."""
    answer = locate(gold).answer if is_marked(gold) else gold.strip()
    if not answer:
        return "", "the gold answer is empty" if not gold.strip() else "no answer can be read off the gold"
    if len(answer) > MAX_CHARS:
        return "", "the gold answer is too long"
    _, problem = _read(answer)
    if any(word in problem for word in _HOPELESS):
        return "", f"of the gold, {problem}"
    return answer, ""


def _read(answer: str) -> tuple[list[Node], str]:
    """The readings of an answer, or none and why."""
    try:
        return readings(answer), ""
    except NotMathError as error:
        return [], str(error)


def _found(gold: str, response: str) -> Found:
    """The response's answer: the whole of it where it is in words like the gold, a letter where the gold is one."""
    bare = response.strip() if len(response) <= MAX_BARE else ""
    if bare == gold or (bare and _words(gold) and _words(gold) == _words(bare)):
        return Found(bare)
    found = locate(response)
    if not choice(gold):
        return found
    if is_choice(gold) and (letter := lettered(response)):
        return Found(letter)
    if found.answer and (letter := choice(found.answer)):
        return Found(letter, found.detail) if is_choice(gold) or is_choice(found.answer) else found
    if is_choice(gold) and (not found.answer or found.detail or is_phrase(found.answer)):
        letter = locate_choice(response)
        return Found(letter) if letter else found
    return found


def _compared(gold: str, answer: str, found: Found) -> MathVerdict | _Open:  # noqa: PLR0911 - one for each way
    letters = choice(gold), choice(answer)
    if letters[0] and letters[1] and (is_choice(gold) or is_choice(answer)):
        return MathVerdict(letters[0] == letters[1], answer, "exact", found.detail)
    if len(answer) > MAX_CHARS:
        return MathVerdict(None, answer, "none", "could not be judged: the answer is too long")
    wanted, (read, problem) = _read(gold)[0], _read(answer)
    if wanted and read:
        verdict = any_reading(wanted, read, _JUDGE)
        if verdict is False and answer.endswith("!") and any_reading(wanted, _read(answer[:-1])[0], _JUDGE):
            return MathVerdict(None, answer, "exact", "could not be judged: a factorial or the end of a sentence")
        if verdict is not None:
            return MathVerdict(verdict, answer, "exact", found.detail)
    elif _close(gold) == _close(answer):
        return MathVerdict(True, answer, "exact", found.detail)
    elif _words(answer) and (_words(gold) or (wanted and rational_or_none(wanted[0]) is not None)):
        return MathVerdict(_words(gold) == _words(answer), answer, "exact", found.detail)
    elif "unfinished" in problem:
        return MathVerdict(False, answer, "none", problem)
    return _Open(found, Ticket(gold, answer))


def _close(answer: str) -> str:
    """An answer without blanks, but for those between digits: `1 8` is not `18`."""
    return _BLANK.sub("", clean(answer))


def _words(answer: str) -> str:
    """An answer in words, folded; nothing where it holds digits, formulas, or no word of three letters."""
    text = clean(answer[:MAX_CHARS]).replace("\\text", " ")
    if any(char.isdigit() or char in "\\=<>^+*/|" for char in text):
        return ""
    words = "".join(char if char.isalpha() else " " for char in text.casefold()).split()
    return "".join(words) if any(len(word) > 2 for word in words) else ""  # noqa: PLR2004 - longer than `xy`
