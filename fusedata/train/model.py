"""The model that is trained: loaded, quantised, given adapters, and merged with them at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusedata.errors import ConfigError, EngineError, FusedataError, MissingExtraError
from fusedata.quiet import quiet_loading
from fusedata.store import first_line
from fusedata.train.settings import Settings
from fusedata.weights import Weights, load_arguments


@contextmanager
def _loading(weights: Weights) -> Iterator[None]:
    """Load in silence. Raises EngineError for files that are damaged or not there."""
    try:
        with quiet_loading():
            yield
    except (FusedataError, ImportError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes foreign code raise
        if "out of memory" in str(error):
            raise
        raise EngineError(f"{weights.source}: transformers cannot load it ({first_line(error)}).") from error


def load_tokenizer(weights: Weights) -> Any:  # noqa: ANN401 - a tokenizer of transformers
    """Load the tokenizer of a model, with something to pad by. Raises EngineError, MissingExtraError."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("train", "Training") from error
    with _loading(weights):
        tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load(weights: Weights, settings: Settings, *, bf16: bool) -> Any:  # noqa: ANN401 - a model of transformers
    """Load what is trained: float32 weights, or narrow ones where adapters alone are trained. Raises EngineError."""
    import torch
    from transformers import AutoModelForCausalLM

    loading = load_arguments(weights)
    if settings.quantize:
        loading["quantization_config"] = _four_bits()
    # Weights are trained in float32 under autocast, as TRL does; frozen ones may be as narrow as what they are used in.
    narrow = bf16 and settings.lora_rank is not None
    with _loading(weights):
        model = AutoModelForCausalLM.from_pretrained(
            weights.source, dtype=torch.bfloat16 if narrow else torch.float32, **loading
        )
    model.config.use_cache = False
    return model


def _four_bits() -> Any:  # noqa: ANN401
    try:
        import bitsandbytes  # noqa: F401, PLC0415 - brought by no extra
    except ImportError as error:
        raise ConfigError("quantize=true needs bitsandbytes: pip install bitsandbytes.") from error
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def adapter(settings: Settings) -> Any:  # noqa: ANN401
    """Give the configuration of the adapters; None: all weights are trained."""
    if settings.lora_rank is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("train", "LoRA") from error
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def merge(weights: Weights, adapters: Path, out: Path) -> None:
    """Write the model with its adapters merged into weights of full precision."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_loading():
        model = AutoModelForCausalLM.from_pretrained(weights.source, dtype="auto", **load_arguments(weights))
        PeftModel.from_pretrained(model, adapters).merge_and_unload().save_pretrained(out)
        AutoTokenizer.from_pretrained(adapters).save_pretrained(out)
