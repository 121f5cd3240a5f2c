"""The openai engine, against a real server that misbehaves and against a real vLLM."""

import random
import threading
from pathlib import Path

import polars as pl
import pytest
from chat_server import ChatServer
from vllm_server import vllm_serve, wider

from fusedata.errors import ConfigError, EngineError
from fusedata.profile import OpenaiEngine as Host
from fusedata.profile import Profile
from fusedata.recipe import SourceModel
from fusedata.sample.engines import make_engine
from fusedata.sample.openai_engine import OpenaiEngine, read
from fusedata.sample.protocol import Completion, Request
from fusedata.sample.stage import sample
from fusedata.schema import PROMPTS, RESPONSES, prompt_id, sample_seed
from fusedata.store import Parts

MODEL = "test/chat"


@pytest.fixture(scope="module")
def server():
    with ChatServer() as running:
        yield running


def host(*urls, **settings):
    return Host(engine="openai", base_urls=urls, **settings)


def model(**sampling):
    return SourceModel(id=MODEL, **sampling)


def requests(*texts, samples=1):
    turns = [[{"role": "user", "content": text}] for text in texts]
    return [Request(prompt_id(t), n, t, sample_seed(1, prompt_id(t), MODEL, n)) for t in turns for n in range(samples)]


def answers(server, asked, sampling=None, **settings):
    """Completions by (prompt, sample)."""
    engine = OpenaiEngine(model(**sampling or {}), host(server.url, **settings))
    try:
        return [pair for group in engine.generate([asked]) for pair in group]
    finally:
        engine.close()


def completion(server, text, **settings):
    ((_, found),) = answers(server, requests(text), **settings)
    return found


def bodies(server, text):
    return [entry["body"] for entry in server.log() if entry["body"]["messages"][-1]["content"] == text]


def test_a_proper_answer_is_a_completion(server):
    (request,) = requests("Hello")
    ((same, found),) = answers(server, [request])
    assert same == request
    assert found == Completion(f"Hello seed {request.seed} choice 0", "stop", 5, 7)


def test_all_parameters_are_sent_to_vllm_and_its_kin(server):
    asked = {"temperature": 0.3, "top_p": 0.4, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "max_tokens": 9}
    asked |= {"presence_penalty": 0.5, "frequency_penalty": -0.5}
    (request,) = requests("parameters")
    answers(server, [request], asked)
    (body,) = bodies(server, "parameters")
    own = {"model": MODEL, "messages": request.messages, "seed": request.seed}
    assert body == own | asked | {"repeat_penalty": 1.2, "repeat_last_n": -1}


def test_parameters_that_a_recipe_leaves_out_are_sent_as_off(server):
    answers(server, requests("off"), {"max_tokens": 3})
    (body,) = bodies(server, "off")
    off = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    assert off.items() <= body.items()


def test_only_openais_parameters_are_sent_in_its_dialect(server):
    answers(server, requests("dialect"), {"frequency_penalty": 0.1}, dialect="openai", model="gpt-x")
    (body,) = bodies(server, "dialect")
    assert body.keys() == {"model", "messages", "seed", "temperature", "top_p", "max_tokens", "frequency_penalty"}
    assert body["model"] == "gpt-x"


@pytest.mark.parametrize("said", [{"top_k": 1}, {"top_k": 40}, {"min_p": 1.0}, {"repetition_penalty": 1.1}])
def test_what_openais_dialect_cannot_say_is_told(said):
    (key,) = said
    with pytest.raises(ConfigError) as raised:
        OpenaiEngine(model(**said), host("http://x/v1", dialect="openai"))
    remedy = 'take it out of the recipe, or set dialect = "vllm" if the server takes it'
    assert str(raised.value) == f"{MODEL}: {key} is no parameter of OpenAI's, which the engine speaks: {remedy}."


def test_parameters_that_are_off_may_stand_in_a_recipe_for_openais_dialect():
    OpenaiEngine(model(min_p=0.0, repetition_penalty=1.0), host("http://x/v1", dialect="openai"))


def test_a_profile_makes_the_engine(server):
    engine = make_engine(model(), Profile(name="p", engines=(host(server.url),)))
    assert isinstance(engine, OpenaiEngine)


