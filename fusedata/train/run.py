"""The stages in order: what each begins with, what it is trained on, and where it goes."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusedata.errors import ConfigError
from fusedata.train.checks import Checked, Seen
from fusedata.train.fit import RECORD, Said, Task, Trained, fit
from fusedata.train.rows import Rows, read_rows
from fusedata.train.settings import TARGETS, Settings, Stage, Target, doubts, find_target, settings_for
from fusedata.weights import find_weights


@dataclass(frozen=True)
class Step:
    """One stage to be trained: `model` is a folder or hub id, `rows` were read already."""

    stage: Stage
    target: str
    model: str
    dataset: str
    rows: Rows
    settings: Settings
    out: Path
    doubts: tuple[str, ...]


def planned(
    datasets: Sequence[str],
    stage: str | None,
    target: str | None,
    model: str | None,
    *,
    revision: str | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
) -> Iterator[Step]:
    """Give the stages that a command line asks for, each after the one before it was trained.

    `stage` is sft, dpo, fuse (SFT, then DPO from its model), or None: told from the columns. The target is read from
    what an earlier stage wrote, where `model` is its folder. Raises ConfigError and what reading datasets raises.
    """
    name = target or _target_of(model)
    preset = find_target(name)
    begin, folder = model or preset.model, out or Path("models") / f"{name}-{stage or 'train'}"
    if stage != "fuse":
        if len(datasets) > 1:
            raise ConfigError("--dataset stands several times: give one, or --stage fuse with SFT and DPO in order.")
        yield _step(datasets[0], stage, (name, preset), begin, folder, revision, overrides)
        return
    if len(datasets) > 2:  # noqa: PLR2004
        raise ConfigError("--stage fuse takes one dataset that holds both stages, or two: SFT first, then DPO.")
    both: tuple[Stage, Stage] = ("sft", "dpo")
    for place, each in enumerate(both):
        yield _step(
            datasets[min(place, len(datasets) - 1)], each, (name, preset), begin, folder / each, revision, overrides
        )
        begin = str(folder / each)


def _target_of(model: str | None) -> str:
    """Read which target an earlier stage trained. Raises ConfigError where nothing tells it."""
    record = Path(model or "") / RECORD
    if model and record.is_file():
        return str(json.loads(record.read_bytes())["target"])
    known = ", ".join(f"{name} ({target.model})" for name, target in TARGETS.items())
    raise ConfigError(f"--target is missing: name the model whose published hyper-parameters apply: {known}.")


def _base(model: str) -> str:
    """Give the model that a chain of stages began with, as each stage's record tells; of a mere folder its name."""
    record, folder = Path(model) / RECORD, Path(model)
    if record.is_file():
        return str(json.loads(record.read_bytes()).get("base", folder.name))
    return folder.absolute().name if folder.is_dir() else model


def _step(
    dataset: str,
    stage: str | None,
    target: tuple[str, Target],
    model: str,
    out: Path,
    revision: str | None,
    overrides: Sequence[str],
) -> Step:
    name, preset = target
    known: Stage | None = "sft" if stage == "sft" else "dpo" if stage == "dpo" else None
    drawn = settings_for(preset, known or "sft", overrides)
    rows = read_rows(dataset, known, share=drawn.held_out, seed=drawn.seed, revision=revision)
    settings = settings_for(preset, rows.stage, overrides)
    return Step(rows.stage, name, model, dataset, rows, settings, out, tuple(doubts(settings, rows.stage)))


def run(step: Step, said: Said, shown: Callable[[Checked, Seen], None]) -> Trained:
    """Train one stage. Raises ConfigError, EngineError, MissingExtraError, RunError."""
    weights = find_weights(step.model)
    facts: Mapping[str, object] = {
        "target": step.target,
        "model": step.model,
        "base": _base(step.model),
        "weights": weights.revision,
        **step.rows.identity,
    }
    task = Task(step.stage, weights, step.rows.train, step.rows.test, step.settings, facts)
    return fit(task, step.out, said, shown)
