"""A reward model used alone: rows in, scores out, in order."""

import json
import os
import subprocess
import sys
import tracemalloc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from reward_models import save_llama_3_tokenizer
from runs import invoke

from fusedata.errors import ConfigError
from fusedata.reward.chat import conversation, whole_tokens
from fusedata.reward.protocol import TOO_LONG, Item, Scored
from fusedata.reward.rows import (
    BOTH,
    NO_OBJECT,
    NO_PROMPT,
    NO_RESPONSE,
    NO_TURNS,
    WINDOW_CHARS,
    WINDOW_ROWS,
    item,
    score_rows,
)
from fusedata.testing import HashReward

ROOT = Path(__file__).parents[1]
STAND_IN = "fusedata/preference-head-smollm2-135m"
TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


LONG = Item(
    (
        {"role": "system", "content": "请用中文回答。"},
        {"role": "user", "content": "一加一等于几？"},
        {"role": "assistant", "content": "二。"},
        {"role": "user", "content": "And two and two?"},
    ),
    "四。",
)
"""A system prompt, two turns, and Chinese."""
LLAMA_3_TEXT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n请用中文回答。<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n一加一等于几？<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n二。<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd two and two?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
QWEN_TEXT = (
    "<|im_start|>system\n请用中文回答。<|im_end|>\n<|im_start|>user\n一加一等于几？<|im_end|>\n"
    "<|im_start|>assistant\n二。<|im_end|>\n<|im_start|>user\nAnd two and two?<|im_end|>\n<|im_start|>assistant\n"
)


def tokenizer_with(folder: Path, template: str) -> Any:
    """A tokenizer that writes conversations by the chat template of a real model, as trl ships it."""
    from transformers import AutoTokenizer

    found = find_spec("trl")
    if found is None or not found.origin:
        pytest.skip("trl is not installed: it ships the chat templates")
    text = (Path(found.origin).parent / "chat_templates" / f"{template}.jinja").read_text()
    save_llama_3_tokenizer(folder, text)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("template", "prompt", "end"),
    [("llama3", LLAMA_3_TEXT, "四。<|eot_id|>"), ("qwen2_5", QWEN_TEXT, "四。<|im_end|>\n")],
)
def test_the_chat_template_sees_the_system_prompt_all_turns_and_the_response(
    tmp_path: Path, template: str, prompt: str, end: str
):
    tokenizer = tokenizer_with(tmp_path, template)
    assert conversation(tokenizer, LONG) == (prompt, prompt + end)
    tokens, prefix = whole_tokens(tokenizer, LONG)
    assert tokenizer.decode(tokens) == prompt + end
    assert tokenizer.decode(tokens[:prefix]) == prompt


def test_a_template_without_a_place_for_a_system_prompt_refuses_it(tmp_path: Path):
    tokenizer = tokenizer_with(tmp_path, "gemma")
    with pytest.raises(TemplateError, match="System role not supported"):
        conversation(tokenizer, LONG)
    without = Item(LONG.messages[1:], LONG.response)
    assert "二。" in conversation(tokenizer, without)[0]


class Watched(HashReward):
    """Remembers its batches; an item that says "too long" has no score."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []

    def score(self, items):
        self.batches.append(list(items))
        return [
            Scored(None, 9999, TOO_LONG) if one.response == "too long" else scored
            for one, scored in zip(items, super().score(items), strict=True)
        ]


def test_a_row_holds_a_prompt_or_turns_and_other_keys_are_ignored():
    assert item({"prompt": "p", "response": "r", "id": 3}) == Item(({"role": "user", "content": "p"},), "r")
    turns = [{**turn, "name": "x"} for turn in TURNS]
    assert item({"messages": turns, "response": ""}) == Item(tuple(TURNS), "")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([], NO_OBJECT),
        (None, NO_OBJECT),
        ({"prompt": "p"}, NO_RESPONSE),
        ({"prompt": "p", "response": 3}, NO_RESPONSE),
        ({"response": "r"}, NO_PROMPT),
        ({"prompt": None, "response": "r"}, NO_PROMPT),
        ({"prompt": "p", "messages": TURNS, "response": "r"}, BOTH),
        ({"messages": [], "response": "r"}, NO_TURNS),
        ({"messages": "p", "response": "r"}, NO_TURNS),
        ({"messages": ["p"], "response": "r"}, NO_TURNS),
        ({"messages": [{"role": "user"}], "response": "r"}, NO_TURNS),
        ({"messages": [*TURNS, {"role": "user", "content": None}], "response": "r"}, NO_TURNS),
    ],
    ids=str,
)
def test_a_row_that_is_no_item_has_its_reason(row, why):
    assert item(row) == why
    assert list(score_rows([row], Watched(), 4)) == [Scored(None, None, why)]


row = st.one_of(st.none(), st.tuples(st.text(max_size=5), st.text(max_size=30)))


@settings(deadline=None)
@given(st.lists(row, max_size=40), st.integers(1, 7))
def test_scores_come_in_the_order_of_the_rows_whatever_the_batches(given_rows, batch_size):
    rows = [None if pair is None else {"prompt": pair[0], "response": pair[1]} for pair in given_rows]
    model = Watched()
    found = list(score_rows(rows, model, batch_size))
    alone = [Scored(None, None, NO_OBJECT) if r is None else HashReward().score([item(r)])[0] for r in rows]
    assert found == alone
    lengths = [len(one.messages[0]["content"]) + len(one.response) for batch in model.batches for one in batch]
    assert lengths == sorted(lengths)
    assert all(0 < len(batch) <= batch_size for batch in model.batches)


def test_an_item_that_the_model_refuses_keeps_its_place_and_its_tokens():
    rows = [{"prompt": "p", "response": text} for text in ("a", "too long", "b")]
    assert [one.error for one in score_rows(rows, Watched(), 2)] == [None, TOO_LONG, None]
    assert list(score_rows(rows, Watched(), 2))[1].tokens == 9999


def test_a_window_is_scored_before_the_next_is_read():
    read = []

    def rows():
        for number in range(3 * WINDOW_ROWS):
            read.append(number)
            yield {"prompt": "p", "response": str(number)}

    scores = score_rows(rows(), HashReward(), 64)
    next(scores)
    assert len(read) == WINDOW_ROWS
    assert len(list(scores)) == 3 * WINDOW_ROWS - 1


def test_a_window_of_long_rows_ends_by_its_characters():
    read, text = [], "x" * (WINDOW_CHARS // 4)
    scores = score_rows((read.append(n) or {"prompt": "p", "response": text} for n in range(50)), HashReward(), 8)
    next(scores)
    assert len(read) == 4
    for _ in range(4):
        next(scores)
    assert len(read) == 8


def test_memory_does_not_grow_with_the_file():
    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in score_rows(({"prompt": "p" * 100, "response": "r" * 400} for _ in range(count)), HashReward(), 256):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(5 * WINDOW_ROWS) < 1.5 * peak(WINDOW_ROWS)


# The command


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def reward(content: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command on standard input, away from any hub."""
    command = [sys.executable, "-m", "fusedata", "reward", "-", *map(str, arguments)]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, input=content, capture_output=True, text=True, cwd=ROOT, env=environ, check=False)


