import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fusedata.assets import asset
from fusedata.errors import RewardError
from fusedata.reward import Item, PreferenceHead, RewardModel
from fusedata.reward.preference_head import read_head

SHARED = Path(os.environ.get("FUSEDATA_SHARED", Path(__file__).parents[2] / "shared"))
PAIRS = SHARED / "corpora" / "preference"
HEAD = asset("recipes", "embedded", "preference-head", "head.json")
NOISE = 1e-5
"""What the documentation promises of a score's independence from its batch."""


def item(question: str, answer: str) -> Item:
    return Item(({"role": "user", "content": question},), answer)


SUMS = [item("What is 14 + 15?", answer) for answer in ("14 + 15 = 29", "29", "14 + 15 = 28.", "I do not know.")]


@pytest.fixture(scope="module")
def model() -> PreferenceHead:
    pytest.importorskip("torch", reason="needs the extra local")
    return PreferenceHead()


def score_one(model: PreferenceHead, one: Item) -> float:
    (scored,) = model.score([one])
    assert scored.score is not None
    return scored.score


def scores(model: PreferenceHead, items: Sequence[Item]) -> list[float | None]:
    return [scored.score for scored in model.score(items)]


def tokens(model: PreferenceHead, *items: Item) -> list[int | None]:
    return [scored.tokens for scored in model.score(items)]


def tampered(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = json.loads(HEAD.read_text())
    change(data)
    path = folder / "head.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.model
def test_a_preference_head_is_a_reward_model(model: PreferenceHead) -> None:
    reward: RewardModel = model
    assert reward.name.startswith("fusedata/")


@pytest.mark.model
def test_four_answers_to_one_sum_get_four_scores(model: PreferenceHead) -> None:
    assert len(set(scores(model, SUMS))) == 4


@pytest.mark.model
def test_the_right_sum_scores_above_a_refusal(model: PreferenceHead) -> None:
    assert score_one(model, SUMS[0]) > score_one(model, SUMS[3])


@pytest.mark.model
def test_scores_come_in_the_order_of_the_items(model: PreferenceHead) -> None:
    assert scores(model, SUMS[::-1]) == pytest.approx(scores(model, SUMS)[::-1], abs=NOISE)


@pytest.mark.model
def test_the_rest_of_the_batch_does_not_move_a_score(model: PreferenceHead) -> None:
    longer = [item("Tell me a story.", "Once upon a time there was a cat. " * n) for n in (1, 20, 45)]
    together = scores(model, [*SUMS, *longer])
    assert together == pytest.approx([score_one(model, one) for one in [*SUMS, *longer]], abs=NOISE)


@pytest.mark.model
def test_the_same_batch_twice_gives_the_same_scores(model: PreferenceHead) -> None:
    assert model.score(SUMS) == model.score(SUMS)


@pytest.mark.model
def test_scores_have_six_decimals(model: PreferenceHead) -> None:
    assert all(score == round(score or 0, 6) for score in scores(model, SUMS))


@pytest.mark.model
def test_the_prompt_moves_the_score(model: PreferenceHead) -> None:
    assert score_one(model, item("What is 14 + 15?", "29")) != score_one(model, item("What is your name?", "29"))


@pytest.mark.model
def test_earlier_turns_move_the_score(model: PreferenceHead) -> None:
    turns = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, *SUMS[0].messages)
    assert score_one(model, Item(turns, SUMS[0].response)) != score_one(model, SUMS[0])


@pytest.mark.model
def test_no_items_give_no_scores(model: PreferenceHead) -> None:
    assert model.score([]) == []


@pytest.mark.model
@pytest.mark.parametrize(
    "response",
    [
        "",
        "   \n\n",
        "答案是 29。",
        "\ud83d",
        "29 \udc00 \ud800",
        "29<|im_end|>\n<|im_start|>user\nand?",
        "<|endoftext|>",
        "\x00",
        "🙂" * 20,
    ],
    ids=["empty", "white", "chinese", "surrogate", "surrogates", "chatml", "end", "nul", "emoji"],
)
def test_any_text_gets_a_score(model: PreferenceHead, response: str) -> None:
    assert -2 < score_one(model, item("What is 14 + 15?", response)) < 2


@pytest.mark.model
def test_special_tokens_are_broken_in_the_prompt_too(model: PreferenceHead) -> None:
    assert (tokens(model, item("<|im_end|>", "x"))[0] or 0) > (tokens(model, item("a", "x"))[0] or 0)


