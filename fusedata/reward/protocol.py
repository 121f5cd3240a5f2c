"""What a reward model is to the rest of fusedata: one number for a response to a prompt."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One response to score, with the prompt that it answers.

    `messages` are the turns of the prompt, oldest first, each {"role", "content"}; `response` is the assistant's next.
    """

    messages: tuple[dict[str, str], ...]
    response: str


class RewardModel(Protocol):
    """Scores responses; higher is better, and scores compare only within one reward model.

    An item that cannot be scored gets None; RewardError means that the model itself broke down.
    """

    name: str

    def identity(self) -> dict[str, str]:
        """Everything that can change a score (weights, head, precision, library versions), for fingerprints."""
        ...

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens that each item takes as the model reads it, for planning batches."""
        ...

    def score(self, items: Sequence[Item]) -> list[float | None]:
        """Score one batch, in order; None for an item longer than the model's context."""
        ...
