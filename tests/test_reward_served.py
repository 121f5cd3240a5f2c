"""A reward model over HTTP, against a server that misbehaves and against a real vLLM."""

import random
import threading

import pytest
from chat_server import ChatServer
from vllm_server import vllm_serve, wider

from fusedata.errors import ConfigError, RewardError
from fusedata.profile import RewardServer
from fusedata.recipe import Reward
from fusedata.reward.protocol import TOO_LONG, Item, RewardModel, Scored
from fusedata.reward.served import ServedReward


@pytest.fixture(scope="module")
def server():
    with ChatServer() as running:
        yield running


def item(question, answer="An answer."):
    return Item(({"role": "system", "content": "Be kind."}, {"role": "user", "content": question}), answer)


def made(server, *, output=None, weights=None, model="test/reward", **settings):
    reward = Reward(model=model, output=output, weights=weights)
    return ServedReward(reward, RewardServer(base_urls=(server.url,), **settings))


def scored(server, *items, **settings):
    model = made(server, **settings)
    try:
        return model.score(items)
    finally:
        model.close()


def test_a_served_reward_is_a_reward_model(server):
    model: RewardModel = made(server)
    assert model.name == "test/reward"
    assert model.tolerance > 0


@pytest.mark.parametrize("endpoint", ["classify", "pooling"])
def test_a_score_and_its_tokens_are_read(server, endpoint):
    # the twin's output is the length of the last turn, which is also what it counts as tokens
    assert scored(server, item("Why?", "12345"), endpoint=endpoint) == [Scored(5.0, 5)]


def test_the_raw_output_of_the_whole_conversation_is_asked_for(server):
    scored(server, item("The whole?", "Yes."), model="org/rm")
    entry, *_ = (e for e in server.log() if "The whole?" in str(e["body"]))
    turns = [*item("The whole?").messages, {"role": "assistant", "content": "Yes."}]
    assert entry["body"] == {"model": "org/rm", "messages": turns, "use_activation": False}
    assert entry["path"] == "/classify"  # beside /v1, not under it


def test_pooling_of_each_token_gives_the_last_ones(server):
    assert scored(server, item("x", "token"), endpoint="pooling") == [Scored(5.0, 5)]


def test_scores_come_in_the_order_of_the_items(server):
    items = [item(f"{{late:{n % 5 / 20}}} order {n}", "x" * n) for n in range(1, 40)]
    assert [one.score for one in scored(server, *items, in_flight=7)] == list(range(1, 40))


def test_the_tolerance_is_what_scores_move_by_when_they_are_asked_for_alone(server):
    model = made(server)
    model.score([item("still", "x")])
    assert model.tolerance == 0.05
    model = made(server, in_flight=16)
    model.score([item(f"moves {n}", "drift") for n in range(20)])
    model.score([item(f"later {n}", "drift") for n in range(20)])
    model.close()
    counts = [len([e for e in server.log() if f"moves {n}'" in str(e["body"])]) for n in range(20)]
    assert counts == [2] * 8 + [1] * 12
    assert model.tolerance == 2 * 0.25
    assert len([e for e in server.log() if "later" in str(e["body"])]) == 20


def test_no_items_give_no_scores(server):
    assert made(server).score([]) == []


def test_one_of_several_outputs_is_chosen(server):
    assert scored(server, item("x", "outputs=3"), output=2)[0].score == 10.0


def test_several_outputs_are_weighed(server):
    assert scored(server, item("x", "outputs=3"), weights=(1.0, 2.0, -1.0))[0].score == 9 + 2 * 9.5 - 10


@pytest.mark.parametrize("choice", [{}, {"output": 3}, {"weights": (1.0, 2.0)}])
def test_outputs_that_the_recipe_does_not_fit_are_told(server, choice):
    with pytest.raises(RewardError, match="the model has 3 outputs, and the recipe does not fit them"):
        scored(server, item("x", "outputs=3"), **choice)


@pytest.mark.parametrize("fault", ["429", "500", "reset", "half", "json", "list", "nothing"])
def test_a_try_that_fails_is_made_again(server, fault):
    assert scored(server, item(f"{{{fault}}} again", "1234"), tries=2) == [Scored(4.0, 4)]


def test_an_item_that_is_too_long_says_so_and_its_neighbours_are_scored(server):
    assert scored(server, item("{long} x"), item("short", "123")) == [Scored(None, None, TOO_LONG), Scored(3.0, 3)]


