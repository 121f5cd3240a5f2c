import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from fusedata.cli.train_view import plot

SMALL = ("batch=4", "device_batch=2", "save_steps=2", "log_steps=1", "max_tokens=100", "epochs=1")


def dots(lines: list[str]) -> list[int]:
    """Rows from the top in which each column of the plot has a dot, on average over its dots."""
    cells = [line.partition("┤")[2] for line in lines[:-1]]
    width = max(map(len, cells))
    rows = [[n for n, line in enumerate(cells) if ord(line[column]) > 0x2800] for column in range(width)]
    return [sum(found) / len(found) for found in rows]


def test_a_falling_curve_falls_and_has_a_dot_in_every_column():
    lines = plot([(1, 4.0), (11, 2.0), (21, 0.0)], [], width=20, height=8)
    assert len(lines) == 9
    found = dots(lines)
    assert len(found) == 20
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 7)
    assert lines[0].split()[0] == "4"
    assert lines[7].split()[0] == "0"
    assert lines[8].split() == ["step", "1", "21"]


def test_held_out_points_are_marked_where_they_lie():
    lines = plot([(0, 0.0), (10, 1.0)], [(10, 0.0), (0, 1.0)], width=11, height=4)
    cells = [line.partition("┤")[2] for line in lines[:-1]]
    assert cells[3][10] == "o"
    assert cells[0][0] == "o"
    assert sum(line.count("o") for line in cells) == 2


def test_a_single_point_is_no_curve_and_a_flat_one_is_drawn():
    assert plot([(1, 0.5)], []) == []
    assert plot([], []) == []
    assert len(plot([(1, 0.5), (2, 0.5)], [])) == 9


def turns(text: str, role: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = [{"messages": [turns(f"Say {n}.", "user"), turns(f"It is {n}.", "assistant")]} for n in range(20)]
    pl.DataFrame(rows[4:]).write_parquet(folder / "train-00000-of-00001.parquet")
    pl.DataFrame(rows[:4]).write_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def train(data: Path, model: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusedata", "train", "--dataset", str(data), "--target", "llama-3.1-8b"]
    command += ["--model", str(model), "--out", str(out), *options]
    command += [part for override in SMALL for part in ("--set", override)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"})


@pytest.mark.model
def test_losses_are_told_while_it_runs_and_go_to_tensorboards_event_files(tmp_path, tiny_model, data):
    pytest.importorskip("tensorboard")
    done = train(data, tiny_model, tmp_path / "out", "--report-to", "tensorboard", "--json")
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stderr.splitlines() if line.startswith("step ") and "/4: loss" in line]
    assert [line.split("/")[0] for line in steps] == ["step 1", "step 2", "step 3", "step 4"]
    assert "loss (o: held out)" in done.stderr
    assert "┤" in done.stderr
    assert json.loads(done.stdout)["rows"]["train rows"] == 16
    log = json.loads((tmp_path / "out" / "train.json").read_bytes())["log"]
    program = (
        "import json, sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E; "
        "e = E(sys.argv[1]); e.Reload(); print(json.dumps({n: [(s.step, s.value) for s in e.Scalars(n)]"
        " for n in e.Tags()['scalars']}))"
    )
    (events,) = (tmp_path / "out").rglob("events.out.tfevents.*")
    read = subprocess.run([sys.executable, "-c", program, str(events)], capture_output=True, text=True, check=True)
    found = dict(map(tuple, json.loads(read.stdout)["train/loss"]))
    assert found == pytest.approx({entry["step"]: entry["loss"] for entry in log if "loss" in entry}, abs=1e-6)


@pytest.mark.model
def test_a_tracker_that_there_is_not_is_told_before_training(tmp_path, tiny_model, data):
    done = train(data, tiny_model, tmp_path / "out", "--report-to", "tensorbored")
    assert done.returncode == 2
    assert "there is no such tracker; there are azure_ml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
