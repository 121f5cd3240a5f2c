"""Pushing a trained model through both real clients, and its card."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants  # noqa: TID253 - it is what is tested
import pytest
import yaml
from push_server import TOKEN, PushServer
from test_train import SMALL, answered, dataset, pairs

from fusedata.errors import ConfigError, HubError, RunError
from fusedata.publish.huggingface import HuggingFace
from fusedata.publish.modelscope import ModelScope
from fusedata.publish.protocol import Hub
from fusedata.publish.send import Pushed
from fusedata.publishing import HubName, ModelRepo, model_target
from fusedata.train.card import command, model_card, published
from fusedata.train.push import check_models, is_model, push_models
from fusedata.train.run import planned, run

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),  # huggingface_hub's own LFS
]
HUBS: tuple[HubName, ...] = ("hf", "modelscope")
both = pytest.mark.parametrize("hub", HUBS)
COMMIT = {"hf": r"POST /api/models/.*/commit/", "modelscope": r"POST /api/v1/repos/models/.*/commit/"}
WEIGHTS = {"hf": r"PUT /lfs/", "modelscope": r"PUT /lfs/"}


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """SFT and DPO of one target, on data whose recipe states licences; nobody writes into them."""
    folder = tmp_path_factory.mktemp("models")
    for kind, rows in (("sft", answered(24)), ("dpo", pairs(24))):
        data = dataset(folder / "data" / kind / "data", rows).parent
        (data / "recipe.toml").write_text(
            """