# --- answers that are none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["empty", "null", "blank", "list", "parts", "end=abort", "end=null"])
def test_an_answer_that_holds_no_text_is_asked_for_again(server, fault):
    found = completion(server, f"{{{fault}}} again", tries=2)
    assert (found.finish_reason, found.text.startswith(f"{{{fault}}} again seed")) == ("stop", True)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("empty", "the answer holds no choice"),
        ("null", "the answer holds no text"),
        ("blank", "the answer holds no text"),
        ("parts", "the answer holds no text"),
        ("list", "the answer is no chat completion"),
        ("end=abort", "the server ended the answer with abort"),
        ("500", "500 busy"),
        ("surrogate", "the answer is no JSON"),
    ],
)
def test_an_answer_that_never_comes_is_an_error_to_be_tried_again_by_the_next_build(server, fault, reason):
    found = completion(server, f"{{{fault} *}} never", tries=2)
    assert found == Completion(None, "error", error=f"{reason} (2 tries)")


@pytest.mark.parametrize("reason", ["content_filter", "tool_calls"])
def test_what_another_try_would_meet_again_is_an_error_at_once(server, reason):
    turn = f"{{end={reason}}} filtered"
    found = completion(server, turn)
    assert (found.text, found.finish_reason) == (None, "error")
    assert found.error == f"the server ended the answer with {reason}"
    assert len(bodies(server, turn)) == 1


def test_a_model_that_only_thought_is_a_finished_row_with_a_reason(server):
    found = completion(server, "{think} hard")
    assert found == Completion(None, "length", 12, 7, "the model's answer holds no text")


def test_a_refused_prompt_is_an_error_with_the_servers_words(server):
    assert completion(server, "{400} x") == Completion(None, "error", error="400 temperature is too hot")


def test_a_prompt_that_is_too_long_is_so_for_good(server):
    found = completion(server, "{long} x")
    assert (found.text, found.finish_reason) == (None, "too_long")
    assert found.error.startswith("400 This model's maximum context length is 8 tokens.")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": 1e3}, {"prompt_tokens": 2**31}])
def test_counts_that_are_none_are_not_written_down(usage):
    choice = {"finish_reason": "stop", "message": {"content": "x"}}
    assert read({"choices": [choice], "usage": usage}, 1) == [Completion("x", "stop")]


# --- several choices a request --------------------------------------------------------------------------------


def test_with_n_the_samples_of_a_prompt_are_one_request_and_share_its_seed(server):
    asked = requests("one", "two", samples=4)
    found = answers(server, asked, n=True)
    (body,) = bodies(server, "one")
    assert (body["n"], body["seed"]) == (4, asked[0].seed)
    assert {request.seed for request, _ in found if request.messages[0]["content"] == "one"} == {asked[0].seed}
    assert sorted((r.prompt_id, r.sample) for r, _ in found) == sorted((r.prompt_id, r.sample) for r in asked)
    assert len({c.text for _, c in found}) == 8
    assert {(c.prompt_tokens, c.completion_tokens) for _, c in found} == {(3, None)}


def test_the_samples_of_a_prompt_are_one_request_also_where_a_batch_ends_between_them(server):
    asked = requests("cut in two", samples=5)
    engine = OpenaiEngine(model(), host(server.url, n=True))
    list(engine.generate([asked[:2], asked[2:]]))
    engine.close()
    assert [body["n"] for body in bodies(server, "cut in two")] == [5]


@pytest.mark.parametrize("fault", ["fewer", "holes"])
def test_choices_that_are_missing_are_asked_for_again_with_another_seed_which_is_recorded(server, fault):
    turn = f"{{@ {fault}}} choices"
    asked = requests(turn, samples=4)
    found = answers(server, asked, n=True)
    first, second = bodies(server, turn)
    kept = 4 - second["n"]
    assert (first["n"], first["seed"], second["seed"]) == (4, asked[0].seed, asked[kept].seed)
    assert [request.sample for request, _ in found] == [0, 1, 2, 3]
    assert all(f" seed {request.seed} " in completion.text for request, completion in found)
    assert len({completion.text for _, completion in found}) == 4


def test_choices_that_are_too_many_are_left(server):
    found = answers(server, requests("{more} choices", samples=3), n=True)
    assert [c.text.rpartition(" ")[2] for _, c in found] == ["0", "1", "2"]


def test_what_is_missing_for_good_is_an_error_and_what_came_is_kept(server):
    found = answers(server, requests("{@ fewer 500 *} x", samples=4), n=True, tries=1)
    assert [c.finish_reason for _, c in found] == ["stop", "stop", "error", "error"]


# --- a whole stage ------------------------------------------------------------------------------------------


