"""The `vllm` engine: a model in this process' care, kept full, its responses written as they finish."""

import contextlib
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from threading import Event, Thread
from typing import Any

from fusedata.errors import EngineError, MissingExtraError
from fusedata.profile import VllmEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.sample.vllm_arguments import arguments, check_names, quiet, sampling, vllm_version
from fusedata.sample.vllm_guard import Guard
from fusedata.store import first_line
from fusedata.weights import Weights, find_weights

FLUSH_SECONDS = 30.0
"""Finished responses wait no longer than this for a part of `batch_size` to fill."""


class VllmEngine:
    """Samples one model with vLLM; its processes live from the first `generate` to `close`, or this process' end.

    Every sample is a request with a seed of its own. vLLM's numbers move with what else is in flight: the same seed
    may give another text in another build. Samples of one prompt are asked for together, and share its prefill.
    """

    def __init__(self, model: SourceModel, host: Host) -> None:
        """Find the weights, without loading them. Raises ConfigError, EngineError, MissingExtraError."""
        self._version = vllm_version()
        self.name, self.batch_size = f"vllm {self._version}", host.batch_size
        self._model, self._host = model, host
        check_names(model, host)
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
        quiet()
        self._model = model
        try:
            from vllm import LLM
        except ImportError as error:
            raise MissingExtraError("vllm", "The vllm engine") from error
        self._guard = Guard()
        with contextlib.ExitStack() as undo:
            undo.callback(self._guard.close)
            try:
                self._llm = LLM(**arguments(host, weights))
            except Exception as error:  # out of memory, an unknown argument, a damaged file: vLLM raises what it likes
                remedy = "its own messages (VLLM_LOGGING_LEVEL=INFO) say more"
                raise EngineError(
                    f"{model.id}: vLLM cannot load {weights.source} ({first_line(error)}); {remedy}."
                ) from error
            undo.pop_all()
        self._guard.loaded()
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
        self._llm.llm_engine.add_request(key, prompt, sampling(self._model, request.seed))
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
        self._guard.close()
        del self._llm


def _completion(output: Any) -> Completion:  # noqa: ANN401
    (answer,) = output.outputs
    counts = len(output.prompt_token_ids), len(answer.token_ids)
    if answer.finish_reason in {"stop", "length"}:
        return Completion(answer.text, answer.finish_reason, *counts)
    return Completion(None, "error", *counts, error=f"vLLM ended the request early ({answer.finish_reason})")
