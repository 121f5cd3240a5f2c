"""Answers for benchmarks with tools of their own: in the files that these read, with the command to go on with.

What files and commands are was read in the tools' own code: alpaca-eval 0.6.6 and fschat 0.2.36 from PyPI (a test holds
our files to them), lmarena/arena-hard-auto since its version 2.0 (bed1604), THUDM/AlignBench (e505054) and
LiveBench/LiveBench (01541de).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusedata.errors import RunError
from fusedata.evaluate.tasks import Question, Row
from fusedata.store import first_line, writing

Lines = Iterator[tuple[str, Mapping[str, Any]]]
"""Rows of answer files, each after the file that it goes to."""
Pairs = Sequence[tuple[Question, Sequence[str]]]
"""Questions with the answer to each of their turns."""
_RELEASE = "2024-08-31"
"""Of LiveBench; questions that were taken out until then do not belong to it."""
_FIRST = 81
"""The number that MT-Bench's own question file begins with; the copy on the hub has the same order and no numbers."""


@dataclass(frozen=True)
class Tool:
    """A benchmark's own tool: the columns that are read, and what becomes of them.

    `ask` makes the question of a row (None: it has none), as tasks do. `files` makes the rows of the answer files out
    of a model's name, questions and answers. `command` goes on from them; {folder} and {model} stand for the files and
    the model's name. `judgments` names the files in which the tool leaves a score a question, if it judges by rules.
    """

    columns: tuple[str, ...]
    ask: Callable[[str, Row], Question | None]
    files: Callable[[str, Pairs], Lines]
    command: str
    judgments: str | None = None

    def write(self, folder: Path, model: str, pairs: Pairs) -> None:
        """Write the answer files of a model. Raises RunError."""
        files: dict[str, list[Mapping[str, Any]]] = {}
        for name, row in self.files(model, pairs):
            files.setdefault(name, []).append(row)
        for name, rows in files.items():
            with writing(folder / name) as file:
                if name.endswith(".json"):
                    file.write(json.dumps(rows, ensure_ascii=False, indent=1).encode())
                else:
                    file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)

    def scores(self, folder: Path, model: str, questions: Sequence[Question]) -> list[float | None]:
        """Give what the tool has scored a model's answers, from 0 to 1; None: not judged; empty: nothing is judged yet.

        Raises RunError.
        """
        if self.judgments is None:
            return []
        found: dict[str, float] = {}
        for path in sorted(folder.glob(self.judgments)):
            try:
                rows = map(json.loads, path.read_text("utf-8").splitlines())
                found |= {str(row["answer_id"]): float(row["score"]) for row in rows}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path}: is no file of judgments ({first_line(error)}): remove it.") from error
        scores = [found.get(_answer_id(model, question.facts["question_id"])) for question in questions]
        return scores if any(score is not None for score in scores) else []


def _question(item: str, row: Row, said: Any) -> Question | None:  # noqa: ANN401 - a text, turns of texts, or of tables
    turns = said if isinstance(said, list) else [said]
    prompt, *then = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns] or [None]
    return Question(item, prompt, row, then[0] if then else None) if prompt else None


