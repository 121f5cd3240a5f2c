"""What a training leaves behind: the better of its last checkpoints, its curves, and what was in force."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusedata.errors import MissingExtraError, RunError
from fusedata.store import writing
from fusedata.train.settings import Stage

METRICS: Mapping[Stage, tuple[str, bool]] = {"sft": ("eval_loss", False), "dpo": ("eval_rewards/margins", True)}
"""What the better checkpoint is known by, on held-out rows, and whether more of it is better."""

_WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_NOT_WEIGHTS = {"trainer_state.json"}


class Checkpoint(NamedTuple):
    """A finished checkpoint, and the held-out metric at its step; None where nothing was held out."""

    step: int
    folder: Path
    metric: float | None


def finished(folder: Path) -> list[Checkpoint]:
    """Give the checkpoints under `folder` that were written to their end, by step: the state is written last."""
    found = []
    for path in folder.glob("checkpoint-*"):
        step = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if step and _state(path) is not None:
            found.append(Checkpoint(int(step[1]), path, None))
    return sorted(found)


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """Read what the trainer knew at a checkpoint; None where it was cut off while it was written."""
    try:
        state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return None
    return state


def sweep(folder: Path) -> Path | None:
    """Remove checkpoints that were cut off while they were written; give the last finished one."""
    last = finished(folder)
    whole = {checkpoint.folder for checkpoint in last}
    for path in folder.glob("checkpoint-*"):
        if path not in whole:
            shutil.rmtree(path)
    return last[-1].folder if last else None


def better(folder: Path, stage: Stage) -> Checkpoint:
    """Choose the better of the last two checkpoints by the held-out metric, the later one where there is none."""
    *_, last = finished(folder)
    history = (_state(last.folder) or {})["log_history"]
    name, more = METRICS[stage]
    metrics = {entry["step"]: entry[name] for entry in history if name in entry}
    known = [c._replace(metric=metrics[c.step]) for c in finished(folder)[-2:] if c.step in metrics]
    if not known:
        return last
    return max(known, key=lambda c: ((c.metric or 0.0) * (1 if more else -1), c.step))


def publish(checkpoint: Path, out: Path) -> None:
    """Copy a checkpoint's model and tokenizer to `out`, without the state of the training."""
    for pattern in _WEIGHTS:
        for path in sorted(checkpoint.glob(pattern)):
            if path.name not in _NOT_WEIGHTS:
                with writing(out / path.name) as file, path.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 24)


def history(folder: Path) -> list[dict[str, float]]:
    """Give what was logged until the last checkpoint: step, loss, eval_loss, rewards/margins and others."""
    checkpoints = finished(folder)
    if not checkpoints:
        raise RunError(f"{folder}: holds no finished checkpoint: train again.")
    return list((_state(checkpoints[-1].folder) or {})["log_history"])


CURVES: Mapping[Stage, tuple[tuple[str, str], ...]] = {
    "sft": (("loss", "eval_loss"),),
    "dpo": (("loss", "eval_loss"), ("rewards/accuracies", "eval_rewards/accuracies")),
}
"""The pictures of a stage: what was logged in training, and of the held-out rows."""


def curve(log: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Give (step, value) of what was logged under `name`."""
    return [(entry["step"], entry[name]) for entry in log if name in entry]


def draw(log: Sequence[Mapping[str, float]], stage: Stage, path: Path) -> None:
    """Draw the curves of a stage as a PNG file. Raises MissingExtraError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("train", "The plot of the loss") from error

    figure = Figure(figsize=(6.4 * len(CURVES[stage]), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    for place, names in enumerate(CURVES[stage], 1):
        axes = figure.add_subplot(1, len(CURVES[stage]), place)
        for name, style in zip(names, ("-", "o--"), strict=True):
            if points := curve(log, name):
                axes.plot(*zip(*points, strict=True), style, label=name)
        axes.set_xlabel("step")
        axes.legend()
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
