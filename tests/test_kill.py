"""A build that is killed again and again, with real processes, a real model and the real reward head."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import dataset_bytes

pytestmark = [pytest.mark.model, pytest.mark.slow]
KILLS = 20


PROFILE = """
name = "killed"
[[engines]]
engine = "transformers"
weights = "{weights}"
batch_size = 4
[reward]
weights = "{weights}"
batch_size = 4
[stand_in]
reward_gap = [0.01, 0.1]
[stand_in.reward]
model = "fusedata/preference-head-smollm2-135m"
[[stand_in.source_models]]
id = "HuggingFaceTB/SmolLM2-135M-Instruct"
samples = 4
max_tokens = 16
[[stand_in.corpora]]
replaces = "nvidia/OpenMathInstruct-2"
id = "fusedata/one-step-arithmetic"
path = "embedded:one_step_arithmetic.jsonl"
prompt = "question"
answer = "answer"
"""


def command(profile: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "fusedata",
        "build",
        "math",
        "--profile",
        str(profile),
        "--out",
        str(out),
        "--limit",
        "24",
    ]


def finished(run: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of writing of every finished part: a part that is made again has another."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in run.glob("*/*/part-*.parquet")}


def test_a_build_killed_at_twenty_random_moments_repeats_nothing_and_gives_the_same_bytes(smollm2, tmp_path):
    profile = tmp_path / "killed.toml"
    profile.write_text(PROFILE.format(weights=smollm2))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(profile, whole), check=True, capture_output=True)
    moments, kept, kills = random.Random(1), {}, 0
    while kills < KILLS:
        build = subprocess.Popen(command(profile, cut), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, errors = build.communicate(timeout=moments.uniform(0.2, 9.0))
            assert build.returncode == 0, errors.decode()
            break
        except subprocess.TimeoutExpired:
            build.send_signal(signal.SIGKILL)
            build.communicate()
            kills += 1
        assert kept.items() <= finished(cut).items()
        kept = finished(cut)
    subprocess.run(command(profile, cut), check=True, capture_output=True)
    assert kept.items() <= finished(cut).items()
    assert dataset_bytes(cut) == dataset_bytes(whole)
