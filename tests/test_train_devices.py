"""Training beyond one process and full precision, on the CPU: QLoRA, and several processes under accelerate."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow]
BITSANDBYTES = Path(sys.prefix, "bitsandbytes")  # apart from the environment: PEFT uses it wherever it is installed
PROCESSES = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
mixed_precision: "no"
use_cpu: true
num_machines: 1
machine_rank: 0
num_processes: 2
main_process_port: {port}
"""
STEPS = ("batch=8", "device_batch=4", "epochs=1", "log_steps=1", "max_tokens=128", "learning_rate=0.0005")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    turns = [(f"What is {number} + 1?", f"It is {number + 1}, of course.") for number in range(48)]
    with (folder / "train.jsonl").open("w") as file:
        for question, answer in turns:
            said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": said}) + "\n")
    return folder


def losses(rows: Path, model: Path, out: Path, *options: str, **environment: str) -> list[float]:
    """Train, and give the loss of each step."""
    command = [
        sys.executable,
        "-m",
        "fusedata",
        "train",
        "--dataset",
        str(rows),
        "--stage",
        "sft",
        "--model",
        str(model),
    ]
    command += ["--target", "llama-3.2-1b", "--out", str(out), *options]
    command += [part for field in STEPS for part in ("--set", field)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}  # or two processes fight over the cores
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    states = sorted((out / "checkpoints").glob("*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    return [entry["loss"] for entry in json.loads(states[-1].read_bytes())["log_history"] if "loss" in entry]


def test_qlora_trains_adapters_over_four_bits_and_merges_them(rows: Path, smollm2: Path, tmp_path: Path):
    if not BITSANDBYTES.is_dir():
        pytest.skip(f"bitsandbytes is not in {BITSANDBYTES}: scripts/test puts it there")
    from safetensors.torch import load_file

    options = ("--set", "quantize=true", "--set", "lora_rank=8")
    curve = losses(rows, smollm2, tmp_path / "out", *options, PYTHONPATH=str(BITSANDBYTES))
    assert curve[-1] < 0.8 * curve[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (smollm2, tmp_path / "out"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert after[name].shape == before[name].shape  # full precision again, with the adapters in it
    assert not after[name].float().equal(before[name].float())
    assert after["model.norm.weight"].float().equal(before["model.norm.weight"].float())  # not what was trained


def test_two_processes_train_as_one_does(rows: Path, smollm2: Path, tmp_path: Path):
    one = losses(rows, smollm2, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "two.yaml").write_text(PROCESSES.format(port=port))
    two = losses(rows, smollm2, tmp_path / "two", "--launch", str(tmp_path / "two.yaml"))
    assert len(one) == len(two) == 6  # the same global batch, from twice the devices
    assert two[0] == pytest.approx(one[0], rel=0.1)
    assert two[-1] < 0.8 * two[0]
    assert (tmp_path / "two" / "model.safetensors").is_file()
