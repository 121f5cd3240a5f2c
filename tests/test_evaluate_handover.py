"""Answers handed to the benchmarks' own tools: read by those of PyPI here, and scores of LiveBench's rules read back."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from test_evaluate import evaluated

from fusedata.errors import RunError
from fusedata.evaluate.handover import TOOLS, command
from fusedata.evaluate.tasks import Question

READERS = Path(sys.prefix, "readers")
MODEL = "org/My Model"  # becomes a file's name


def asked(name: str, *rows: dict[str, Any]) -> list[Question]:
    made = (TOOLS[name].ask(f"row {number}", row) for number, row in enumerate(rows))
    return [question for question in made if question]


def written(name: str, folder: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Hand over "answer N" to each turn; give the rows of all files."""
    pairs = [(one, ["answer 1", *["answer 2"] * bool(one.then)]) for one in asked(name, *rows)]
    TOOLS[name].write(folder, MODEL, pairs)
    texts = [path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        row for text in texts for row in (json.loads(text) if text[0] == "[" else map(json.loads, text.splitlines()))
    ]


_TOOLS_OF_PYPI = """
import json, sys, types
from pathlib import Path
package = types.ModuleType("alpaca_eval")  # its __init__ loads what only judging needs, as this module of FastChat does
package.__path__ = [str(Path(sys.argv[1], "alpaca_eval"))]
models = types.ModuleType("fastchat.model.model_adapter")
models.get_conversation_template, models.ANTHROPIC_MODEL_LIST, models.OPENAI_MODEL_LIST = None, (), ()
sys.modules |= {"alpaca_eval": package, models.__name__: models, "fastchat.model": types.ModuleType("fastchat.model")}
from alpaca_eval.utils import get_generator_name, load_or_convert_to_dataframe
from fastchat.llm_judge.common import check_data, load_model_answers, load_questions
from fastchat.llm_judge.gen_judgment import make_judge_single, make_match_single
outputs = load_or_convert_to_dataframe(sys.argv[2])
print(get_generator_name(None, outputs), outputs["instruction"].tolist(), outputs["output"].tolist())
questions, answers = load_questions(sys.argv[3], None, None), load_model_answers(sys.argv[4])
check_data(questions, answers, {}, list(answers), {})
for turn in (False, True):
    for match in make_match_single(questions, list(answers), answers, None, multi_turn=turn):
        print(match.model, match.question["question_id"], match.answer["choices"][0]["turns"][turn])
"""


