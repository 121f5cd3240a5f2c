"""The proof on the CPU: the real SmolLM2-135M-Instruct, SFT and then DPO, on a dataset that `fusedata build` made.

The prompts, responses and rewards of tests/data/training_pairs.jsonl are real, made by scripts/make_training_pairs.py.
The published learning rates suit models of 1 to 9 billion parameters and days of training; here a few dozen rows have
to show an effect, so they are higher, and adapters are trained in the place of all weights.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from fusedata.train.fit import Trained
from fusedata.train.rows import read_rows
from fusedata.train.run import planned, run

pytestmark = [pytest.mark.model, pytest.mark.slow]
DATA = Path(__file__).parent / "data" / "training_pairs.jsonl"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
RECIPE = f"""
[[corpora]]
id = "test/training-pairs"
path = "{DATA}"
license = "apache-2.0"
prompt = "prompt"
system = "system"
sampled = false
[corpora.responses]
column = "responses"
source_model = "{SMOLLM2}"
license = "apache-2.0"
[corpora.responses.reward]
column = "rewards"
model = "fusedata/preference-head-smollm2-135m"
[reward]
model = "fusedata/preference-head-smollm2-135m"
license = "apache-2.0"
[dpo]                                           # any gap: two responses a prompt leave no choice
[split]
order = "shared"                                # few prompts: each feeds both stages
test = 0.6
"""
COMMON = ("batch=8", "device_batch=4", "log_steps=1", "max_tokens=128", "epochs=1", "save_steps=1000", "lora_rank=8")
SFT = ("learning_rate=0.001", "max_tokens=44", "batch=4", "epochs=3")
"""Of the rows no more than the short ones, each seen in every epoch: on two processor cores a proof has to be short."""
BETA = {"sigmoid": 0.01, "sigmoid_norm": 10}
"""As published, for DPO and for length-normalised DPO."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    (folder / "proof.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "fusedata", "build", str(folder / "proof.toml"), "--out", str(folder / "run")]
    done = subprocess.run([*command, "--profile", "local"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def trained(dataset: Path, stage: str, model: Path, out: Path, *overrides: str) -> Trained:
    (step,) = planned([str(dataset)], stage, "llama-3.2-1b", str(model), out=out, overrides=[*COMMON, *overrides])
    return run(step, lambda entry: None, lambda rows, example: None)


@pytest.fixture(scope="module")
def sft(dataset: Path, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(dataset, "sft", smollm2, tmp_path_factory.mktemp("sft"), *SFT)


def wilson(wins: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z = 1.959964
    middle, scale = wins / count + z * z / (2 * count), 1 + z * z / count
    spread = z * math.sqrt(wins * (count - wins) / count**3 + z * z / (4 * count * count))
    return (middle - spread) / scale, (middle + spread) / scale


def asked(dataset: Path, stage: str, split: str) -> list[str]:
    rows = read_rows(str(dataset), stage, share=0.0, seed=0)
    return [json.dumps(turns) for turns in getattr(rows, split)["prompt"].to_list()]


def test_no_held_out_prompt_is_trained_on(dataset):
    train, test = ({p for stage in ("sft", "dpo") for p in asked(dataset, stage, split)} for split in ("train", "test"))
    assert len(asked(dataset, "dpo", "test")) >= 100
    assert not train & test


@pytest.fixture(scope="module", params=BETA)
def dpo(
    request: pytest.FixtureRequest, dataset: Path, sft: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    loss = (f"loss={request.param}", f"beta={BETA[request.param]}")
    return trained(dataset, "dpo", sft.folder, tmp_path_factory.mktemp("dpo"), *loss, "learning_rate=0.0003")


def thirds(result: Trained) -> tuple[float, float]:
    """Give the mean training loss of the first third of the steps, and that of the last: in SFT, epochs."""
    losses = [entry["loss"] for entry in result.log if "loss" in entry]
    third = len(losses) // 3
    return sum(losses[:third]) / third, sum(losses[-third:]) / third


def test_the_loss_falls_in_sft(sft):
    first, last = thirds(sft)
    assert last < first


def test_the_loss_falls_in_dpo_from_that_of_a_model_without_a_preference(dpo):
    first, last = thirds(dpo)
    assert next(entry["loss"] for entry in dpo.log if "loss" in entry) == pytest.approx(math.log(2), abs=1e-3)
    assert last < first


def test_dpo_prefers_what_the_reward_model_prefers_on_pairs_it_never_saw(dpo):
    held_out = dpo.counts["test rows"]
    accuracies = [entry["eval_rewards/accuracies"] for entry in dpo.log if "eval_rewards/accuracies" in entry]
    assert held_out >= 100
    assert wilson(round(accuracies[-1] * held_out), held_out)[0] > 0.5


def test_the_model_of_both_stages_answers_in_the_transformers_engine(dpo):
    from fusedata.profile import TransformersEngine as Host
    from fusedata.recipe import SourceModel
    from fusedata.sample.protocol import Request
    from fusedata.sample.transformers_engine import TransformersEngine

    host = Host(engine="transformers", weights=str(dpo.folder))
    engine = TransformersEngine(SourceModel(id="test/trained", temperature=0.0, max_tokens=12), host)
    (group,) = engine.generate([[Request("p", 0, [{"role": "user", "content": "What is the capital of France?"}], 1)]])
    assert "Paris" in group[0][1].text
