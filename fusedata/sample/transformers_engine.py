"""The `transformers` engine: a small model in this process, batch by batch, the same texts for the same batch."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from fusedata.errors import MissingExtraError
from fusedata.profile import TransformersEngine as Host
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Group, Request
from fusedata.sample.transformers_chat import SAMPLER, Chat
from fusedata.weights import find_weights


class TransformersEngine:
    """Samples one model with transformers; deterministic for a batch of requests on one machine.

    Each sample draws from a random stream of its own, seeded by its request: neighbours in the batch do not move it,
    but for the last bits of the logits.
    """

    name = "transformers"

    def __init__(self, model: SourceModel, host: Host) -> None:
        """Find the weights, without loading them. Raises EngineError, MissingExtraError."""
        self.batch_size = host.batch_size
        self._model, self._host = model, host
        self._versions = {name: _version(name) for name in ("transformers", "torch")}
        self._weights = find_weights(model.id, host.weights, model.revision)
        self._chat: Chat | None = None

    def identity(self) -> dict[str, str]:
        """Weights (the chat template among them), precision and library versions."""
        return {
            "engine": self.name,
            "weights": self._weights.revision,
            "dtype": self._host.dtype,
            "device": self._host.device,
            "sampler": SAMPLER,
            **self._versions,
        }

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        """Answer batch by batch. Raises EngineError where the model cannot be loaded or run."""
        for batch in batches:
            self._chat = self._chat or Chat(self._model, self._host, self._weights)
            yield self._chat.answer(batch)

    def close(self) -> None:
        """Free the model's memory."""
        self._chat = None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingExtraError("local", "The transformers engine") from error