def test_the_tools_of_alpaca_eval_and_mt_bench_read_what_they_are_handed(tmp_path: Path):
    pytest.importorskip("anthropic")  # FastChat imports it
    if not all((READERS / name).is_dir() for name in ("alpaca_eval", "fastchat")):
        pytest.skip(f"alpaca-eval and fschat are not in {READERS} (scripts/test puts them there)")
    written("alpaca-eval-2", tmp_path / "alpaca", *({"instruction": text, "dataset": "d"} for text in ("one", "two")))
    rows = [{"question_id": number, "category": "math", "turns": ["a", "b"]} for number in (81, 82)]
    written("mt-bench", tmp_path / "mt", *rows)
    (tmp_path / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [READERS, tmp_path / "alpaca" / "org-My-Model.json", tmp_path / "question.jsonl", tmp_path / "mt"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _TOOLS_OF_PYPI, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(READERS)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "org-My-Model ['one', 'two'] ['answer 1', 'answer 1']",
        *(f"org-My-Model {number} answer {turn}" for turn in (1, 2) for number in (81, 82)),
    ]


def test_questions_of_mt_bench_without_numbers_are_numbered_as_its_own_file_does(tmp_path: Path, shared: Path):
    """The copy on the hub has the prompts in order, and hashes in the place of numbers."""
    own = [
        json.loads(line) for line in (shared / "corpora/benchmarks/mt_bench-question.jsonl").read_text().splitlines()
    ]
    rows = written("mt-bench", tmp_path, *({"prompt": row["turns"], "prompt_id": 7} for row in own))
    assert [row["question_id"] for row in rows] == [row["question_id"] for row in own]


def test_arena_hard_and_alignbench_find_the_fields_that_they_read(tmp_path: Path):
    old = {"question_id": "ab12", "turns": [{"content": "Say it."}]}
    for row in written("arena-hard", tmp_path / "arena", old, {"uid": "ab12", "prompt": "Say it."}):
        assert (row["uid"], row["model"]) == ("ab12", "org-My-Model")
        assert row["messages"][0] == {"role": "user", "content": "Say it."}
        assert row["messages"][-1]["content"]["answer"] == "answer 1"
    kept = {"question_id": 7, "category": "专业能力", "subcategory": "音乐", "question": "问", "reference": "答"}
    assert written("alignbench-1.1", tmp_path / "align", kept) == [
        {**kept, "model_id": "org-My-Model", "answer_id": "org-My-Model-7", "answer": "answer 1"}
    ]


def live(number: int, **more: str) -> dict[str, Any]:
    return {"question_id": f"q{number}", "category": "math", "task": "olympiad", "turns": [f"Prove {number}."], **more}


def test_livebench_is_asked_what_belongs_to_its_release_in_the_folders_of_its_tasks(tmp_path: Path):
    rows = (live(1, livebench_removal_date=""), live(2, livebench_removal_date="2024-07-26"), live(3))
    written("livebench-0831", tmp_path, *rows, live(4, livebench_removal_date="2024-11-25"))
    (file,) = tmp_path.rglob("*.jsonl")
    assert file == tmp_path / "math" / "olympiad" / "model_answer" / "org-My-Model.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["question_id"] for row in found] == ["q1", "q3", "q4"]
    assert found[0]["choices"][0]["turns"] == ["answer 1"]
    assert f"ln -sfn {tmp_path} data/live_bench" in command("livebench-0831", tmp_path, MODEL)


def judged(folder: Path, **scores: float) -> None:
    """Judgments as LiveBench's gen_ground_truth_judgment.py leaves them."""
    path = folder / "math" / "olympiad" / "model_judgment" / "ground_truth_judgment.jsonl"
    path.parent.mkdir(parents=True)
    rows = [
        {"question_id": number, "task": "olympiad", "model": "served", "score": score, "answer_id": f"served-{number}"}
        for number, score in scores.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_scores_of_livebench_are_read_back_and_a_broken_file_is_told(tmp_path: Path):
    questions = asked("livebench-0831", live(1), live(2))
    assert TOOLS["livebench-0831"].scores(tmp_path, "served", questions) == []
    judged(tmp_path, q1=0.25)
    assert TOOLS["livebench-0831"].scores(tmp_path, "served", questions) == [0.25, None]
    assert TOOLS["livebench-0831"].scores(tmp_path, "another", questions) == []
    next(tmp_path.rglob("*.jsonl")).write_text("{}\n")
    with pytest.raises(RunError, match="is no file of judgments"):
        TOOLS["livebench-0831"].scores(tmp_path, "served", questions)


@pytest.mark.model
def test_served_models_answer_once_and_are_handed_over_until_their_tool_has_judged(tmp_path: Path):
    folder, out = tmp_path / "benchmarks", tmp_path / "out"
    folder.mkdir()
    alpaca = [{"instruction": f"Name {n} rivers.", "output": "-", "dataset": "helpful_base"} for n in (2, 3)]
    (folder / "alpaca_eval.json").write_text(json.dumps(alpaca))
    turns = {"question_id": 81, "category": "writing", "turns": ["Write of Hawaii.", "Now rhyme it."]}
    (folder / "mt_bench-question.jsonl").write_text(json.dumps(turns) + "\n")
    for part in ("coding", "data_analysis", "instruction_following", "language", "math", "reasoning"):
        rows = [live(n, livebench_release_date="2024-06-24") for n in ((1, 2) if part == "math" else ())]
        late = live(9, livebench_release_date="2024-11-25")
        (folder / f"livebench-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, late]))
    names = [word for name in ("alpaca-eval-2", "mt-bench", "livebench-0831") for word in ("-b", name)]
    with ChatServer() as server:
        options = ("served", "--benchmarks", folder, "--engine", server.url, *names, "--out", out)
        first = evaluated(*options).stdout
        requests = len(server.log())
        judged(out / "handed-over" / "livebench-0831", q1=1.0, q2=0.5)
        again = evaluated(*options).stdout
        assert len(server.log()) == requests == 6  # what was answered is not asked again
    assert "alpaca_eval --model_outputs" in first
    assert "gen_judgment.py --model-list served" in first
    assert "gen_ground_truth_judgment.py" in first
    assert "gen_ground_truth_judgment.py" not in again
    assert "livebench-0831          2  75.0%" in again
    (file,) = (out / "handed-over" / "mt-bench").iterdir()
    (row,) = map(json.loads, file.read_text().splitlines())
    one, two = row["choices"][0]["turns"]
    assert one.startswith("Write of Hawaii.")
    assert two.startswith("Now rhyme it.")  # the server says the last turn
    (file,) = (out / "handed-over" / "alpaca-eval-2").iterdir()
    assert all(row["output"].startswith(row["instruction"]) for row in json.loads(file.read_text()))