def prompts(texts):
    turns = [[{"role": "user", "content": text}] for text in texts]
    columns = {
        "prompt_id": [prompt_id(t) for t in turns],
        "corpus": "made",
        "corpus_row": range(len(texts)),
        "messages": turns,
        "sampled": True,
        "chars": [len(text) for text in texts],
    }
    return pl.DataFrame({name: columns.get(name) for name in PROMPTS}, schema=PROMPTS)


def drawn(table, engine, parts, samples=3):
    try:
        sample(table, MODEL, samples, engine, parts, seed=1, advance=lambda _: None)
    finally:
        engine.close()


def whole(table, parts, samples=3):
    """Whether each sample is there, once, with its own text."""
    rows = parts.scan().collect().join(table.select("prompt_id", "messages"), on="prompt_id")
    keys = rows.select("prompt_id", "sample")
    texts = [f"{m[0]['content']} seed {s} choice 0" for m, s in rows.select("messages", "seed").iter_rows()]
    return keys.height == keys.unique().height == table.height * samples and rows["text"].to_list() == texts


FAULTS = [
    *("429", "429:1", "500", "503", "reset", "half", "cut", "json", "nothing", "empty", "null", "late:2", "end=abort"),
    *("list", "blank", "late:0.1"),
]


def storm(seed, count):
    chance = random.Random(seed)
    faults = [" ".join(chance.choices(FAULTS, k=chance.choice([0, 0, 1, 2]))) for _ in range(count)]
    return prompts([f"{{{fault}}} prompt {n}" for n, fault in enumerate(faults)])


@pytest.mark.parametrize("seed", [1, 2])
def test_in_a_storm_no_sample_is_lost_or_doubled_or_empty(server, tmp_path, seed):
    table, parts = storm(seed, 40), Parts(tmp_path / str(seed), RESPONSES)
    drawn(table, OpenaiEngine(model(), host(server.url, timeout=1, batch_size=16, in_flight=32)), parts)
    assert whole(table, parts)


def test_what_failed_is_taken_up_again_and_nothing_else(tmp_path):
    parts = Parts(tmp_path / "parts", RESPONSES)
    table = prompts([f"{{500 500}} {n}" if n % 3 == 0 else f"good {n}" for n in range(30)])
    with ChatServer() as server:
        for failed in (30, 30, 0):
            drawn(table, OpenaiEngine(model(), host(server.url, tries=1)), parts)
            assert parts.scan("failed").collect().height == failed
        asked = len(server.log())
    assert asked == 60 + 3 * 30
    assert whole(table, parts)


def test_a_server_that_is_killed_and_restarted_in_the_middle_loses_nothing(tmp_path):
    table, parts = prompts([f"{{late:0.03}} {n}" for n in range(80)]), Parts(tmp_path / "parts", RESPONSES)
    with ChatServer() as server:

        def restart():
            server.kill()
            threading.Timer(1.0, server.start).start()

        threading.Timer(0.4, restart).start()
        drawn(table, OpenaiEngine(model(), host(server.url, in_flight=8, batch_size=10)), parts)
    assert whole(table, parts)


def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path):
    table, parts = prompts([f"{{late:0.01}} {n}" for n in range(60)]), Parts(tmp_path / "parts", RESPONSES)

    def stop(_):
        raise KeyboardInterrupt

    with ChatServer() as server:
        engine = OpenaiEngine(model(), host(server.url, in_flight=4, batch_size=10))
        with pytest.raises(KeyboardInterrupt):
            sample(table, MODEL, 3, engine, parts, seed=1, advance=stop)
        engine.close()
        assert parts.done().height == 10
        first = len(server.log())
        drawn(table, OpenaiEngine(model(), host(server.url, in_flight=4, batch_size=10)), parts)
        assert len(server.log()) - first == 170
    assert whole(table, parts)


def test_a_model_that_the_servers_do_not_have_stops_the_build(server, tmp_path):
    with pytest.raises(EngineError, match="answers 404 The model `x` does not exist: check base_urls and model"):
        drawn(prompts(["{404} x"]), OpenaiEngine(model(), host(server.url)), Parts(tmp_path / "p", RESPONSES))


KEY = "sk-not-to-be-seen"


