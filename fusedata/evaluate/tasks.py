"""Benchmarks as questions: what a model is asked, zero-shot and as one user turn, and what its answer is judged by.

The prompts are ours, the same for every model: figures compare models with each other, not with published tables.
"""

import base64
import io
import json
import pickle
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fusedata.schema import digest, ranked
from fusedata.verify.mathematics.boxes import boxes

JudgedBy = Literal["math", "choice", "code"]
Row = Mapping[str, Any]


class Question(NamedTuple):
    """One item: its name, the prompt, the facts that its answer is judged by, and what is asked after the answer."""

    item: str
    prompt: str
    facts: Mapping[str, Any]
    then: str | None = None


@dataclass(frozen=True)
class Task:
    """How a benchmark is asked: the columns it is made of, its judge, and what becomes of a row (None: left out)."""

    judged_by: JudgedBy
    columns: tuple[str, ...]
    ask: Callable[[str, Row], Question | None]


_BOXED = "\n\nReason step by step, and put the final answer within \\boxed{}."
_LETTER = '\n\nReason step by step, then finish with "The answer is (X)", where X is the letter of the right choice.'
_WHOLE = "Answer with {what} in one Python code block."


def _gsm8k(item: str, row: Row) -> Question:
    gold = str(row["answer"]).rpartition("####")[2].strip().replace(",", "")
    return Question(item, row["question"] + _BOXED, {"gold": gold})


def _math(item: str, row: Row) -> Question | None:
    gold = row.get("answer")
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    if gold is None:
        solution = str(row["solution"])
        gold = boxes(solution, solution.rfind("\\boxed")).answer if "\\boxed" in solution else None
    problem = row.get("problem") or row.get("question")
    return None if gold is None or not problem else Question(item, problem + _BOXED, {"gold": str(gold)})


def _choice(item: str, question: str, choices: Sequence[str], right: int) -> Question:
    lettered = "\n".join(f"{letter(number)}. {choice.strip()}" for number, choice in enumerate(choices))
    return Question(item, f"{question.strip()}\n\n{lettered}{_LETTER}", {"gold": letter(right)})


def letter(number: int) -> str:
    """Name a choice by its number: 0 is A."""
    return chr(ord("A") + number)


def _mmlu_pro(item: str, row: Row) -> Question:
    return _choice(item, row["question"], row["options"], ord(row["answer"]) - ord("A"))


def _mmlu_redux(item: str, row: Row) -> Question | None:
    """Only questions that the annotators found nothing wrong with."""
    if row.get("error_type", "ok") != "ok":
        return None
    return _choice(item, row["question"], row["choices"], int(row["answer"]))


def _gpqa(item: str, row: Row) -> Question:
    """The choices in an order of their own for each question, the same for every model."""
    right = row["Correct Answer"]
    choices = [right, *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
    choices = [choices[place] for place in ranked(f"gpqa {item}", 0, map(digest, choices))]
    return _choice(item, row["Question"], choices, choices.index(right))


def _humaneval(item: str, row: Row) -> Question:
    prompt, name = row["prompt"], row["entry_point"]
    before = prompt[: re.search(rf"^def {re.escape(name)}\b", prompt, re.MULTILINE).start()]  # type: ignore[union-attr]
    text = f"Complete this Python function. {_WHOLE.format(what='the whole function')}\n\n```python\n{prompt}\n```"
    return Question(item, text, {"check": row["test"], "entry_point": name, "preamble": before})


def _mbpp(item: str, row: Row) -> Question:
    tests = list(row["test_list"])
    text = row.get("text") or row.get("prompt")
    shown = "\n".join(tests)
    prompt = f"{text}\n\nYour code should pass these tests:\n\n{shown}\n\n{_WHOLE.format(what='it')}"
    return Question(item, prompt, {"tests": tests, "setup": row.get("test_setup_code") or ""})


def _livecodebench(item: str, row: Row) -> Question:
    tests = json.loads(row["public_test_cases"]) + _hidden(row["private_test_cases"])
    starter = row.get("starter_code") or ""
    if starter.strip():
        name = json.loads(row["metadata"])["func_name"]
        begun = f"Begin with this code:\n\n```python\n{starter}\n```\n\n{_WHOLE.format(what='the whole class')}"
        asserts = [_call(name, test) for test in tests]
        return Question(item, f"{row['question_content']}\n\n{begun}", {"tests": asserts})
    told = "Read from standard input, and write to standard output. " + _WHOLE.format(what="the whole program")
    cases = [{"stdin": test["input"], "stdout": test["output"]} for test in tests]
    return Question(item, f"{row['question_content']}\n\n{told}", {"cases": cases})


def _call(name: str, test: Mapping[str, str]) -> str:
    arguments = ", ".join(repr(json.loads(line)) for line in test["input"].splitlines() if line.strip())
    return f"assert Solution().{name}({arguments}) == {json.loads(test['output'])!r}"


class _Texts(pickle.Unpickler):
    """Reads texts and nothing else: a pickle may otherwise run anything."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        raise pickle.UnpicklingError(f"{module}.{name} is no text")


def _hidden(packed: str) -> list[dict[str, str]]:
    """Read private tests: JSON, or JSON pickled, compressed and written in base 64."""
    try:
        tests: list[dict[str, str]] = json.loads(packed)
    except ValueError:
        tests = json.loads(_Texts(io.BytesIO(zlib.decompress(base64.b64decode(packed)))).load())
    return tests


_INCORRECT = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))
_CASES = ("question_content", "starter_code", "public_test_cases", "private_test_cases", "metadata")

TASKS: dict[str, Task] = {
    "gsm8k": Task("math", ("question", "answer"), _gsm8k),
    "math": Task("math", ("problem", "solution"), _math),
    "math-500": Task("math", ("problem", "answer"), _math),
    "amc23": Task("math", ("question", "problem", "answer"), _math),
    "mmlu-pro": Task("choice", ("question", "options", "answer"), _mmlu_pro),
    "mmlu-redux": Task("choice", ("question", "choices", "answer", "error_type"), _mmlu_redux),
    "gpqa-diamond": Task("choice", ("Question", "Correct Answer", *_INCORRECT), _gpqa),
    "humaneval": Task("code", ("prompt", "test", "entry_point"), _humaneval),
    "mbpp": Task("code", ("text", "prompt", "test_list", "test_setup_code"), _mbpp),
    "livecodebench-2408-2411": Task("code", _CASES, _livecodebench),
}
"""By the names of `contamination.benchmarks`."""


def taken(questions: list[Question], limit: int | None) -> list[Question]:
    """Take `limit` questions by the hash of their names, in their order: the same ones each time. None: all."""
    if limit is None or limit >= len(questions):
        return questions
    order = ranked("evaluate", 0, (digest(question.item) for question in questions))
    return [questions[number] for number in sorted(order[:limit])]
