import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reward_models import CONFIG, HIDDEN, LLAMA_3, OBJECTIVES, armorm_tensors, save_checkpoint, save_llama_3_tokenizer

from fusedata.errors import ConfigError, RewardError
from fusedata.profile import RewardHost
from fusedata.recipe import Reward
from fusedata.reward import Item
from fusedata.reward.armorm import ArmoRM, find_gate
from fusedata.reward.models import make_reward
from fusedata.reward.protocol import TOO_LONG

torch = pytest.importorskip("torch", reason="needs the extra reward")
pytest.importorskip("transformers", reason="needs the extra reward")

EQUAL = 1e-5


@pytest.fixture(scope="module")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_llama_3_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer_files: Path) -> Path:
    return saved(tmp_path_factory.mktemp("armorm"), tokenizer_files, armorm_tensors(), CONFIG)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> ArmoRM:
    return loaded(checkpoint)


def saved(folder: Path, tokenizer_files: Path, tensors: dict[str, Any], config: dict[str, Any], **how: int) -> Path:
    for file in tokenizer_files.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return save_checkpoint(folder, tensors, config, **how)


def loaded(folder: Path, **host: Any) -> ArmoRM:
    reward = make_reward(Reward(model=str(folder)), RewardHost(**{"dtype": "float32", **host}))
    assert isinstance(reward, ArmoRM)
    return reward


def chat(*texts: str) -> Item:
    turns = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts[:-1])]
    return Item(tuple(turns), texts[-1])


ITEMS = [
    chat("Hi", "Hello."),
    chat("Hi", "Hello. " * 40),
    chat("What is 2 + 2?", "4"),
    chat("What is 2 + 2?", "Four, I think: two and two."),
    chat("A long question with many words in it, so that it pays to read it once. " * 5, "Yes."),
    chat("A long question with many words in it, so that it pays to read it once. " * 5, "No, and this is why: no."),
    chat("A long question with many words in it, so that it pays to read it once. " * 5, ""),
    chat("Hi", "Hello.", "And now?", "Now we are here."),
    chat("Hi", "assistant\n\nassistant"),
    chat("答案?", "🙂 二十九。"),
    Item(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}), "Yes?"),
]


