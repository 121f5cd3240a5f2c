"""The stages in order: what each begins with, what it is trained on, and where it goes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from fusedata.errors import ConfigError
from fusedata.train.checks import Checked, Seen, checked
from fusedata.train.fit import Said, Task, Trained, accumulated, fit
from fusedata.train.model import load_tokenizer
from fusedata.train.record import RECORD, devices
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
    revisions: Sequence[str] = (),
    out: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Step]:
    """Give the stages that a command line asks for, with all their rows: each begins with the one before it.

    `stage` is sft, dpo, fuse (SFT, then DPO from its model), or None: told from the columns. The target is read from
    what an earlier stage wrote, where `model` is its folder. Raises ConfigError and what reading datasets raises.
    """
    name = target or _target_of(model)
    preset = find_target(name)
    begin = model or preset.model
    if len(datasets) > (2 if stage == "fuse" else 1):
        raise ConfigError(
            "--dataset stands too often: give one, or with --stage fuse one that holds both stages, or SFT and DPO."
        )
    if len(revisions) not in {0, len(datasets)}:
        raise ConfigError(f"--revision stands {len(revisions)} times, --dataset {len(datasets)} times: one for each.")
    found = list(zip_longest(datasets, revisions))
    if stage != "fuse":
        told: Stage | None = "sft" if stage == "sft" else "dpo" if stage == "dpo" else None
        return [_step(found[0], told, (name, preset), begin, out, overrides)]
    folder = out or Path("models") / f"{name}-fuse"
    sft = _step(found[0], "sft", (name, preset), begin, folder / "sft", overrides)
    return [sft, _step(found[-1], "dpo", (name, preset), str(sft.out), folder / "dpo", overrides)]


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
    dataset: tuple[str, str | None],
    stage: Stage | None,
    target: tuple[str, Target],
    model: str,
    out: Path | None,
    overrides: Sequence[str],
) -> Step:
    name, revision = dataset
    drawn = settings_for(target[1], stage or "sft", overrides)
    rows = read_rows(name, stage, share=drawn.held_out, seed=drawn.seed, revision=revision)
    settings = settings_for(target[1], rows.stage, overrides)
    if (settings.held_out, settings.seed) != (drawn.held_out, drawn.seed):  # of the stage that the columns told
        rows = read_rows(name, rows.stage, share=settings.held_out, seed=settings.seed, revision=revision)
    doubted = doubts(settings, rows.stage)
    if rows.stage == "dpo" and model == target[1].model:
        doubted.append("DPO begins with the target itself, the method with its SFT model (--model FOLDER)")
    folder = out or Path("models") / f"{target[0]}-{rows.stage}"
    return Step(rows.stage, target[0], model, name, rows, settings, folder, tuple(doubted))


def check(model: str, steps: Sequence[Step]) -> None:
    """Check the rows of `steps` by the tokenizer of `model`, which they begin with. Raises as `run` does."""
    if steps:
        tokenizer = load_tokenizer(find_weights(model))
    for step in steps:
        accumulated(step.settings, devices())
        checked(step.stage, step.rows.train, step.rows.test, tokenizer, step.settings)


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