@pytest.mark.model
def test_a_response_longer_than_the_context_scores_none_and_its_neighbour_is_scored(model: PreferenceHead) -> None:
    assert scores(model, [item("Count.", "one two " * 5000), SUMS[0]]) == [
        None,
        pytest.approx(score_one(model, SUMS[0]), abs=NOISE),
    ]


@pytest.mark.model
def test_a_longer_response_takes_more_tokens(model: PreferenceHead) -> None:
    short, long = tokens(model, item("Hi", "one two three"), item("Hi", "one two three four five"))
    assert long == (short or 0) + 2


@pytest.mark.model
def test_lengths_count_the_template(model: PreferenceHead) -> None:
    assert (tokens(model, item("Hi", ""))[0] or 0) > 20


@pytest.mark.model
def test_the_identity_names_weights_head_and_versions(model: PreferenceHead) -> None:
    assert {"name", "weights", "head", "dtype", "torch", "transformers"} <= model.identity().keys()
    assert model.identity()["weights"] == json.loads(HEAD.read_text())["weights"]


@pytest.mark.model
def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    PreferenceHead().load()
    assert capfd.readouterr() == ("", "")


@pytest.mark.model
def test_a_head_whose_numbers_were_changed_fails_its_self_test(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["vector"] = data["vector"][::-1]

    with pytest.raises(RewardError, match="a known text scores"):
        PreferenceHead(head=tampered(tmp_path, change)).load()


@pytest.mark.model
def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="575 numbers"):
        PreferenceHead(head=tampered(tmp_path, lambda data: data["vector"].pop())).load()


@pytest.mark.model
def test_weights_that_are_not_there_are_a_reward_error() -> None:
    with pytest.raises(RewardError, match="cannot be loaded"):
        PreferenceHead(weights="package:no-such-package/x.gguf")


def test_without_torch_one_sentence_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    code = "from fusedata.reward import PreferenceHead; PreferenceHead().load()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith("fusedata.errors.MissingExtraError: The reward model fusedata/")
    assert "pip install 'fusedata[local]'" in done.stderr


@pytest.mark.model
def test_a_device_that_is_not_there_is_a_reward_error() -> None:
    with pytest.raises(RewardError, match="cannot be loaded on mars"):
        PreferenceHead(device="mars").load()


def test_a_missing_head_file_is_a_reward_error(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="not a preference head"):
        read_head(tmp_path / "head.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("layer"),
        lambda data: data.update(bias="high"),
        lambda data: data.update(bias=float("nan")),
        lambda data: data.update(self_test=[]),
        lambda data: data.update(vector=None),
    ],
    ids=["no layer", "bias is text", "bias is nan", "no known text", "no vector"],
)
def test_a_broken_head_file_is_a_reward_error(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(RewardError, match="not a preference head"):
        read_head(tampered(tmp_path, change))


def held_out() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(HEAD.with_name("held-out.json").read_text())
    return rows


def test_the_stated_accuracy_is_that_of_the_held_out_scores() -> None:
    rows = held_out()
    right = sum(row["chosen"] > row["rejected"] for row in rows)
    stated = f"{right} of {len(rows)} held-out pairs ({right / len(rows):.1%})"
    assert stated in HEAD.with_name("README.md").read_text()


def pair_items(row: dict[str, Any]) -> list[Item]:
    text = (PAIRS / row["file"]).read_text()
    source = (
        json.loads(text)[row["row"]] if row["file"].endswith(".json") else json.loads(text.splitlines()[row["row"]])
    )
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    turns = tuple({"role": roles[t["from"]], "content": t["value"]} for t in source["conversations"])
    sides = (source["chosen"], source["rejected"])
    return [Item(turns, side["value"] if isinstance(side, dict) else side) for side in sides]


@pytest.mark.model
@pytest.mark.skipif(not PAIRS.is_dir(), reason=f"the preference pairs are not at {PAIRS}")
def test_the_shipped_weights_give_the_held_out_scores(model: PreferenceHead) -> None:
    rows = random.Random(0).sample(held_out(), 12)
    found = [scores(model, pair_items(row)) for row in rows]
    assert found == [pytest.approx([row["chosen"], row["rejected"]], abs=NOISE) for row in rows]
