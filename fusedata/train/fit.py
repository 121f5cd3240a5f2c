"""One stage of training: TRL does it; what is handed over, resumed and kept is decided here."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fusedata.card_parts import license_file
from fusedata.errors import ConfigError, MissingExtraError
from fusedata.licenses import LICENSE_FILE
from fusedata.quiet import quiet_loading
from fusedata.store import writing
from fusedata.train.card import licences, model_card
from fusedata.train.checks import SIDES, Checked, Seen, check_mask, checked, seen
from fusedata.train.model import adapter, load, merge
from fusedata.train.outcome import Checkpoint, better, draw, finished, history, publish, sweep
from fusedata.train.settings import Settings, Stage
from fusedata.weights import Weights

if TYPE_CHECKING:
    from datasets import Dataset

RECORD = "train.json"
_LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets")
Said = Callable[[Mapping[str, float]], None]
"""Told what is logged: step, epoch, loss, learning_rate, …; `total` steps with the first."""


@dataclass(frozen=True)
class Task:
    """What is trained on what: `facts` name target, model and dataset with their revisions, and go to the record."""

    stage: Stage
    weights: Weights
    train: pl.DataFrame
    test: pl.DataFrame
    settings: Settings
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    folder: Path
    best: Checkpoint
    log: list[dict[str, float]]
    counts: Mapping[str, int]
    example: Seen


def fit(task: Task, out: Path, said: Said, shown: Callable[[Checked, Seen], None]) -> Trained:
    """Train one stage into the folder `out`, going on from its last checkpoint where there is one.

    `said` hears what is logged, `shown` the rows' counts and an example before the first step. Every process of a
    distributed training calls it; the first one writes. Raises ConfigError, EngineError, MissingExtraError, RunError.
    """
    try:
        import trl
        from transformers import AutoTokenizer, PrinterCallback
    except ImportError as error:
        raise MissingExtraError("train", "Training") from error
    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(task.weights.source, **task.weights.arguments)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    _check_tracker(task.settings.tracker)
    rows = checked(task.stage, task.train, task.test, tokenizer, task.settings)
    checkpoints = out / "checkpoints"
    record = _record(task, rows)
    with _first() as is_first:
        if is_first:
            _begin(out, record)
            sweep(checkpoints)
    arguments = _arguments(task, checkpoints, bool(rows.test.height))
    config, trainer_class = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
    }[task.stage]
    with _quiet():
        trainer = trainer_class(
            model=load(task.weights, task.settings, bf16=arguments["bf16"]),
            args=config(**arguments),
            train_dataset=_dataset(rows.train, task.stage),
            eval_dataset=_dataset(rows.test, task.stage) if rows.test.height else None,
            processing_class=tokenizer,
            peft_config=adapter(task.settings),
            callbacks=[_listener(said)],
        )
    trainer.remove_callback(PrinterCallback)
    example = _example(trainer, rows, task, tokenizer)
    if trainer.is_world_process_zero():
        shown(rows, example)
    last = finished(checkpoints)
    with _no_bars():
        trainer.train(resume_from_checkpoint=str(last[-1].folder) if last else None)
    return _finish(trainer, task, rows, out, record, example)


def _record(task: Task, rows: Checked) -> dict[str, Any]:
    """What the training depends on."""
    return {
        "stage": task.stage,
        **task.facts,
        "settings": task.settings.model_dump(),
        "rows": {"train": rows.train.height, "test": rows.test.height, **rows.counts},
        "devices": _devices(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _begin(out: Path, record: dict[str, Any]) -> None:
    """Write what is in force; a folder that holds another training is refused. Raises ConfigError."""
    path = out / RECORD
    if path.exists():
        before = json.loads(path.read_bytes())
        names = [name for name in record if before.get(name) != record[name] and name not in {"versions", "devices"}]
        if names:
            found = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(record[name])}" for name in names)
            raise ConfigError(f"{out}: holds another training ({found}): name another --out, or remove the folder.")
    out.mkdir(parents=True, exist_ok=True)
    _write(path, record)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with writing(path) as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False).encode())


def _check_tracker(name: str) -> None:
    """Raise ConfigError where a tracker is not known to transformers, or not installed."""
    from transformers.integrations import integration_utils

    known = sorted(integration_utils.INTEGRATION_TO_CALLBACK)
    if name not in {"none", "all", *known}:
        raise ConfigError(f"tracker {name}: there is no such tracker; there are {', '.join(known)}.")
    if name in known and name not in integration_utils.get_available_reporting_integrations():
        raise ConfigError(f"tracker {name}: it is not installed here: install it (pip install {name}).")


def _devices() -> int:
    """Count the processes of this training, one a device."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulated(settings: Settings, devices: int) -> int:
    """Give the passes that make one step of `batch` rows. Raises ConfigError where they do not come out even."""
    rows = settings.device_batch * devices
    if settings.batch % rows:
        found = f"{devices} devices times device_batch {settings.device_batch} is {rows}, which does not divide it"
        raise ConfigError(f"batch {settings.batch}: {found}: change device_batch, or the number of devices.")
    return settings.batch // rows


