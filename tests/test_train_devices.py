"""Training beyond one process and plain memory, on the CPU: accelerate's processes, QLoRA, packing, precomputing."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_train import answered, dataset, pairs, trained

from fusedata.train.launch import configurations

pytestmark = pytest.mark.model
BITSANDBYTES = Path(sys.prefix, "bitsandbytes")  # apart from the environment: PEFT uses it wherever it is installed
PROCESSES = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
mixed_precision: "no"
use_cpu: true
num_machines: 1
machine_rank: 0
num_processes: 2
main_process_port: {port}
"""
STEPS = ("batch=8", "device_batch=4", "epochs=1", "log_steps=1", "max_tokens=100", "learning_rate=0.01")


def train(rows: Path, model: Path, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusedata", "train", "--dataset", str(rows), "--model", str(model)]
    command += ["--target", "llama-3.2-1b", "--out", str(out), *options]
    command += [part for field in STEPS for part in ("--set", field)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}  # or two processes fight over the cores
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def losses(out: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((out / "train.json").read_bytes())["log"] if "loss" in entry]


def test_qlora_trains_adapters_over_four_bits_and_merges_them(tmp_path: Path, tiny_model: Path):
    if not BITSANDBYTES.is_dir():
        pytest.skip(f"bitsandbytes is not in {BITSANDBYTES}: scripts/test puts it there")
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    wide = LlamaConfig.from_pretrained(tiny_model, hidden_size=64, head_dim=16)  # it quantises 64 numbers together
    LlamaForCausalLM(wide).save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "wide")
    options = ("--set", "quantize=true", "--set", "lora_rank=8")
    rows = dataset(tmp_path / "rows", answered(48), test=0)
    done = train(
        rows,
        tmp_path / "wide",
        tmp_path / "out",
        *options,
        PYTHONPATH=f"{BITSANDBYTES}:{os.environ.get('PYTHONPATH', '')}",
    )
    assert done.returncode == 0, done.stderr
    curve = losses(tmp_path / "out")
    assert curve[-1] < 0.9 * curve[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "wide", tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert after[name].shape == before[name].shape  # full precision again, with the adapters in it
    assert not after[name].float().equal(before[name].float())
    assert after["model.norm.weight"].float().equal(before["model.norm.weight"].float())  # not what was trained


def test_two_processes_train_as_one_does(tmp_path: Path, tiny_model: Path):
    rows = dataset(tmp_path / "rows", answered(52))
    one = trained(rows, "sft", tiny_model, tmp_path / "one", *STEPS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "two.yaml").write_text(PROCESSES.format(port=port))
    done = train(rows, tiny_model, tmp_path / "two", "--launch", str(tmp_path / "two.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"] == one.best.step == 6  # 8 rows a step, from twice the devices
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert json.loads((tmp_path / "two" / "train.json").read_bytes())["devices"] == 2
    assert (tmp_path / "two" / "model.safetensors").is_file()


def test_a_launch_that_fails_is_a_failure(tmp_path: Path, tiny_model: Path):
    (tmp_path / "bad.yaml").write_text("nonsense: 1\n")
    rows = dataset(tmp_path / "rows", answered(8))
    assert train(rows, tiny_model, tmp_path / "out", "--launch", str(tmp_path / "bad.yaml")).returncode == 1
    done = train(rows, tiny_model, tmp_path / "out", "--launch", "fsdp", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "there is no GPU here" in done.stderr


@pytest.mark.parametrize("name", ["fsdp", "multi-gpu", "zero3"])
def test_accelerate_knows_every_word_of_a_shipped_configuration(name: str):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    read = load_config_from_file(str(configurations()[name]))  # unknown words at the top are refused
    known = {action.dest for action in launch_command_parser()._actions}
    assert {*read.fsdp_config, *read.deepspeed_config} <= known
    assert read.distributed_type == {"fsdp": "FSDP", "multi-gpu": "MULTI_GPU", "zero3": "DEEPSPEED"}[name]


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("sft", ("packing=true", "gradient_checkpointing=true")),
        ("dpo", ("precompute_reference=true", "device_batch=8")),
    ],
)
def test_what_saves_memory_or_time_leaves_the_losses_as_they_are(tmp_path: Path, tiny_model: Path, stage, overrides):
    """All rows in one step: packed ones must not see each other."""
    rows = dataset(tmp_path / "rows", answered(20) if stage == "sft" else pairs(20))
    whole = ("batch=16", "device_batch=16", "save_steps=1", "epochs=2")
    logs = [
        trained(rows, stage, tiny_model, tmp_path / name, *STEPS, *whole, *more).log
        for name, more in (("plain", ()), ("other", overrides))
    ]
    names = ("step", "loss", "eval_loss", "eval_rewards/margins")
    plain, other = ([tuple(entry.get(name, 0.0) for name in names) for entry in log] for log in logs)
    assert len(plain) == len(other)
    for one, two in zip(plain, other, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert min(entry[2] for entry in plain if entry[2]) < max(entry[2] for entry in plain)  # something was learned


def test_packed_rows_need_fewer_steps(tmp_path: Path, tiny_model: Path):
    rows = dataset(tmp_path / "rows", answered(20))
    steps = [
        trained(rows, "sft", tiny_model, tmp_path / name, "epochs=1", *more).best.step
        for name, more in (("plain", ()), ("packed", ("packing=true",)))
    ]
    assert steps[1] < steps[0] == 4
