"""One stage of training: TRL does it; what is handed over, resumed and kept is decided here."""

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fusedata.card_parts import license_file
from fusedata.errors import ConfigError, EngineError, MissingExtraError, RunError
from fusedata.licenses import LICENSE_FILE
from fusedata.quiet import quiet_loading
from fusedata.store import first_line, writing
from fusedata.train.card import licences, model_card
from fusedata.train.checks import SIDES, Checked, Seen, check_mask, checked, seen
from fusedata.train.model import adapter, load, load_tokenizer, merge
from fusedata.train.outcome import Checkpoint, better, draw, finished, history, publish, sweep
from fusedata.train.record import RECORD, claim, devices, recorded, write
from fusedata.train.settings import Settings, Stage
from fusedata.weights import Weights

if TYPE_CHECKING:
    from datasets import Dataset

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
        from transformers import PrinterCallback
    except ImportError as error:
        raise MissingExtraError("train", "Training") from error
    tokenizer = load_tokenizer(task.weights)
    _check_tracker(task.settings.tracker)
    rows = checked(task.stage, task.train, task.test, tokenizer, task.settings)
    checkpoints = out / "checkpoints"
    # Before the model is loaded: DeepSpeed and FSDP tell by the configuration how to load it.
    config = _config(trl.SFTConfig if task.stage == "sft" else trl.DPOConfig, task, checkpoints, rows)
    record = recorded(task.stage, task.facts, task.settings, rows, config.to_dict())
    with _first() as is_first:
        if is_first:
            claim(out, record)
            sweep(checkpoints)
    with _told(out):
        with _quiet():
            trainer = (trl.SFTTrainer if task.stage == "sft" else trl.DPOTrainer)(
                model=load(task.weights, task.settings, bf16=config.bf16),
                args=config,
                train_dataset=_dataset(rows.train, task.stage),
                eval_dataset=_dataset(rows.test, task.stage) if rows.test.height else None,
                processing_class=tokenizer,
                peft_config=adapter(task.settings),
                callbacks=[_listener(said)],
                **_reference(task, bf16=config.bf16),
            )
        trainer.remove_callback(PrinterCallback)
        example = _example(trainer, rows, task, tokenizer)
        if trainer.is_world_process_zero():
            shown(rows, example)
        last = finished(checkpoints)
        with _no_bars():
            trainer.train(resume_from_checkpoint=str(last[-1].folder) if last else None)
        return _finish(trainer, task, rows, out, record, example)


def _reference(task: Task, *, bf16: bool) -> dict[str, Any]:
    """Load the reference of DPO where it is needed beside the model: TRL would fetch it anew, at no revision."""
    if task.stage == "sft" or task.settings.lora_rank or task.settings.precompute_reference:
        return {}
    return {"ref_model": load(task.weights, task.settings, bf16=bf16)}


_NO_MEMORY = re.compile("out of memory|not enough memory|cannot allocate memory", re.IGNORECASE)
_UNWRITABLE = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT}


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Say in one sentence what a training commonly breaks by: memory, and disks."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        remedy = "make room, then run the same command again: it goes on from its last checkpoint"
        raise RunError(f"{out}: cannot be written ({first_line(error)}): {remedy}.") from error
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        remedy = "try device_batch=1, gradient_checkpointing=true, lora_rank=16, or --launch fsdp or zero3"
        raise EngineError(f"The training does not fit into memory ({first_line(error)}): {remedy}.") from error


def _check_tracker(name: str) -> None:
    """Raise ConfigError where a tracker is not known to transformers, or not installed."""
    from transformers.integrations import integration_utils

    known = sorted(integration_utils.INTEGRATION_TO_CALLBACK)
    if name not in {"none", "all", *known}:
        raise ConfigError(f"tracker {name}: there is no such tracker; there are {', '.join(known)}.")
    if name in known and name not in integration_utils.get_available_reporting_integrations():
        raise ConfigError(f"tracker {name}: it is not installed here: install it (pip install {name}).")


def accumulated(settings: Settings, processes: int) -> int:
    """Give the passes that make one step of `batch` rows. Raises ConfigError where they do not come out even."""
    rows = settings.device_batch * processes
    if settings.batch % rows:
        found = f"{processes} devices times device_batch {settings.device_batch} is {rows}, which does not divide it"
        raise ConfigError(f"batch {settings.batch}: {found}: change device_batch, or the number of devices.")
    return settings.batch // rows


def _config(kind: Any, task: Task, checkpoints: Path, rows: Checked) -> Any:  # noqa: ANN401 - classes of TRL
    """Make TRL's configuration. Raises ConfigError for what this machine cannot do."""
    arguments = _arguments(task, checkpoints, bool(rows.test.height))
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(f"--set: {first_line(error)}.") from error


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
        "gradient_accumulation_steps": accumulated(settings, devices()),
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
        first = rows.train.row(0, named=True)
        check_mask(shown, first["prompt"], first[SIDES[task.stage][0]][0]["content"])
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
        write(out / RECORD, record)
        with writing(out / "README.md") as file:
            file.write(model_card(record).encode())
        with writing(out / LICENSE_FILE) as file:
            file.write(license_file(licences(record)).encode())
    trainer.accelerator.wait_for_everyone()
    return Trained(out, best, log, rows.counts, example)
