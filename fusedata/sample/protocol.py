"""The seam to the models that answer: prompts in, responses out, as they finish."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from fusedata.schema import Message


class Request(NamedTuple):
    """One sample to draw. `seed` is its own, in [0, 2**31)."""

    prompt_id: str
    sample: int
    messages: Sequence[Message]
    seed: int


class Completion(NamedTuple):
    """What an engine made of one request: a text, or why there is none.

    `finish_reason` is "stop" or "length"; "too_long", for good, where the prompt leaves the model no room; or "error",
    to be tried again by the next build. In the last two `error` says why and `text` is None; a "stop" or "length"
    without any text has its reason there, too. Token counts are the engine's own, the end-of-turn token among them;
    None where it does not tell.
    """

    text: str | None
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None


Group = Sequence[tuple[Request, Completion]]


class Engine(Protocol):
    """Answers requests with one model. Its life begins with the first `generate` and ends with `close`."""

    name: str
    batch_size: int
    """Requests a planned batch: what runs together in engines that run batches, what becomes a part in others."""

    def identity(self) -> dict[str, str]:
        """Everything that can change a text (weights, precision, versions), without loading the model."""
        ...

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        """Answer all requests, each once, in any order and grouping; each group is made durable at once.

        A request that cannot be answered gets a Completion with `error`; EngineError means the engine broke down.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...
