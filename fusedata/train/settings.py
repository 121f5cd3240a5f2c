"""How a stage is trained: the published hyper-parameters of five target models, each field of which can be overridden.

Source: the FuseChat-3.0 README, its table of training: batch 128, 2,048 tokens, a cosine schedule with a warm-up of a
tenth; SFT for three epochs, then DPO for one from the SFT model; a checkpoint every 100 steps, the better of the last
two kept.
"""

import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field

from fusedata.config import Model, validate
from fusedata.corpus import Count, Text
from fusedata.errors import ConfigError

Stage = Literal["sft", "dpo"]
Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup", "cosine_with_restarts", "inverse_sqrt"]
Positive = Annotated[float, Field(gt=0)]


class Settings(Model):
    """What is in force while a stage is trained; all of it is written beside the model."""

    learning_rate: Positive
    epochs: Positive = 1.0
    batch: Count = 128
    """Rows a step, over all devices and accumulated passes."""
    device_batch: Count = 1
    """Rows that a device takes at a time; what is missing to `batch` is accumulated."""
    max_tokens: Count = 2048
    """Tokens of prompt and response together, by the target's own tokenizer and chat template."""
    longer: Literal["drop", "cut"] = "drop"
    """What becomes of rows with more: left out and counted, or cut at their end."""
    schedule: Schedule = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    save_steps: Count = 100
    """Steps between two checkpoints; the held-out rows are looked at as often."""
    log_steps: Count = 10
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of the prompts, by hash, that is held out where the dataset has no test split."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 where a GPU has it, else float32."""
    gradient_checkpointing: bool = False
    packing: bool = False
    """SFT: several rows in one sequence, none cut."""
    beta: Positive = 0.1
    """DPO: how hard the model is held to the reference."""
    loss: Literal["sigmoid_norm", "sigmoid"] = "sigmoid"
    """DPO: `sigmoid` as published, `sigmoid_norm` over mean log-probabilities a token (length-normalised)."""
    precompute_reference: bool = False
    """DPO: the reference's log-probabilities once, before training, so that it needs no memory later."""
    lora_rank: Count | None = None
    """Train adapters of this rank, merged into the model at the end; absent: all weights."""
    lora_alpha: Count = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    quantize: bool = False
    """With LoRA: hold the frozen weights in 4 bits (QLoRA); needs a GPU and bitsandbytes."""
    tracker: Text = "none"
    """A tracker that TRL knows: tensorboard, wandb, trackio, …"""


class Target(NamedTuple):
    """A target model of FuseChat-3.0 with its published hyper-parameters."""

    model: str
    license: str
    sft: float
    """Learning rate of SFT."""
    dpo: float
    """Learning rate of DPO."""
    beta: float
    loss: Literal["sigmoid_norm", "sigmoid"]


TARGETS: Final[Mapping[str, Target]] = {
    "llama-3.1-8b": Target("meta-llama/Llama-3.1-8B-Instruct", "llama3.1", 5e-6, 8e-7, 10.0, "sigmoid_norm"),
    "llama-3.2-3b": Target("meta-llama/Llama-3.2-3B-Instruct", "llama3.2", 5e-6, 1e-6, 10.0, "sigmoid_norm"),
    "llama-3.2-1b": Target("meta-llama/Llama-3.2-1B-Instruct", "llama3.2", 5e-6, 1e-6, 10.0, "sigmoid_norm"),
    "qwen2.5-7b": Target("Qwen/Qwen2.5-7B-Instruct", "apache-2.0", 2e-6, 3e-7, 0.01, "sigmoid"),
    "gemma-2-9b": Target("google/gemma-2-9b-it", "gemma", 2e-6, 5e-7, 0.01, "sigmoid"),
}
"""The published targets; `license` is that of the model."""

_FITTING: Final = {"sigmoid_norm": (1.0, 100.0), "sigmoid": (0.001, 1.0)}
"""Betas between which a loss is known to work: per token a difference is some hundred times smaller than summed up."""


def find_target(name: str) -> Target:
    """Give the target of that name. Raises ConfigError."""
    if name not in TARGETS:
        raise ConfigError(f"--target {name}: unknown target; there are {', '.join(TARGETS)}.")
    return TARGETS[name]


def settings_for(target: Target, stage: Stage, overrides: Iterable[str] = ()) -> Settings:
    """Give the published settings of a stage with `overrides` (`field=value`, as TOML spells values) in their place.

    `sft.field=value` and `dpo.field=value` are for that stage alone. Raises ConfigError for a field that there is not,
    or a value that does not fit it.
    """
    data: dict[str, Any] = (
        {"learning_rate": target.sft, "epochs": 3.0}
        if stage == "sft"
        else {"learning_rate": target.dpo, "epochs": 1.0, "beta": target.beta, "loss": target.loss}
    )
    told = sorted(map(_override, overrides), key=lambda one: one[0] is not None)  # a stage's own comes last, and wins
    data |= {field: value for of, field, value in told if of in {None, stage}}
    settings = validate(Settings, data, "--set")
    if settings.quantize and settings.lora_rank is None:
        raise ConfigError("--set quantize=true: 4-bit weights are frozen: give lora_rank too (--set lora_rank=16).")
    return settings


def _override(text: str) -> tuple[str | None, str, object]:
    """Read `field=value`: the stage that it is for (None: both), the field, and the value."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise ConfigError(f"--set {text}: write field=value (--set learning_rate=1e-6).")
    stage, point, field = name.partition(".")
    if point and stage not in {"sft", "dpo"}:
        raise ConfigError(f"--set {text}: {stage} is no stage: write sft.{field}, dpo.{field}, or {field} for both.")
    return (stage, field, _value(field, value)) if point else (None, name, _value(name, value))


def _value(name: str, text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = text
    field = Settings.model_fields.get(name)
    if isinstance(parsed, int) and not isinstance(parsed, bool) and field and "float" in str(field.annotation):
        return float(parsed)
    return parsed


def doubts(settings: Settings, stage: Stage) -> list[str]:
    """List what is allowed and seldom meant: a beta that does not fit the loss, what a stage makes no use of."""
    if stage == "sft":
        return ["precompute_reference has no effect on SFT"] if settings.precompute_reference else []
    low, high = _FITTING[settings.loss]
    published = "10 with sigmoid_norm, 0.01 with sigmoid"
    found = [] if low <= settings.beta <= high else [f"beta {settings.beta:g} does not fit the loss {settings.loss}"]
    return [f"{one} (published: {published})" for one in found] + ["packing has no effect on DPO"] * settings.packing