name = "small"
[[corpora]]
id = "org/corpus"
license = "cc-by-nc-4.0"
prompt = "q"
[[source_models]]
id = "google/gemma-2-27b-it"
license = "gemma"
[reward]
model = "org/reward"
"""
        )
    steps = planned(
        [str(folder / "data")], "fuse", "llama-3.1-8b", str(tiny_model), out=folder / "out", overrides=SMALL
    )
    return [run(step, lambda entry: None, lambda rows, example: None).folder for step in steps]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PushServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # read from the environment at import
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    with PushServer() as running:
        yield running


def opened(server: PushServer, name: HubName) -> Hub:
    return HuggingFace(server.url, "model") if name == "hf" else ModelScope(server.url, "model")


def pushed(server: PushServer, folders: list[Path], *hubs: HubName, public: bool = False, **more: str) -> list[Pushed]:
    target = ModelRepo(hubs=hubs, repo=more.pop("repo", "org/mine-{stage}"), public=public)
    return push_models(folders, target, make_hub=functools.partial(opened, server), **more)  # type: ignore[arg-type]


def refusal(server: PushServer, folders: list[Path], hub: HubName, **more: str) -> str:
    with pytest.raises((HubError, RunError)) as caught:
        pushed(server, folders, hub, **more)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def held(server: PushServer, repo: str) -> dict[str, bytes]:
    return {name: content for name, content in server.files(repo).items() if name != ".gitattributes"}


@both
def test_each_model_arrives_in_a_private_repository_of_its_own_without_its_checkpoints(server, models, hub):
    first, second = pushed(server, models, hub)
    assert (first.repo, second.repo) == ("org/mine-SFT", "org/mine-DPO")
    for one, folder in ((first, models[0]), (second, models[1])):
        assert not one.public
        assert server.kinds[one.repo] == "model"
        files = held(server, one.repo)
        assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
        assert {"config.json", "README.md", "LICENSE.md", "curves.png", "train.json"} <= set(files)
        assert any(name.startswith("tokenizer") for name in files)
        assert not [name for name in files if "checkpoint" in name or "optimizer" in name or name.endswith(".bin")]
        assert one.tag in server.tags(one.repo)
        assert one.tag.startswith("model-")
    assert (first.url, second.commit != "") == (opened(server, hub).url(first.repo), True)


@both
def test_no_path_of_this_machine_leaves(server, models, hub):
    one, two = pushed(server, models, hub)
    for repo in (one.repo, two.repo):
        text = b"".join(content for name, content in held(server, repo).items() if name.endswith((".md", ".json")))
        assert str(models[0].parent).encode() not in text
        assert b"/tmp" not in text


@both
def test_a_push_again_sends_nothing(server, models, hub):
    pushed(server, models, hub)
    server.uploads.clear()
    again = pushed(server, models, hub)
    assert [one.sent for one in again] == [0, 0]
    assert server.uploads == []


@both
def test_a_push_that_was_cut_goes_on_without_the_weights_that_arrived(server, models, hub):
    server.fail(COMMIT[hub], 500)
    refusal(server, models[:1], hub)
    assert len(server.uploads) == 1
    server.faults.clear()
    (one,) = pushed(server, models[:1], hub)
    assert len(server.uploads) == 1
    assert held(server, one.repo)["model.safetensors"] == (models[0] / "model.safetensors").read_bytes()


@both
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_hub_is_one_sentence(server, models, hub, status):
    server.fail(COMMIT[hub], status)
    assert hub.replace("hf", "Hugging Face").lower() in refusal(server, models[:1], hub).lower()


@both
def test_a_repository_that_holds_something_else_is_left_alone(server, models, hub):
    server.make("org/mine-SFT", {"model.safetensors": b"theirs"})
    assert "holds something else" in refusal(server, models[:1], hub)
    pushed(server, models[1:], hub, repo="org/taken")
    assert "holds the DPO model" in refusal(server, models[:1], hub, repo="org/taken")
    assert held(server, "org/mine-SFT") == {"model.safetensors": b"theirs"}


def test_a_missing_token_or_a_shared_repository_is_refused_before_the_training(server, monkeypatch):
    both_stages = ModelRepo(hubs=("hf",), repo="org/one")
    with pytest.raises(ConfigError, match="two models go there"):
        check_models("llama-3.1-8b", ("sft", "dpo"), both_stages, functools.partial(opened, server))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(HubError, match="no token for Hugging Face"):
        check_models("llama-3.1-8b", ("sft",), both_stages, functools.partial(opened, server))


def test_where_a_model_goes_is_asked_for_in_one_sentence():
    with pytest.raises(ConfigError, match="no hub or no repository"):
        model_target("llama-3.1-8b", hubs=("hf",))
    assert model_target("t", hubs=("hf",), namespace="me").repo_of("dpo") == "me/t-FuseChat-DPO"


def test_an_unfinished_training_is_not_pushed(server, models, tmp_path):
    record = json.loads((models[0] / "train.json").read_bytes())
    del record["kept"]
    (tmp_path / "train.json").write_text(json.dumps(record))
    (tmp_path / "config.json").write_text("{}")
    assert is_model(tmp_path)
    assert "not finished" in refusal(server, [tmp_path], "hf")
    assert server.datasets == {}


def test_the_card_tells_the_base_the_data_and_every_licence(models):
    record = json.loads((models[1] / "train.json").read_bytes())
    text = (models[1] / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == record["base"] == json.loads((models[0] / "train.json").read_bytes())["base"]
    assert (front["license"], front["license_link"]) == ("other", "LICENSE.md")
    assert "org/corpus (corpus) | Creative Commons Attribution-NonCommercial 4.0" in text
    assert "Gemma" in text
    terms = (models[1] / "LICENSE.md").read_text()
    assert "No commercial use" in terms


def test_the_base_of_a_target_carries_the_targets_licence_and_another_one_none(models):
    record = json.loads((models[0] / "train.json").read_bytes())
    assert "not stated: ask before use" in model_card(record)
    card = model_card({**record, "base": "meta-llama/Llama-3.1-8B-Instruct"})
    assert "meta-llama/Llama-3.1-8B-Instruct (source model) | Llama 3.1 Community License" in card


def test_the_command_on_the_card_trains_the_same(models):
    record = json.loads((models[1] / "train.json").read_bytes())
    told = command(published(record))
    assert told.startswith("fusedata train --dataset data --stage dpo --target llama-3.1-8b --model sft --set ")
    for override in SMALL:
        assert f"--set {override}" in told
    assert "beta=" not in told
