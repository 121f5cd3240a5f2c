"""Twins of the seams, for tests and benchmarks: an engine and a reward model that need no model."""

from collections.abc import Iterable, Iterator, Sequence

from fusedata.reward.protocol import Item, Scored
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.schema import digest


class EchoEngine:
    """Answers each request with `The answer is N.`, N in [0, `answers`) by the request's seed.

    `asked` lists the requests in the order they came.
    """

    name = "echo"

    def __init__(self, *, batch_size: int = 4, answers: int = 4) -> None:
        """Answer in batches of `batch_size`."""
        self.batch_size = batch_size
        self._answers = answers
        self.asked: list[Request] = []

    def identity(self) -> dict[str, str]:
        """What its texts depend on."""
        return {"engine": self.name, "answers": str(self._answers)}

    def generate(self, batches: Iterable[Sequence[Request]]) -> Iterator[Group]:
        """Answer batch by batch."""
        for batch in batches:
            self.asked += batch
            yield [(request, self._answer(request)) for request in batch]

    def _answer(self, request: Request) -> Completion:
        return Completion(f"The answer is {request.seed % self._answers}.", "stop", len(request.messages), 5)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class HashReward:
    """Scores a response in [0.1, 0.2) by a hash of prompt and text."""

    name = "fusedata/hash-reward"
    tolerance = 0.0
    self_test = ""

    def identity(self) -> dict[str, str]:
        """What its scores depend on."""
        return {"name": self.name}

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Score one batch; tokens are the words of prompt and response."""
        return [_hashed([*(m["content"] for m in item.messages)], item.response) for item in items]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def _hashed(turns: list[str], response: str) -> Scored:
    value = digest("\n".join(turns), response, size=4)
    return Scored(0.1 + int(value, 16) / 2**32 / 10, len(" ".join([*turns, response]).split()))