def _arguments(task: Task, checkpoints: Path, held_out: bool) -> dict[str, Any]:
    """Give the arguments of TRL's configuration."""
    import torch

    settings = task.settings
    bf16 = settings.dtype == "bfloat16" or (
        settings.dtype == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    )
    every: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.device_batch,
        "per_device_eval_batch_size": settings.device_batch,
        "gradient_accumulation_steps": accumulated(settings, _devices()),
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "max_length": settings.max_tokens,
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "eval_strategy": "steps" if held_out else "no",
        "eval_steps": settings.save_steps,
        "logging_steps": settings.log_steps,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "report_to": settings.tracker,
        "disable_tqdm": True,
    }
    if task.stage == "sft":
        return every | {"packing": settings.packing, "completion_only_loss": True}
    own = {"beta": settings.beta, "loss_type": [settings.loss], "truncation_mode": "keep_start"}
    return every | own | {"precompute_ref_log_probs": settings.precompute_reference}


def _dataset(rows: pl.DataFrame, stage: Stage) -> "Dataset":
    from datasets import Dataset

    return Dataset.from_list(rows.select("prompt", *SIDES[stage]).to_dicts())


def _example(trainer: Any, rows: Checked, task: Task, tokenizer: Any) -> Seen:  # noqa: ANN401
    """Show the first row as the loss sees it, and hold it to the response. Raises ConfigError."""
    shown = seen(task.stage, trainer.train_dataset[0], tokenizer)
    if not task.settings.packing and task.settings.longer == "drop":
        response = rows.train[SIDES[task.stage][0]][0][0]["content"]
        check_mask(shown, response)
    return shown


def _listener(said: Said) -> Any:  # noqa: ANN401
    from transformers import TrainerCallback

    class Listener(TrainerCallback):  # type: ignore[misc]
        """Passes on what the trainer logs."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ANN401, ARG002
            if state.is_world_process_zero:
                said({"step": state.global_step, "total": state.max_steps, **(logs or {})})

    return Listener()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep all that libraries write while they load off the terminal."""
    with _no_bars(), quiet_loading():
        yield


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the bars of datasets and transformers off the terminal, and leave it to who listens."""
    from datasets.utils import logging as datasets_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (datasets_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


@contextmanager
def _first() -> Iterator[bool]:
    """Whether this is the process that writes; the others wait until it has."""
    from accelerate import PartialState

    state = PartialState(cpu=None if _has_gpu() else True)
    with state.main_process_first():
        yield bool(state.is_main_process)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _finish(trainer: Any, task: Task, rows: Checked, out: Path, record: dict[str, Any], example: Seen) -> Trained:  # noqa: ANN401
    checkpoints = out / "checkpoints"
    best, log = better(checkpoints, task.stage), history(checkpoints)
    if trainer.is_world_process_zero():
        if task.settings.lora_rank is None:
            publish(best.folder, out)
        else:
            merge(task.weights, best.folder, out)
        draw(log, task.stage, out / "curves.png")
        kept = {"step": best.step, "metric": best.metric}
        record = {**record, "kept": kept, "log": log}
        _write(out / RECORD, record)
        with writing(out / "README.md") as file:
            file.write(model_card(record).encode())
        with writing(out / LICENSE_FILE) as file:
            file.write(license_file(licences(record)).encode())
    trainer.accelerator.wait_for_everyone()
    return Trained(out, best, log, rows.counts, example)