def _file(model: str) -> str:
    """Name a model as a file."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-")


def _answer_id(model: str, question: object) -> str:
    return f"{_file(model)}-{question}"


def _choices(model: str, question: Question, answers: Sequence[str]) -> dict[str, Any]:
    """Give an answer as FastChat keeps it, and what was made of it."""
    number = question.facts["question_id"]
    facts = {"question_id": number, "answer_id": _answer_id(model, number), "model_id": _file(model)}
    return {**facts, "choices": [{"index": 0, "turns": list(answers)}]}


def _ask_alpaca_eval(item: str, row: Row) -> Question | None:
    return _question(item, row, row["instruction"])


def _alpaca_eval(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        facts = {"instruction": question.prompt, "output": answers[0], "generator": _file(model)}
        yield f"{_file(model)}.json", {**facts, "dataset": question.facts.get("dataset")}


def _ask_mt_bench(item: str, row: Row) -> Question | None:
    number = row.get("question_id")
    number = _FIRST + int(item.removeprefix("row ")) if number is None else number
    return _question(item, {**row, "question_id": number}, row.get("turns") or row.get("prompt"))


def _mt_bench(model: str, pairs: Pairs) -> Lines:
    return ((f"{_file(model)}.jsonl", _choices(model, question, answers)) for question, answers in pairs)


def _ask_arena_hard(item: str, row: Row) -> Question | None:
    return _question(item, row, row.get("turns") or row.get("prompt"))


def _arena_hard(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        number = question.facts.get("uid") or question.facts["question_id"]  # the same, by its name until 2025
        said = {"role": "assistant", "content": {"answer": answers[0]}}
        row = {"uid": number, "ans_id": _answer_id(model, number), "model": _file(model)}
        yield f"{_file(model)}.jsonl", {**row, "messages": [{"role": "user", "content": question.prompt}, said]}


def _ask_alignbench(item: str, row: Row) -> Question | None:
    return _question(item, row, row["question"])


def _alignbench(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        named = {"model_id": _file(model), "answer_id": _answer_id(model, question.facts["question_id"])}
        yield f"{_file(model)}.jsonl", {**question.facts, **named, "answer": answers[0]}


def _ask_livebench(item: str, row: Row) -> Question | None:
    removed = str(row.get("livebench_removal_date") or "")
    return None if removed and removed[: len(_RELEASE)] <= _RELEASE else _question(item, row, row["turns"])


def _livebench(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        folder = f"{question.facts['category']}/{question.facts['task']}/model_answer"
        yield f"{folder}/{_file(model)}.jsonl", _choices(model, question, answers)


TOOLS: dict[str, Tool] = {
    "mt-bench": Tool(
        ("question_id", "turns", "prompt"),
        _ask_mt_bench,
        _mt_bench,
        "in fastchat/llm_judge of a clone of lm-sys/FastChat (pip install fschat 'openai<1' anthropic), with a judge"
        " that is served as gpt-4: mkdir -p data/mt_bench/model_answer && cp {folder}/{model}.jsonl"
        " data/mt_bench/model_answer/ && OPENAI_API_BASE=… OPENAI_API_KEY=… python gen_judgment.py --model-list {model}"
        " && python show_result.py --model-list {model}",
    ),
    "alpaca-eval-2": Tool(
        ("instruction", "dataset"),
        _ask_alpaca_eval,
        _alpaca_eval,
        "pip install alpaca-eval && OPENAI_API_BASE=… OPENAI_API_KEY=… alpaca_eval --model_outputs"
        " {folder}/{model}.json, with a judge that is served as gpt-4-1106-preview, or named by --annotators_config",
    ),
    "arena-hard": Tool(
        ("question_id", "uid", "turns", "prompt"),
        _ask_arena_hard,
        _arena_hard,
        "in a clone of lmarena/arena-hard-auto, with the judge's api_base in config/api_config.yaml, its name and"
        " {model} in config/arena-hard-v0.1.yaml: cp {folder}/{model}.jsonl data/arena-hard-v0.1/model_answer/ &&"
        " python gen_judgment.py --setting-file config/arena-hard-v0.1.yaml && python show_result.py --benchmark"
        " arena-hard-v0.1 --category arena-hard-v0.1 --judge-names JUDGE",
    ),
    "alignbench-1.1": Tool(
        ("question_id", "category", "subcategory", "question", "reference"),
        _ask_alignbench,
        _alignbench,
        "in a clone of THUDM/AlignBench, with the api_url (…/chat/completions) of a judge that is served as gpt-4 in"
        " config/multi-dimension.json: mkdir -p data/model_answer && cp {folder}/{model}.jsonl data/model_answer/ &&"
        " python judge.py --config-path config/multi-dimension.json --model-name {model} --parallel 8 &&"
        " python show_result.py --input-dir data/judgment --ques-file data/data_v1.1_release.jsonl",
    ),
    "livebench-0831": Tool(
        ("question_id", "turns", "category", "task", "livebench_removal_date"),
        _ask_livebench,
        _livebench,
        "in livebench/ of a clone of LiveBench/LiveBench (pip install -e .), in a container, for its coding tasks run"
        " the model's programs: ln -sfn {folder} data/live_bench && python gen_ground_truth_judgment.py --bench-name"
        f" live_bench --model {{model}} --livebench-release-option {_RELEASE} --ignore-missing-answers (rules, no"
        " judge), then the same `fusedata evaluate` again: it reads the scores",
        "*/*/model_judgment/ground_truth_judgment.jsonl",
    ),
}
"""By the names of `contamination.benchmarks`."""


def command(name: str, folder: Path, model: str) -> str:
    """Say how a benchmark's own tool goes on from a model's answers."""
    return TOOLS[name].command.format(folder=folder.absolute(), model=_file(model))
