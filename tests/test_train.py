"""Training on the CPU: a tiny model for the mechanics; the real one stands in test_train_proof.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from hub_server import HubServer

from fusedata.errors import ConfigError
from fusedata.train.outcome import better, sweep
from fusedata.train.rows import read_rows
from fusedata.train.run import planned, run
from fusedata.train.settings import TARGETS, doubts, find_target, settings_for

SMALL = ("batch=4", "device_batch=2", "save_steps=3", "log_steps=1", "max_tokens=100", "learning_rate=0.001")


def turns(text: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def pairs(count: int) -> list[dict[str, object]]:
    return [
        {"prompt": turns(f"Say {n}.", "user"), "chosen": turns(f"It is {n}."), "rejected": turns("No idea, sorry!")}
        for n in range(count)
    ]


def answered(count: int) -> list[dict[str, object]]:
    return [{"messages": turns(f"Say {n}.", "user") + turns(f"It is {n}.")} for n in range(count)]


def dataset(folder: Path, rows: list[dict[str, object]], test: int = 4) -> Path:
    folder.mkdir(parents=True)
    pl.DataFrame(rows[test:]).write_parquet(folder / "train-00000-of-00001.parquet")
    if test:
        pl.DataFrame(rows[:test]).write_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def trained(data: Path, stage: str | None, model: Path, out: Path, *overrides: str, seen: list | None = None):
    (step,) = planned([str(data)], stage, "llama-3.1-8b", str(model), out=out, overrides=[*SMALL, *overrides])
    return run(step, lambda entry: None, lambda rows, example: (seen if seen is not None else []).append(example))


def test_targets_carry_the_published_hyper_parameters():
    table = {name: (t.sft, t.dpo, t.beta, t.loss) for name, t in TARGETS.items()}
    assert table == {
        "llama-3.1-8b": (5e-6, 8e-7, 10, "sigmoid_norm"),
        "llama-3.2-3b": (5e-6, 1e-6, 10, "sigmoid_norm"),
        "llama-3.2-1b": (5e-6, 1e-6, 10, "sigmoid_norm"),
        "qwen2.5-7b": (2e-6, 3e-7, 0.01, "sigmoid"),
        "gemma-2-9b": (2e-6, 5e-7, 0.01, "sigmoid"),
    }
    sft, dpo = (settings_for(find_target("qwen2.5-7b"), stage) for stage in ("sft", "dpo"))
    assert (sft.epochs, dpo.epochs, dpo.beta, sft.batch, sft.max_tokens, sft.warmup) == (3, 1, 0.01, 128, 2048, 0.1)


def test_overrides_are_typed_and_checked():
    settings = settings_for(find_target("gemma-2-9b"), "dpo", ["beta=10", "loss=sigmoid", "packing=true"])
    assert (settings.beta, settings.loss, settings.packing) == (10.0, "sigmoid", True)
    for wrong, word in (
        ("beta=-1", "greater"),
        ("betta=1", "unknown key"),
        ("beta", "field=value"),
        ("quantize=true", "lora_rank"),
        ("schedule=cosinus", "must be 'cosine'"),
        ("grpo.beta=1", "grpo is no stage"),
    ):
        with pytest.raises(ConfigError, match=word):
            settings_for(find_target("gemma-2-9b"), "dpo", [wrong])


def test_an_override_of_one_stage_leaves_the_other_as_published():
    overrides = ["dpo.epochs=2", "batch=64", "epochs=4"]
    sft, dpo = (settings_for(find_target("gemma-2-9b"), stage, overrides) for stage in ("sft", "dpo"))
    assert (sft.epochs, dpo.epochs, sft.batch, dpo.batch) == (4, 2, 64, 64)


def test_a_beta_that_does_not_fit_the_loss_is_doubted():
    target = find_target("llama-3.1-8b")
    assert doubts(settings_for(target, "dpo"), "dpo") == []
    assert "does not fit" in doubts(settings_for(target, "dpo", ["beta=0.01"]), "dpo")[0]
    assert doubts(settings_for(target, "dpo", ["loss=sigmoid"]), "dpo") != []


def test_dpo_from_the_target_itself_is_doubted(tmp_path):
    data = str(dataset(tmp_path / "data", pairs(8)))
    told = [planned([data], "dpo", "qwen2.5-7b", model)[0].doubts for model in (None, "org/sft")]
    assert "the method with its SFT model" in told[0][0]
    assert told[1] == ()


def test_a_missing_target_is_told_in_one_sentence_with_the_presets(tmp_path):
    data = dataset(tmp_path / "data", pairs(8))
    done = subprocess.run(
        [sys.executable, "-m", "fusedata", "train", "--dataset", str(data)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--target is missing" in done.stderr
    assert "qwen2.5-7b" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("rows", "stage"),
    [
        (answered(6), "sft"),
        (pairs(6), "dpo"),
        ([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 3, "sft"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3, "dpo"),
    ],
)
def test_the_stage_is_told_from_the_columns(tmp_path, rows, stage):
    found = read_rows(str(dataset(tmp_path / "data", rows, test=0)), None, share=0.5, seed=1)
    assert found.stage == stage
    assert found.train["prompt"][0][-1]["role"] == "user"


def test_without_a_test_split_prompts_are_held_out_by_hash(tmp_path):
    rows = answered(200)
    found = read_rows(str(dataset(tmp_path / "one", rows, test=0)), "sft", share=0.1, seed=1)
    again = read_rows(str(dataset(tmp_path / "two", rows[::-1], test=0)), "sft", share=0.1, seed=1)
    held = [prompt[0]["content"] for prompt in found.test["prompt"]]
    assert 5 < len(held) < 40
    assert sorted(held) == sorted(prompt[0]["content"] for prompt in again.test["prompt"])
    assert not set(held) & {prompt[0]["content"] for prompt in found.train["prompt"]}


def test_rows_of_a_test_split_are_never_trained_on_whatever_it_is_called(tmp_path):
    rows = answered(8)
    for place, split in enumerate(("train_sft", "test_sft", "train_gen", "validation_gen")):
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame(rows[2 * place : 2 * place + 2]).write_parquet(path)
    with pytest.raises(ConfigError, match=r"several splits to train on \(train_gen, train_sft\): name one"):
        read_rows(str(tmp_path / "data"), None, share=0.5, seed=1)
    found = read_rows(f"{tmp_path / 'data'}:train_sft", None, share=0.5, seed=1)
    assert [{*frame["split"]} for frame in (found.train, found.test)] == [{"train_sft"}, {"test_sft"}]
    with pytest.raises(ConfigError, match="holds no split test_sft to train on"):
        read_rows(f"{tmp_path / 'data'}:test_sft", None, share=0.5, seed=1)


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_a_hubs_dataset_is_pinned_to_its_commit(tmp_path, hub):
    """In a process of its own, for clients read their endpoints once; FuseAI's released shape, one JSON file."""
    rows = [
        {
            "dataset": "d",
            "source_model": "m",
            "conversations": [{"from": "human", "value": f"a{n}"}, {"from": "gpt", "value": "b"}],
        }
        for n in range(6)
    ]
    program = (
        "import json, sys; from fusedata.train.rows import read_rows; "
        "found = read_rows(sys.argv[1], None, share=0.2, seed=1); "
        "print(json.dumps([found.stage, found.train.height + found.test.height, found.identity]))"
    )
    with HubServer() as server:
        server.add("org/name", {"train.json": json.dumps(rows).encode()})
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
            "MODELSCOPE_ENDPOINT": server.url,
            "MODELSCOPE_CACHE": str(tmp_path),
        }
        name = "ms:org/name" if hub == "modelscope" else "org/name"
        done = subprocess.run(
            [sys.executable, "-c", program, name], capture_output=True, text=True, check=False, env=environment
        )
    assert done.returncode == 0, done.stderr
    stage, height, identity = json.loads(done.stdout)
    assert (stage, height, identity["dataset"]) == ("sft", 6, name)
    assert len(identity["revision"]) >= 12