@pytest.fixture(scope="module")
def classifier(tiny_model, tmp_path_factory):
    """A real sequence classifier of random weights with two outputs, as a folder."""
    import torch
    import transformers

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("classifier")
    config = transformers.AutoConfig.from_pretrained(tiny_model, num_labels=2)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.mark.model
def test_rows_are_scored_in_order_with_their_tokens_and_bad_ones_say_why(classifier):
    rows = [
        {"prompt": "How are you?", "response": "Well."},
        {"prompt": "How?"},
        {"messages": TURNS, "response": "\ud800 lone"},
        {"prompt": "Long", "response": "x" * 500},
    ]
    arguments = ("--model", classifier, "--output", 1, "--dtype", "float32", "--batch-size", 1)
    done = reward(lines(*rows, "", rows[0]), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[1] == {"reward": None, "tokens": None, "error": NO_RESPONSE}
    assert found[3]["error"] == TOO_LONG
    assert found[3]["tokens"] > 500
    assert found[0] == found[4]
    assert set(found[0]) == {"reward", "tokens"}
    assert isinstance(found[2]["reward"], float)
    assert found[0]["reward"] != found[2]["reward"]
    other = reward(lines(rows[0]), "--model", classifier, "--output", 0, "--dtype", "float32")
    assert json.loads(other.stdout)["reward"] != found[0]["reward"]


@pytest.mark.model
def test_a_line_that_is_no_json_ends_with_two_after_the_lines_before_it(classifier):
    row = {"prompt": "a", "response": "b"}
    done = reward(lines(row, "{broken", row), "--model", classifier, "--output", 0)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert "standard input, line 2: is no JSON" in done.stderr


@pytest.mark.model
def test_the_profile_gives_the_host_and_options_come_before_it(classifier, tmp_path):
    profile = tmp_path / "p.toml"
    profile.write_text(
        '[reward]\ndtype = "bfloat16"\n[reward.server]\nbase_urls = ["http://127.0.0.1:1/v1"]\ntries = 1\n'
    )
    row = lines({"prompt": "a", "response": "b"})
    served = reward(row, "--model", "x/y", "--profile", profile)
    assert served.returncode == 2
    assert "Traceback" not in served.stderr
    here = ("--model", "x/y", "--profile", profile, "--weights", classifier, "--output", 0)
    rounded, precise = (json.loads(reward(row, *here, *more).stdout)["reward"] for more in ((), ("--dtype", "float32")))
    assert rounded != precise
    assert rounded == pytest.approx(precise, abs=0.02)


@pytest.mark.model
def test_the_stand_in_scores_a_file(tmp_path):
    known = json.loads((ROOT / "recipes/embedded/preference-head/head.json").read_text())["self_test"][0]
    file = tmp_path / "rows.jsonl"
    file.write_text(lines({"messages": known["messages"], "response": known["response"]}))
    command = [sys.executable, "-m", "fusedata", "reward", str(file), "--model", STAND_IN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout)["reward"] == pytest.approx(known["score"], abs=1e-4)


def test_a_file_that_is_not_there_and_a_name_that_is_none_are_told(tmp_path):
    with pytest.raises(ConfigError, match="name a JSON-lines file, or - for standard input"):
        invoke("reward", tmp_path / "absent.jsonl", "--model", "x/y")
    file = tmp_path / "rows.jsonl"
    file.write_text("")
    with pytest.raises(ConfigError, match="fusedata reward: model: must not be empty"):
        invoke("reward", file, "--model", "")
