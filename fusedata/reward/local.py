"""What the reward models that run in this process have in common: loading once, reading, passes, self-test."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from jinja2 import TemplateError

from fusedata.errors import EngineError, FusedataError, MissingExtraError, RewardError
from fusedata.profile import RewardHost
from fusedata.reward.chat import Reading
from fusedata.reward.passes import Forward, Passes
from fusedata.reward.protocol import TOO_LONG, Item, Scored
from fusedata.weights import Weights, find_weights

DECIMALS = 6
"""Scores are rounded to this many decimals: what lies below is float32 noise of the batch and the machine."""
KNOWN = Item(({"role": "user", "content": "What is the capital of France?"},), "The capital of France is Paris.")
"""A plain question with a good answer, scored when a model is loaded."""
_LONGER = Item(KNOWN.messages, KNOWN.response + " It lies on the Seine." * 20)
_OTHER = Item(({"role": "user", "content": "Name three prime numbers above ten."},), "11, 13 and 17.")


@dataclass(frozen=True)
class Network:
    """A loaded model."""

    read: Callable[[Item], Reading | str]
    """The tokens of an item, or the reason why it cannot be scored. May raise jinja2's TemplateError."""
    forward: Forward
    share: bool
    """Whether `forward` takes rows of several readings."""
    context: int | None
    """Tokens that it takes at most; None: any number."""


class LocalReward:
    """A RewardModel in this process; what kind it is, `_open` of its subclass says.

    A score does not depend on its neighbours beyond `tolerance`, and the same batch on the same device gives the same
    bytes, unless memory ran out in between: then later passes are smaller. `self_test` is "" until the model is
    loaded, which happens when there is something to score; then it says what the known exchange scored, and how far
    that moved with the batch. `tolerance` is raised to twice that movement where it was larger than stated.
    """

    stated: ClassVar[dict[str, float]] = {}
    """`tolerance` by precision."""
    extra: ClassVar[str] = "reward"
    self_test = ""

    def __init__(self, name: str, weights: Weights, host: RewardHost) -> None:
        """Load nothing yet. Raises MissingExtraError without torch and transformers."""
        self.name, self.weights, self._host = name, weights, host
        self.tolerance = self.stated[host.dtype]
        self._passes: Passes | None = None
        try:
            self._versions = {library: version(library) for library in ("torch", "transformers")}
        except PackageNotFoundError as error:
            raise MissingExtraError(self.extra, f"The reward model {name}") from error

    def identity(self) -> dict[str, str]:
        """What can change a score, each part by name."""
        return {
            "name": self.name,
            "weights": self.weights.revision,
            **self._head_identity(),
            "dtype": self._host.dtype,
            "device": self._host.device,
            **self._versions,
        }

    def load(self) -> None:
        """Load the model and score known texts, unless that is done. Raises RewardError, MissingExtraError."""
        if self._passes is not None:
            return
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(self.extra, f"The reward model {self.name}") from error
        try:
            torch.empty(0, device=self._host.device)
            self._network = self._open()
        except FusedataError:
            raise
        except Exception as error:  # whatever transformers and torch find wrong with files and devices
            where = f"{self.name}: it cannot be loaded on {self._host.device}"
            raise RewardError(f"{where}: {_sentence(error)}") from error
        network, host = self._network, self._host
        self._passes = Passes(network.forward, host.batch_tokens, host.device, share=network.share)
        try:
            self._check()
        except RewardError:
            self._passes = None
            raise

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Score one batch, in order; rounded to DECIMALS decimals. Raises RewardError where `load` does."""
        self.load()
        assert self._passes is not None
        read = [self._read(item) for item in items]
        scored = [self._refused(one) for one in read]
        fits = [(number, one) for number, one in enumerate(read) if isinstance(one, Reading) and not scored[number]]
        try:
            values = self._passes.scores([one for _, one in fits])
        except RewardError as error:
            raise RewardError(f"{self.name}: {error}") from error
        for (number, one), value in zip(fits, values, strict=True):
            scored[number] = _scored(value, len(one.tokens))
        return [one for one in scored if one]

    def close(self) -> None:
        """Free the model's memory; the next `score` loads it again."""
        self._passes = None
        self.__dict__.pop("_network", None)

    def _read(self, item: Item) -> Reading | str:
        try:
            return self._network.read(item)
        except TemplateError as error:
            return f"the model's chat template refuses its turns: {error}"

    def _refused(self, read: Reading | str) -> Scored | None:
        """Say why an item cannot be scored; None where it can."""
        if isinstance(read, str):
            return Scored(None, None, read)
        tokens = len(read.tokens)
        too_long = self._network.context is not None and tokens > self._network.context
        return Scored(None, tokens, TOO_LONG) if too_long else None

    def _check(self) -> None:
        """Score the known exchange alone and among others, whose sizes and prompts pad it and share with it."""
        (alone,), (among, *_) = self.score([KNOWN]), self.score([KNOWN, _LONGER, _OTHER, *[KNOWN] * 3])
        if alone.score is None or among.score is None:
            raise RewardError(f"{self.name}: its self-test has no score: {alone.error or among.error}.")
        moved = abs(alone.score - among.score)
        self.tolerance = max(self.tolerance, 2 * moved)
        self.self_test = f"a known exchange scored {alone.score:.4f}, and {moved:.6f} away from that among others"
        self._check_known(alone.score)

    def _head_identity(self) -> dict[str, str]:
        """What the identity holds of the head."""
        return {}

    def _check_known(self, score: float) -> None:
        """Raise RewardError where the known exchange cannot score this."""

    def _open(self) -> Network:
        """Load the model. What other libraries raise becomes a RewardError."""
        raise NotImplementedError


def reward_weights(name: str, model: str, weights: str | None, revision: str | None = None) -> Weights:
    """Find the weights of `model`, as `find_weights` does, for the reward model `name`. Raises RewardError."""
    try:
        return find_weights(model, weights, revision)
    except EngineError as error:
        raise RewardError(f"{name}: its weights cannot be loaded: {error}") from error


def _scored(value: float, tokens: int) -> Scored:
    if not math.isfinite(value):
        return Scored(None, tokens, f"the score is no number ({value})")
    return Scored(round(value, DECIMALS), tokens)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text[:300]} ({type(error).__name__})"