@pytest.mark.model
def test_sft_then_dpo_in_order_from_one_folder(tmp_path, tiny_model):
    dataset(tmp_path / "data" / "sft", answered(24))
    dataset(tmp_path / "data" / "dpo", pairs(24))
    steps = planned(
        [str(tmp_path / "data")], "fuse", "llama-3.1-8b", str(tiny_model), out=tmp_path / "out", overrides=SMALL
    )
    folders = [run(step, lambda entry: None, lambda rows, example: None).folder for step in steps]
    assert folders == [tmp_path / "out" / "sft", tmp_path / "out" / "dpo"]
    records = [json.loads((folder / "train.json").read_bytes()) for folder in folders]
    assert records[1]["model"] == str(folders[0])
    assert records[1]["weights"] != records[0]["weights"]
    assert records[1]["settings"]["loss"] == "sigmoid_norm"
    for folder in folders:
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        assert "base_model" in (folder / "README.md").read_text()
        assert (folder / "model.safetensors").exists()


@pytest.mark.model
def test_another_training_is_not_mixed_into_a_folder(tmp_path, tiny_model):
    data = dataset(tmp_path / "data", answered(12))
    trained(data, "sft", tiny_model, tmp_path / "out")
    with pytest.raises(ConfigError, match="another training"):
        trained(data, "sft", tiny_model, tmp_path / "out", "learning_rate=0.01")
    shutil.copytree(tiny_model, tmp_path / "moved")
    assert trained(data, "sft", tmp_path / "moved", tmp_path / "out").best.step == 6  # by any name, the same weights


