import json
from pathlib import Path
from typing import Any

import pytest

from fusedata.errors import ConfigError, RewardError
from fusedata.profile import RewardHost
from fusedata.recipe import Reward
from fusedata.reward import Item
from fusedata.reward.models import make_reward
from fusedata.reward.protocol import TOO_LONG
from fusedata.reward.sequence_classifier import SequenceClassifier

torch = pytest.importorskip("torch", reason="needs the extra reward")
transformers = pytest.importorskip("transformers", reason="needs the extra reward")

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% endfor %}" + TEMPLATE
)
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
EQUAL = 1e-5


def save_tokenizer(folder: Path, template: str | None = TEMPLATE, **how: Any) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|sep|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: n for n, t in enumerate(special + letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if template is None:
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(
            single="$A <|sep|>", pair="$A <|sep|> $B:1 <|sep|>:1", special_tokens=[("<|sep|>", 5)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", chat_template=template, **how
    ).save_pretrained(folder)
    return len(special) + len(letters)


def save_llama(folder: Path, outputs: int = 1, template: str | None = TEMPLATE, **config: Any) -> Path:
    size = save_tokenizer(folder, template)
    torch.manual_seed(5)
    sizes = {**SIZES, "vocab_size": size, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0}
    network = transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(**{**sizes, "num_labels": outputs, **config})
    )
    torch.nn.init.normal_(network.score.weight, std=0.5)
    network.save_pretrained(folder)
    return folder


def loaded(folder: Path, dtype: str = "float32", **reward: Any) -> SequenceClassifier:
    made = make_reward(Reward(model=str(folder), **reward), RewardHost(dtype=dtype))
    assert isinstance(made, SequenceClassifier)
    return made


def chat(*texts: str) -> Item:
    turns = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts[:-1])]
    return Item(tuple(turns), texts[-1])


ITEMS = [
    chat("Hi", "Hello."),
    chat("Hi", "Hello. " * 20),
    chat("Hi", ""),
    chat("Why is the sky blue, and why is it red when the sun goes down in the evening?" * 2, "It scatters."),
    chat("Why is the sky blue, and why is it red when the sun goes down in the evening?" * 2, "I do not know."),
    chat("Hi", "Hello.", "And now?", "Now."),
]


