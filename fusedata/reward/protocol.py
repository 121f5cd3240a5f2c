"""What a reward model is to the rest of fusedata: one number for a response to a prompt."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One response to score, with the prompt that it answers.

    `messages` are the turns of the prompt, oldest first, each {"role", "content"}; `response` is the assistant's next.
    """

    messages: tuple[dict[str, str], ...]
    response: str


class Scored(NamedTuple):
    """What came of one item: a score, or the reason why there is none."""

    score: float | None
    tokens: int | None
    """Tokens of the item as the model reads it, template included; None where they were not counted."""
    error: str | None = None


TOO_LONG = "longer than the model's context"
"""The `error` of an item that will never fit."""


class RewardModel(Protocol):
    """Scores responses; higher is better, and scores compare only within one reward model.

    An item that cannot be scored has its reason in `Scored.error`; RewardError means that the model itself broke down.
    """

    name: str
    tolerance: float
    """The most that neighbours in a batch, and its shape, move a score: gaps within it of a limit may fall on either
    side. 0 where a score depends on nothing but its item."""

    self_test: str
    """What was found when the model was loaded, for the card: numbers in a sentence without its full stop; "" before
    that, and where nothing is tested."""

    def identity(self) -> dict[str, str]:
        """Everything that can change a score (weights, head, precision, library versions), for fingerprints."""
        ...

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Score one batch, in order."""
        ...

    def close(self) -> None:
        """Free the model's memory, or its connections; the next `score` begins anew."""
        ...