@pytest.mark.model
def test_adapters_are_merged_into_a_model_that_loads(tmp_path, tiny_model):
    from transformers import AutoModelForCausalLM

    result = trained(
        dataset(tmp_path / "data", pairs(12)), "dpo", tiny_model, tmp_path / "out", "lora_rank=2", "learning_rate=0.05"
    )
    model, before = (AutoModelForCausalLM.from_pretrained(folder) for folder in (result.folder, tiny_model))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not model.state_dict()[name].equal(before.state_dict()[name])
    assert not any("lora" in key for key in model.state_dict())


@pytest.mark.model
def test_a_killed_training_goes_on_with_the_same_losses(tmp_path, tiny_model):
    data = dataset(tmp_path / "data", answered(40))
    whole = trained(data, "sft", tiny_model, tmp_path / "whole")
    command = [sys.executable, "-m", "fusedata", "train", "--dataset", str(data), "--stage", "sft"]
    command += ["--target", "llama-3.1-8b", "--model", str(tiny_model), "--out", str(tmp_path / "cut")]
    command += [part for override in SMALL for part in ("--set", override)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    first = tmp_path / "cut" / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    while process.poll() is None and not first.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "README.md").exists()
    again = trained(data, "sft", tiny_model, tmp_path / "cut")
    names = ("step", "loss", "eval_loss", "grad_norm", "learning_rate")
    logs = [
        [{k: e[k] for k in names if k in e} for e in result.log if "train_runtime" not in e]
        for result in (whole, again)
    ]
    assert logs[0] == logs[1]


def test_a_checkpoint_that_was_cut_off_is_swept_and_the_better_of_two_kept(tmp_path):
    log = [{"step": 3, "eval_loss": 1.0}, {"step": 6, "eval_loss": 2.0}]
    for step, state in ((3, {"log_history": log[:1]}), (6, {"log_history": log}), (9, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{" if state is None else json.dumps(state))
    assert sweep(tmp_path) == tmp_path / "checkpoint-6"
    assert not (tmp_path / "checkpoint-9").exists()
    assert better(tmp_path, "sft").step == 3
    assert better(tmp_path, "dpo").step == 6


@pytest.mark.model
def test_the_length_normalised_loss_is_the_published_formula(tmp_path, tiny_model):
    """-log sigma(beta/|y_w| (log pi - log ref)(y_w) - beta/|y_l| (log pi - log ref)(y_l)), computed by hand."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = pairs(2)
    rows[1]["chosen"] = turns("It is quite certainly 1, as you asked.")
    data = dataset(tmp_path / "data", [*pairs(4), *rows])
    result = trained(data, "dpo", tiny_model, tmp_path / "out", "epochs=4", "learning_rate=0.02")
    policy = AutoModelForCausalLM.from_pretrained(result.folder)
    reference = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def mean_ratio(row, side):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
        ids = torch.tensor([whole])
        sums = []
        for model in (policy, reference):
            with torch.no_grad():
                logs = model(ids).logits[0, :-1].log_softmax(-1)
            picked = logs.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
            sums.append(picked.sum())
        return (sums[0] - sums[1]) / (len(whole) - len(prompt))

    held = pairs(4)
    deltas = torch.stack([mean_ratio(row, "chosen") - mean_ratio(row, "rejected") for row in held])
    expected = -torch.nn.functional.logsigmoid(10.0 * deltas).mean().item()
    logged = {e["step"]: e["eval_loss"] for e in result.log if "eval_loss" in e}[result.best.step]
    assert expected != pytest.approx(0.6931, abs=1e-4)  # the policy has moved
    assert logged == pytest.approx(expected, abs=1e-5)


@pytest.mark.model
def test_a_trained_model_answers_in_the_transformers_engine(tmp_path, tiny_model):
    from fusedata.profile import TransformersEngine as Host
    from fusedata.recipe import SourceModel
    from fusedata.sample.protocol import Request
    from fusedata.sample.transformers_engine import TransformersEngine

    result = trained(
        dataset(tmp_path / "data", answered(40)), "sft", tiny_model, tmp_path / "out", "epochs=8", "learning_rate=0.02"
    )
    host = Host(engine="transformers", weights=str(result.folder))
    engine = TransformersEngine(SourceModel(id="test/trained", temperature=0.0, max_tokens=12), host)
    request = Request("p", 0, turns("Say 7.", "user"), 1)
    (group,) = engine.generate([[request]])
    assert group[0][1].text.startswith("It is")