def own_outputs(folder: Path, item: Item) -> list[float]:
    """What the model's own forward pass says of one sequence."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template:
        turns = [*item.messages, {"role": "assistant", "content": item.response}]
        given = {"input_ids": tokenizer.apply_chat_template(turns, return_dict=False)}
    else:
        given = dict(tokenizer(item.messages[0]["content"], item.response))
    with torch.no_grad():
        return list(network(**{key: torch.tensor([value]) for key, value in given.items()}).logits[0].tolist())


def scores(model: SequenceClassifier, items: list[Item]) -> list[float | None]:
    return [scored.score for scored in model.score(items)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("three"), 3, id2label={0: "help", 1: "honest", 2: "brief"})


@pytest.mark.parametrize("together", [True, False])
def test_scores_are_those_of_the_models_own_forward_pass(one: Path, together: bool) -> None:
    model, expected = loaded(one), [own_outputs(one, item)[0] for item in ITEMS]
    found = scores(model, ITEMS) if together else [scores(model, [item])[0] for item in ITEMS]
    assert found == pytest.approx(expected, abs=EQUAL)


def test_scores_are_raw_outputs_whatever_the_problem_type(tmp_path: Path, one: Path) -> None:
    folder = save_llama(tmp_path, problem_type="multi_label_classification")
    assert scores(loaded(folder), ITEMS) == scores(loaded(one), ITEMS)


def test_a_token_that_pads_at_the_end_is_passed_over_as_in_the_own_forward_pass(tmp_path: Path) -> None:
    folder = save_llama(tmp_path, pad_token_id=1)  # the end of a turn pads: the model reads the token before it
    expected = [own_outputs(folder, item)[0] for item in ITEMS]
    assert scores(loaded(folder), ITEMS) == pytest.approx(expected, abs=EQUAL)


def test_a_model_without_a_padding_token_is_scored_in_batches(tmp_path: Path) -> None:
    folder = save_llama(tmp_path, pad_token_id=None)
    expected = [own_outputs(folder, item)[0] for item in ITEMS]
    assert scores(loaded(folder), ITEMS) == pytest.approx(expected, abs=EQUAL)


def test_a_stated_output_counts(three: Path) -> None:
    expected = [own_outputs(three, item)[2] for item in ITEMS]
    assert scores(loaded(three, output=2), ITEMS) == pytest.approx(expected, abs=EQUAL)


def test_stated_weights_add_up_the_outputs(three: Path) -> None:
    weights = (0.5, -2.0, 1.0)
    expected = [sum(w * x for w, x in zip(weights, own_outputs(three, item), strict=True)) for item in ITEMS]
    assert scores(loaded(three, weights=weights), ITEMS) == pytest.approx(expected, abs=EQUAL)


@pytest.mark.parametrize(
    ("reward", "found"),
    [
        ({}, r"3 outputs \(help, honest, brief\): say in \[reward\] which one counts \(output.*weights"),
        ({"output": 3}, "output = 3"),
        ({"weights": (1.0, 2.0)}, "has 2 weights"),
    ],
    ids=["neither", "out of range", "too few"],
)
def test_what_counts_of_several_outputs_must_be_said_rightly(three: Path, reward: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        make_reward(Reward(model=str(three), **reward), RewardHost())


def test_the_output_that_counts_is_part_of_the_identity(three: Path) -> None:
    identities = [loaded(three, **how).identity() for how in ({"output": 0}, {"output": 1}, {"weights": (1, 0, 0)})]
    assert len({json.dumps(identity) for identity in identities}) == 3


def test_a_model_without_a_classification_head_is_a_mistake_of_the_recipe(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM.*not run"):
        make_reward(Reward(model=str(tiny_model)), RewardHost())


def test_a_head_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = save_llama(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["score.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(RewardError, match=r"head or body did not load, the weights hold no score\.weight"):
        loaded(tmp_path).load()


def test_a_bias_of_the_head_is_added(tmp_path: Path, one: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = save_llama(tmp_path) / "model.safetensors"
    save_file(load_file(file) | {"score.bias": torch.tensor([0.75])}, file, metadata={"format": "pt"})
    expected = [(score or 0) + 0.75 for score in scores(loaded(one), ITEMS)]
    assert scores(loaded(tmp_path), ITEMS) == pytest.approx(expected, abs=EQUAL)


def test_a_float32_head_is_not_rounded_to_the_precision_of_the_body(one: Path) -> None:
    from safetensors.torch import load_file

    model = loaded(one, dtype="bfloat16")
    found = scores(model, ITEMS)
    stored = load_file(one / "model.safetensors")["score.weight"]
    assert not torch.equal(stored, stored.to(torch.bfloat16).float())
    network = transformers.AutoModel.from_pretrained(one, dtype=torch.bfloat16).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(one)
    turns = [*ITEMS[0].messages, {"role": "assistant", "content": ITEMS[0].response}]
    tokens = tokenizer.apply_chat_template(turns, return_dict=False)
    with torch.no_grad():
        state = network(torch.tensor([tokens])).last_hidden_state[0, -1].float()
    assert model.score(ITEMS[:1])[0].score == pytest.approx((stored @ state).item(), abs=EQUAL)
    assert found == pytest.approx(scores(loaded(one), ITEMS), abs=0.1)


def test_a_conversation_longer_than_the_context_has_no_score(one: Path) -> None:
    (scored,) = loaded(one).score([chat("Hi", "x" * 600)])
    assert (scored.score, scored.error) == (None, TOO_LONG)


def test_turns_that_the_template_refuses_are_a_reason_not_an_error(tmp_path: Path) -> None:
    model = loaded(save_llama(tmp_path, template=STRICT))
    system = Item(({"role": "system", "content": "Be brief."}, *ITEMS[0].messages), "Hello.")
    refused, scored = model.score([system, ITEMS[0]])
    assert refused.error == "the model's chat template refuses its turns: no system turns"
    assert scored.score is not None


def test_a_decoder_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="has no chat template"):
        loaded(save_llama(tmp_path, template=None)).load()


def save_bert(folder: Path, template: str | None) -> Path:
    names = ["input_ids", "token_type_ids", "attention_mask"]
    size = save_tokenizer(folder, template, model_input_names=names)
    torch.manual_seed(5)
    config = transformers.BertConfig(
        **SIZES, vocab_size=size, num_labels=1, pad_token_id=0, type_vocab_size=2, initializer_range=0.3
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def save_deberta(folder: Path, template: str | None) -> Path:
    size = save_tokenizer(folder, template)
    torch.manual_seed(5)
    config = transformers.DebertaV2Config(
        **SIZES, vocab_size=size, num_labels=1, pad_token_id=0, relative_attention=True, initializer_range=0.3
    )
    transformers.DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:`torch.jit")  # DeBERTa's module scripts functions when it is imported
@pytest.mark.parametrize("save", [save_bert, save_deberta])
@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["chat", "pair"])
def test_encoders_score_by_their_own_forward_pass(tmp_path: Path, save: Any, template: str | None) -> None:
    folder = save(tmp_path, template)
    items = ITEMS[:5]
    expected = [own_outputs(folder, item)[0] for item in items]
    assert scores(loaded(folder), items) == pytest.approx(expected, abs=EQUAL)
    assert max(expected) - min(expected) > 100 * EQUAL


def test_an_encoder_without_a_template_reads_one_question_and_one_answer(tmp_path: Path) -> None:
    (scored,) = loaded(save_bert(tmp_path, None)).score([ITEMS[5]])
    assert scored.error == "the reward model reads one question and one answer, and there are other turns"


def test_an_encoder_in_bfloat16_has_its_head_in_float32(tmp_path: Path) -> None:
    model = loaded(save_bert(tmp_path, None), dtype="bfloat16")
    found = scores(model, ITEMS[:5])
    assert any(score != torch.tensor(score).to(torch.bfloat16).item() for score in found)
