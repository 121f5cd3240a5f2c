"""The `openai` engine: any server that speaks OpenAI's chat completions."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any

from fusedata.errors import ConfigError, EngineError
from fusedata.http import Client
from fusedata.profile import OpenaiEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.served import Servers

_WHOLE = {"stop", "length"}
_DENIED = {"content_filter", "tool_calls", "function_call"}
"""Ends that another try of the same request would meet again."""


class OpenaiEngine:
    """Samples one model behind servers, each sample with its own seed (see `Host.n` for the exception).

    What the servers run is theirs to know: the fingerprint holds the model's name and the recipe's `revision`, nothing
    that moves when a server is restarted. Texts move with what else a server has in flight.
    """

    name = "openai"

    def __init__(self, model: SourceModel, host: Host) -> None:
        """Check host and key; nothing is asked yet. Raises ConfigError."""
        self.batch_size = host.batch_size
        self._model, self._host = model, host
        self._sampling = _sampling(model, host)
        self._servers = Servers(host, EngineError)

    def identity(self) -> dict[str, str]:
        """The model by its served name and revision, and how it is asked: no URL, no key, nothing a server says."""
        return {
            "engine": self.name,
            "model": self._sampling["model"],
            "revision": self._model.revision or "",
            "dialect": self._host.dialect,
            "n": str(self._host.n).lower(),
        }

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        """Keep `in_flight` requests on their way, and give their completions as they come.

        Raises EngineError where no server answers, where they refuse the key or do not have the model, and where
        nothing but failures has come for long.
        """
        requests = chain.from_iterable(batches)
        prompts = (list(samples) for _, samples in groupby(requests, key=lambda request: request.prompt_id))
        jobs = prompts if self._host.n else ([request] for prompt in prompts for request in prompt)
        yield from self._servers.ask(jobs, self._answer, self.batch_size)

    def close(self) -> None:
        """Cancel what is on its way and close all connections."""
        self._servers.close()

    async def _answer(self, client: Client, requests: list[Request]) -> Group:
        """Answer requests of one prompt with one request for `n` choices, and with others for what is then missing.

        A row's seed is the one that was sent. Choices that are missing are asked for with the seed of the first of
        them: the seed of the first request would give the same texts again.
        """
        answered: list[tuple[Request, Completion]] = []
        while left := requests[len(answered) :]:
            body = {**self._sampling, "messages": left[0].messages, "seed": left[0].seed}
            body |= {"n": len(left)} if len(left) > 1 else {}
            found = await client.post("/chat/completions", body, partial(read, n=len(left)))
            if not isinstance(found, list):
                completion = Completion(None, "too_long" if found.too_long else "error", error=found.reason)
                return [*answered, *((request, completion) for request in left)]
            sent = [request._replace(seed=left[0].seed) for request in left]
            answered += zip(sent, found, strict=False)
        return answered


def _sampling(model: SourceModel, host: Host) -> dict[str, Any]:
    """What is the same in all requests. Raises ConfigError where the dialect cannot say it."""
    asked = {
        "model": host.model or model.id,
        "temperature": model.temperature,
        "top_p": model.top_p,
        "max_tokens": model.max_tokens,
        "presence_penalty": model.presence_penalty or 0.0,
        "frequency_penalty": model.frequency_penalty or 0.0,
    }
    extra = {"top_k": model.top_k, "min_p": model.min_p, "repetition_penalty": model.repetition_penalty}
    if host.dialect == "openai":
        neutral: dict[str, object] = {"top_k": None, "min_p": None, "repetition_penalty": 1.0}
        if said := [key for key, value in extra.items() if (value or None) != neutral[key]]:
            remedy = 'take it out of the recipe, or set dialect = "vllm" if the server takes it'
            raise ConfigError(f"{model.id}: {said[0]} is no parameter of OpenAI's, which the engine speaks: {remedy}.")
        return {key: value for key, value in asked.items() if "penalty" not in key or value}
    penalty = model.repetition_penalty
    # -1 is "all" to vLLM, SGLang and llama.cpp alike; the last two are llama.cpp's words for repetition_penalty.
    extra |= {"top_k": model.top_k or -1, "min_p": model.min_p or 0.0, "repeat_penalty": penalty, "repeat_last_n": -1}
    return asked | extra


def read(answer: Any, n: int) -> list[Completion]:  # noqa: ANN401
    """Read at most `n` completions off an answer; ValueError where it holds none, so that it is asked for again."""
    try:
        usage = answer.get("usage") or {}
        prompt, drawn = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        found = [_completion(choice, prompt, drawn if n == 1 else None) for choice in answer["choices"][:n]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("the answer is no chat completion") from error
    completions = [completion for completion in found if isinstance(completion, Completion)]
    if not completions:
        raise ValueError(found[0] if found else "the answer holds no choice")
    return completions


def _completion(choice: Any, prompt: int | None, drawn: int | None) -> Completion | str:  # noqa: ANN401
    """Read one choice; a text: why it is to be asked for again.

    An answer without text is a finished row where the server counted tokens for it (the model ended at once, or used
    them all up thinking), with that reason; where it did not, the server is thought to be at fault.
    """
    reason, text = choice["finish_reason"], choice["message"].get("content")
    if reason in _DENIED:
        return Completion(None, "error", prompt, drawn, f"the server ended the answer with {reason}")
    if reason not in _WHOLE:
        return f"the server ended the answer with {str(reason)[:40]}"
    if isinstance(text, str) and text.strip():
        return Completion(text, reason, prompt, drawn)
    if drawn and (text is None or isinstance(text, str)):
        return Completion(None, reason, prompt, drawn, "the model's answer holds no text")
    return "the answer holds no text"


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