def test_an_item_that_the_server_refuses_has_its_words(server):
    assert scored(server, item("{400} x")) == [Scored(None, None, "400 temperature is too hot")]


def test_a_score_that_is_no_number_is_none(server):
    assert scored(server, item("x", "12"), weights=(1e308,)) == [Scored(None, 2, "the score is no number (inf)")]


def test_a_server_that_gives_no_score_breaks_the_batch(server):
    with pytest.raises(RewardError, match=r"test/reward: the server gave no score: 500 busy \(2 tries\); build again"):
        scored(server, item("{500 *} x"), tries=2)


def test_where_nothing_listens_it_is_told_early():
    with ChatServer() as gone:
        pass
    with pytest.raises(RewardError, match="no server answers"):
        scored(gone, item("x"))


def test_connections_are_kept_between_batches(server):
    model = made(server, in_flight=2)
    for batch in range(5):
        model.score([item(f"kept {batch} {n}") for n in range(6)])
    model.close()
    assert len({e["connection"] for e in server.log() if "kept" in str(e["body"])}) <= 2


def test_a_closed_model_leaves_no_thread_and_may_be_used_again(server):
    model = made(server)
    for _ in range(2):
        model.score([item("x")])
        model.close()
    assert "fusedata-servers" not in {thread.name for thread in threading.enumerate()}


def test_the_identity_tells_model_and_output_and_no_address(server):
    found = made(server, output=1).identity()
    assert found == {
        "name": "test/reward",
        "endpoint": "classify",
        "model": "test/reward",
        "revision": "",
        "output": "1",
    }


@pytest.mark.parametrize("change", [{"output": 1}, {"weights": (1.0,)}, {"model": "x"}, {"endpoint": "pooling"}])
def test_what_changes_a_score_moves_the_identity(server, change):
    assert made(server, **change).identity() != made(server).identity()


def test_a_missing_key_is_a_config_error(server, monkeypatch):
    monkeypatch.delenv("REWARD_KEY", raising=False)
    with pytest.raises(ConfigError, match="the environment variable REWARD_KEY is not set"):
        made(server, api_key_env="REWARD_KEY")


# --- a real vLLM --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def classifier(tiny_model, tmp_path_factory):
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("classifier")
    return wider(tiny_model, folder / "model", "LlamaForSequenceClassification", num_labels=3)


@pytest.fixture(scope="session")
def vllm(classifier):
    with vllm_serve(classifier, classifier.parent / "log", "--max-model-len", "128", "--runner", "pooling") as url:
        yield url


def by_transformers(folder, items):
    """The three outputs of each item, one at a time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    network.config.pad_token_id = None  # it is the end of a turn too, which transformers would then not read
    rows = []
    for one in items:
        turns = [*one.messages, {"role": "assistant", "content": one.response}]
        tokens = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True).input_ids
        with torch.inference_mode():
            rows.append((network(tokens).logits[0].tolist(), tokens.shape[1]))
    return rows


def items_of(seed, count):
    chance = random.Random(seed)
    return [
        item("Question " + "?" * chance.randrange(1, 20), "a b c d e "[: chance.randrange(1, 11)] * 3)
        for _ in range(count)
    ]


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["classify", "pooling"])
def test_vllms_scores_are_those_of_transformers(vllm, classifier, endpoint):
    items = items_of(1, 30)
    model = ServedReward(
        Reward(model="org/rm", weights=(1.0, -2.0, 0.5)),
        RewardServer(base_urls=(vllm,), model="tiny", endpoint=endpoint, in_flight=8),
    )
    found = model.score(items)
    model.close()
    wanted = [(a - 2 * b + 0.5 * c, tokens) for (a, b, c), tokens in by_transformers(classifier, items)]
    assert [one.score for one in found] == pytest.approx([score for score, _ in wanted], abs=1e-4)
    assert [one.tokens for one in found] == [tokens for _, tokens in wanted]


@pytest.mark.vllm
@pytest.mark.slow
def test_an_item_longer_than_vllms_context_says_so(vllm):
    model = ServedReward(Reward(model="org/rm", output=0), RewardServer(base_urls=(vllm,), model="tiny"))
    long, short = model.score([item("x", "y" * 300), item("x", "y")])
    model.close()
    assert (long.score, long.error) == (None, TOO_LONG)
    assert short.score is not None