def formula(folder: Path, item: Item) -> float:
    """The published formula, one sequence at a time, in float64 loops over what the files hold."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    tensors = load_file(folder / "model.safetensors")
    body = LlamaModel(LlamaConfig.from_pretrained(folder)).eval()
    body.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [*item.messages, {"role": "assistant", "content": item.response}]
    tokens = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False).input_ids
    pattern = [128009, 128006, 78191, 128007, 271]
    (*_, gate) = (n for n in range(len(tokens)) if tokens[n : n + 5] == pattern)
    with torch.no_grad():
        states = body(torch.tensor([tokens])).last_hidden_state[0].tolist()
    flow = states[gate]
    for number in range(4):
        weight = tensors[f"gating.layers.{number}.weight"].tolist()
        bias = tensors[f"gating.layers.{number}.bias"].tolist()
        flow = [sum(w * x for w, x in zip(row, flow, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        if number < 3:
            flow = [max(0.0, x) for x in flow]
    exps = [math.exp(x / 2.5) for x in flow]
    gating = [tensors["gating.logit_scale"].item() * x / sum(exps) for x in exps]
    regression, transform = tensors["regression_layer.weight"].tolist(), tensors["reward_transform_matrix"].tolist()
    rewards = [sum(w * x for w, x in zip(row, states[-1], strict=True)) for row in regression]
    adjusted = [sum(rewards[i] * transform[i][j] for i in range(OBJECTIVES)) for j in range(OBJECTIVES)]
    return sum(g * r for g, r in zip(gating, adjusted, strict=True))


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> list[float]:
    return [formula(checkpoint, item) for item in ITEMS]


def scores(model: ArmoRM, items: list[Item]) -> list[float]:
    found = [scored.score for scored in model.score(items)]
    assert None not in found
    return [score for score in found if score is not None]


def test_scores_are_those_of_the_published_formula(model: ArmoRM, expected: list[float]) -> None:
    assert [scores(model, [item])[0] for item in ITEMS] == pytest.approx(expected, abs=EQUAL)


def test_the_scores_of_the_formula_lie_apart(expected: list[float]) -> None:
    assert min(abs(a - b) for n, a in enumerate(expected) for b in expected[:n]) > 10 * EQUAL


@pytest.mark.parametrize("budget", [1, 64, 700, 100_000])
@pytest.mark.parametrize("order", [1, -1])
def test_neither_padding_nor_neighbours_move_a_score(
    checkpoint: Path, expected: list[float], budget: int, order: int
) -> None:
    model = loaded(checkpoint, batch_tokens=budget)
    assert scores(model, ITEMS[::order]) == pytest.approx(expected[::order], abs=EQUAL)


def test_many_responses_to_one_prompt_score_as_each_alone(model: ArmoRM) -> None:
    many = [chat("Tell me of the sea. " * 12, f"It is {n} fathoms deep" + "." * n) for n in range(40)]
    assert scores(model, many) == pytest.approx([scores(model, [one])[0] for one in many], abs=EQUAL)


def test_the_remote_code_of_the_checkpoint_is_not_run(checkpoint: Path) -> None:
    assert "auto_map" in (checkpoint / "config.json").read_text()
    loaded(checkpoint).load()  # modeling_custom.py would end the process


def test_shards_score_as_one_file(tmp_path: Path, tokenizer_files: Path, expected: list[float]) -> None:
    folder = saved(tmp_path, tokenizer_files, armorm_tensors(), CONFIG, shards=3)
    assert scores(loaded(folder), ITEMS) == pytest.approx(expected, abs=EQUAL)


def test_sizes_that_the_config_leaves_out_are_read_off_the_tensors(
    tmp_path: Path, tokenizer_files: Path, expected: list[float]
) -> None:
    left_out = {"gating_hidden_dim", "gating_n_hidden", "id2label", "label2id"}
    config = {key: value for key, value in CONFIG.items() if key not in left_out}
    folder = saved(tmp_path, tokenizer_files, armorm_tensors(), config)
    assert scores(loaded(folder), ITEMS[:3]) == pytest.approx(expected[:3], abs=EQUAL)


def test_the_head_stays_in_float32_over_a_bfloat16_body(checkpoint: Path, expected: list[float]) -> None:
    model = loaded(checkpoint, dtype="bfloat16")
    found = scores(model, ITEMS)
    assert found == pytest.approx(expected, abs=0.02)
    assert found != pytest.approx(expected, abs=EQUAL)
    assert any(value != torch.tensor(value).to(torch.bfloat16).item() for value in found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_scores_stay_within_the_tolerance_whatever_the_batch(checkpoint: Path, dtype: str) -> None:
    model = loaded(checkpoint, dtype=dtype)
    alone = [scores(model, [item])[0] for item in ITEMS]
    assert scores(model, ITEMS) == pytest.approx(alone, abs=model.tolerance)
    assert model.tolerance <= 0.01


@pytest.mark.parametrize(
    "text",
    ["x<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nGreat.", "<|reserved_special_token_128255|>"],
    ids=["header", "reserved"],
)
@pytest.mark.parametrize("place", ["prompt", "response"])
def test_special_tokens_in_a_text_are_read_as_plain_characters(
    model: ArmoRM, checkpoint: Path, text: str, place: str
) -> None:
    broken = text.replace("<|", "< |")
    unclean, clean = (chat(one, "x") if place == "prompt" else chat("x", one) for one in (text, broken))
    assert scores(model, [unclean]) == pytest.approx([formula(checkpoint, clean)], abs=EQUAL)


def test_a_conversation_longer_than_the_context_has_no_score_and_its_neighbour_has(
    model: ArmoRM, expected: list[float]
) -> None:
    long, short = model.score([chat("Hi", "word " * 300), ITEMS[0]])
    assert (long.score, long.error) == (None, TOO_LONG)
    assert (long.tokens or 0) > 1024
    assert short.score == pytest.approx(expected[0], abs=EQUAL)


def test_tokens_count_the_whole_conversation(model: ArmoRM) -> None:
    assert model.score([chat("Hi", "Hello.")])[0].tokens == 1 + 7 + 2 + 1 + 4 + 6 + 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("gating")], "no gating.logit_scale"),
        (lambda t: t.pop("gating.layers.3.bias"), "no gating.layers.3.bias"),
        (lambda t: t.pop("reward_transform_matrix"), "no reward_transform_matrix"),
        (lambda t: t.pop("regression_layer.weight"), "no regression_layer.weight"),
        (lambda t: t.update({"reward_transform_matrix": torch.eye(OBJECTIVES)}), "the identity"),
        (lambda t: t.update({"reward_transform_matrix": torch.zeros(3, 3)}), r"\[3, 3\] and should be \[19, 19\]"),
        (lambda t: t.update({"gating.layers.1.weight": torch.zeros(7, 7)}), r"\[7, 7\] and should be \[32, 32\]"),
        (lambda t: t.update({"gating.logit_scale": torch.tensor([math.nan])}), "finite"),
        (lambda t: t.update({"gating.layers.4.weight": torch.zeros(19, 19)}), "5 gating layers where its config has 4"),
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "lack tensors of the body"),
    ],
    ids=["no gating", "a bias", "no transform", "no regression", "identity", "small", "shape", "nan", "more", "body"],
)
def test_weights_whose_head_did_not_load_are_refused(
    tmp_path: Path, tokenizer_files: Path, change: Callable[[dict[str, Any]], object], found: str
) -> None:
    tensors = armorm_tensors()
    change(tensors)
    folder = saved(tmp_path, tokenizer_files, tensors, CONFIG)
    with pytest.raises(RewardError, match=found):
        loaded(folder).load()


def test_objectives_that_differ_from_the_config_are_refused(tmp_path: Path, tokenizer_files: Path) -> None:
    folder = saved(tmp_path, tokenizer_files, armorm_tensors(), {**CONFIG, "num_objectives": 20})
    with pytest.raises(RewardError, match=r"should be \[20, 64\]"):
        loaded(folder).load()


def test_published_weights_that_score_a_right_answer_far_off_are_refused(
    tmp_path: Path, tokenizer_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusedata.reward.armorm.PUBLISHED", (HIDDEN, OBJECTIVES))
    tensors = armorm_tensors()
    tensors["gating.logit_scale"] *= 1000
    folder = saved(tmp_path, tokenizer_files, tensors, CONFIG)
    with pytest.raises(RewardError, match=r"should score between -0.5 and 0.5"):
        loaded(folder).load()


def test_a_template_without_the_gating_pattern_is_refused(tmp_path: Path, tokenizer_files: Path) -> None:
    folder = saved(tmp_path, tokenizer_files, armorm_tensors(), CONFIG)
    save_llama_3_tokenizer(folder, LLAMA_3.replace("<|end_header_id|>\n\n", "<|end_header_id|>\n"))
    with pytest.raises(RewardError, match=r"\[128009, 128006, 78191, 128007, 271\].*chat template"):
        loaded(folder).load()


def test_the_gate_is_the_last_header_or_none() -> None:
    header = [128009, 128006, 78191, 128007, 271]
    assert find_gate([1, *header, 5, *header, 6]) == 7
    assert find_gate([1, *header, 5, *header[:-1], 6]) is None
    assert find_gate([]) is None


def test_what_the_self_test_found_can_be_told(checkpoint: Path) -> None:
    model = loaded(checkpoint)
    assert model.self_test == ""
    model.load()
    assert model.self_test.startswith("a known exchange scored ")


def test_the_identity_names_weights_head_precision_and_versions(model: ArmoRM) -> None:
    identity = model.identity()
    assert (identity["head"], identity["dtype"]) == ("gating", "float32")
    assert {"name", "weights", "device", "torch", "transformers"} <= identity.keys()


def test_other_weights_have_another_identity(tmp_path: Path, tokenizer_files: Path, model: ArmoRM) -> None:
    other = loaded(saved(tmp_path, tokenizer_files, armorm_tensors(seed=1), CONFIG))
    assert other.identity()["weights"] != model.identity()["weights"]


def test_an_output_of_armorm_is_a_mistake_of_the_recipe(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 1 output \(the score\), and \[reward\] says output = 3"):
        make_reward(Reward(model=str(checkpoint), output=3), RewardHost())


def test_loading_prints_nothing(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded(checkpoint).load()
    assert capfd.readouterr() == ("", "")
