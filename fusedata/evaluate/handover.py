"""Answers for benchmarks with tools of their own: in the files that these read, with the command to go on with."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusedata.evaluate.tasks import Question, Row
from fusedata.store import writing

Lines = Iterator[tuple[str, Mapping[str, Any]]]
"""Rows of answer files, each after the file that it goes to."""


Pairs = Sequence[tuple[Question, Sequence[str]]]
"""Questions with the answer to each of their turns."""


@dataclass(frozen=True)
class Tool:
    """A benchmark's own tool: the columns that prompts and answer files are made of, and what is run on the files.

    `prompt` names the column that a model is asked. `files` makes the rows of the answer files out of a model's name,
    questions and answers. `command` goes on from them; {folder} and {model} stand for the files and the model's name.
    """

    prompt: tuple[str, ...]
    columns: tuple[str, ...]
    files: Callable[[str, Pairs], Lines]
    command: str

    def ask(self, item: str, row: Row) -> Question | None:
        """Make the question of a row; None where it has none."""
        said = next((row[name] for name in self.prompt if row.get(name)), None)
        turns = said if isinstance(said, list) else [said]
        prompt, *then = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
        facts = {name: row.get(name) for name in self.columns}
        return Question(item, prompt, facts, then[0] if then else None) if prompt else None

    def write(self, folder: Path, model: str, pairs: Pairs) -> None:
        """Write the answer files of a model."""
        files: dict[str, list[Mapping[str, Any]]] = {}
        for name, row in self.files(model, pairs):
            files.setdefault(name, []).append(row)
        for name, rows in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as file:
                if name.endswith(".json"):
                    file.write(json.dumps(rows, ensure_ascii=False, indent=1).encode())
                else:
                    file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _alpaca_eval(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        facts = {"instruction": question.prompt, "output": answers[0], "generator": model}
        yield f"{_file(model)}.json", {**facts, "dataset": question.facts.get("dataset")}


def _turns(model: str, pairs: Pairs, folder: Callable[[Question], str]) -> Lines:
    for question, answers in pairs:
        name = f"{folder(question)}{_file(model)}.jsonl"
        choice = {"index": 0, "turns": list(answers)}
        number = int(question.item) if question.item.isdigit() else question.item
        known = {"question_id": number, "answer_id": f"{_file(model)}-{question.item}", "model_id": _file(model)}
        yield name, {**known, "choices": [choice], "tstamp": time.time()}


def _arena_hard(model: str, pairs: Pairs) -> Lines:
    for name, row in _turns(model, pairs, lambda _: ""):
        yield name, {**row, "choices": [{"index": 0, "turns": [{"content": row["choices"][0]["turns"][0]}]}]}


def _livebench(model: str, pairs: Pairs) -> Lines:
    return _turns(model, pairs, lambda one: f"{one.facts['category']}/{one.facts['task']}/model_answer/")


def _alignbench(model: str, pairs: Pairs) -> Lines:
    for question, answers in pairs:
        yield f"{_file(model)}.jsonl", {"question_id": question.item, **question.facts, "answer": answers[0]}


def _file(model: str) -> str:
    """Name a model as a file."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-")


def _mt_bench(model: str, pairs: Pairs) -> Lines:
    return _turns(model, pairs, lambda _: "")


TOOLS: dict[str, Tool] = {
    "mt-bench": Tool(
        ("prompt", "turns"),
        (),
        _mt_bench,
        "in fastchat/llm_judge of a clone of lm-sys/FastChat: cp {folder}/{model}.jsonl data/mt_bench/model_answer/,"
        " then OPENAI_API_BASE=… OPENAI_API_KEY=… python gen_judgment.py --model-list {model} && python show_result.py",
    ),
    "alpaca-eval-2": Tool(
        ("instruction",),
        ("dataset",),
        _alpaca_eval,
        "pip install alpaca-eval; OPENAI_BASE_URL=… OPENAI_API_KEY=… alpaca_eval --model_outputs {folder}/{model}.json",
    ),
    "arena-hard": Tool(
        ("turns", "prompt"),
        (),
        _arena_hard,
        "in a clone of lmarena/arena-hard-auto: cp {folder}/{model}.jsonl data/arena-hard-v0.1/model_answer/, name the"
        " judge's api_base in config/api_config.yaml, then python gen_judgment.py && python show_result.py",
    ),
    "alignbench-1.1": Tool(
        ("question",),
        ("category", "subcategory", "question", "reference"),
        _alignbench,
        "in a clone of THUDM/AlignBench: cp {folder}/{model}.jsonl data/model_answer/, name the judge's URL in"
        " config/multi-dimension.json, then python judge.py --model-name {model}",
    ),
    "livebench-0831": Tool(
        ("turns",),
        ("category", "task"),
        _livebench,
        "in a clone of LiveBench/LiveBench: cp -r {folder}/* livebench/data/live_bench/, then python"
        " gen_ground_truth_judgment.py --bench-name live_bench --model {model} (no judge: rules)",
    ),
}
"""By the names of `contamination.benchmarks`."""


def command(name: str, folder: Path, model: str) -> str:
    """Say how a benchmark's own tool goes on from a model's answers."""
    return TOOLS[name].command.format(folder=folder, model=_file(model))
