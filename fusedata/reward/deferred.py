"""A reward model that is found and loaded only where a response is to be scored."""

from collections.abc import Callable, Sequence

from fusedata.reward.protocol import Item, RewardModel, Scored


class Deferred:
    """A RewardModel whose scores a recipe's corpora carry: its weights are not asked for, unless one is missing."""

    tolerance = 0.0
    self_test = ""

    def __init__(self, name: str, make: Callable[[], RewardModel]) -> None:
        """`make` gives the model itself."""
        self.name, self._make = name, make
        self._model: RewardModel | None = None

    def identity(self) -> dict[str, str]:
        """The model's name: carried scores tell no more."""
        return {"name": self.name}

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Score one batch, in order, by the model. Raises what making it and scoring raise."""
        self._model = self._model or self._make()
        scored = self._model.score(items)
        self.tolerance, self.self_test = self._model.tolerance, self._model.self_test
        return scored

    def close(self) -> None:
        """Close the model, if it was needed."""
        if self._model:
            self._model.close()