def test_the_key_is_in_no_part_no_message_and_no_identity(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CHAT_KEY", KEY)
    engine = OpenaiEngine(model(), host(server.url, api_key_env="CHAT_KEY", tries=1))
    parts = Parts(tmp_path / "parts", RESPONSES)
    drawn(prompts(["{echo} me", "good", "{500} x"]), engine, parts)
    assert {entry["key"] for entry in server.log() if "{echo} me" in str(entry["body"])} == {f"Bearer {KEY}"}
    rows = parts.scan().collect()
    assert "400 wrong key Bearer *** of nobody" in rows["error"].to_list()
    told = [*(repr(row) for row in rows.rows()), str(engine.identity()), repr(engine), caplog.text]
    told += [path.read_bytes().decode(errors="replace") for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert not any(KEY in text for text in told)


# --- identity -----------------------------------------------------------------------------------------------


def test_the_identity_needs_no_server_and_tells_no_address():
    engine = OpenaiEngine(model(revision="v2"), host("http://nobody:1/v1", model="served"))
    assert engine.identity() == {
        "engine": "openai",
        "model": "served",
        "revision": "v2",
        "dialect": "vllm",
        "n": "false",
    }


def test_servers_sizes_and_patience_do_not_move_the_identity():
    one = host("http://a/v1", in_flight=1, timeout=1, tries=1, batch_size=1)
    assert OpenaiEngine(model(), one).identity() == OpenaiEngine(model(), host("http://b/v1")).identity()


@pytest.mark.parametrize("change", [{"n": True}, {"dialect": "openai"}, {"model": "other"}])
def test_how_the_model_is_asked_moves_the_identity(change):
    plain = OpenaiEngine(model(), host("http://a/v1")).identity()
    assert OpenaiEngine(model(), host("http://a/v1", **change)).identity() != plain


# --- a real vLLM --------------------------------------------------------------------------------------------


class Real:
    def __init__(self, url):
        self.url = url


@pytest.fixture(scope="session")
def vllm(tiny_model, tmp_path_factory):
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("vllm")
    wider(tiny_model, folder / "model", "LlamaForCausalLM")
    with vllm_serve(folder / "model", folder / "log", "--max-model-len", "128") as url:
        yield Real(url)


TINY = {"model": "tiny", "tries": 1}


@pytest.mark.vllm
@pytest.mark.slow
def test_an_idle_vllm_gives_the_same_text_for_the_same_seed(vllm):
    asked = requests("one", samples=3)
    first, second = (answers(vllm, asked, {"max_tokens": 12}, in_flight=1, **TINY) for _ in range(2))
    assert first == second


@pytest.mark.vllm
@pytest.mark.slow
def test_the_samples_of_a_prompt_differ_whatever_the_models_generation_config_says(vllm):
    found = answers(vllm, requests("one", samples=8), {"max_tokens": 12, "temperature": 1.0, "top_p": 1.0}, **TINY)
    assert len({completion.text for _, completion in found}) == 8
    # `n` through the same server with top_k left out: the model's top_k = 1 makes all choices one
    import json
    import urllib.request

    body = {"model": "tiny", "messages": requests("one")[0].messages, "max_tokens": 12, "temperature": 1.0, "n": 8}
    sent = urllib.request.Request(f"{vllm.url}/chat/completions", json.dumps(body).encode())
    sent.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(sent, timeout=60) as answer:
        choices = json.load(answer)["choices"]
    assert len({choice["message"]["content"] for choice in choices}) == 1


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_gives_several_choices_a_request(vllm):
    found = answers(vllm, requests("one", samples=5), {"max_tokens": 12}, n=True, **TINY)
    assert len({completion.text for _, completion in found}) == 5
    assert {completion.prompt_tokens for _, completion in found} == {6}


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_counts_tokens_and_tells_how_an_answer_ended(vllm):
    found = answers(vllm, requests("one", samples=6), {"max_tokens": 5}, **TINY)
    assert all(c.completion_tokens <= 5 and c.finish_reason in {"stop", "length"} for _, c in found)
    assert any(c.finish_reason == "length" and c.completion_tokens == 5 for _, c in found)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("length", [500, 125])
def test_a_prompt_that_leaves_vllm_no_room_is_too_long_and_its_neighbours_are_answered(vllm, length):
    found = answers(vllm, requests("x" * length, "one"), {"max_tokens": 5}, **TINY)
    assert {len(r.messages[0]["content"]): c.finish_reason == "too_long" for r, c in found} == {length: True, 3: False}


@pytest.mark.vllm
@pytest.mark.slow
def test_an_unknown_model_is_told_by_vllm(vllm):
    with pytest.raises(EngineError, match="answers 404 The model `nobody` does not exist"):
        answers(vllm, requests("one"), model="nobody")
