"""A reward model behind vLLM's /classify or /pooling, as `vllm serve MODEL --runner pooling` opens them."""

import math
from collections.abc import Sequence
from typing import Any

from fusedata.errors import RewardError
from fusedata.http import Client, Failure
from fusedata.profile import RewardServer
from fusedata.recipe import Reward
from fusedata.reward.protocol import TOO_LONG, Item, Scored
from fusedata.served import Servers

DECIMALS = 6
ALONE = 8
"""Items of the first batch that are scored a second time, to see how far scores move."""


class ServedReward:
    """Scores with a sequence classifier that a server holds: its raw output, before softmax or sigmoid.

    The server applies its own chat template to the prompt's turns and the response as the assistant's, and reads
    special tokens that stand in a text as such. /pooling may give an output for each token: the last one's counts.

    Scores move with what else the server reads at the time, and how far depends on its model and precision, which it
    does not tell: the first batch's first items are scored once more, one at a time, and `tolerance` is raised to twice
    the farthest of those moves. (vLLM 0.32 in bfloat16 on a CPU, a head of random weights on SmolLM2-135M, 14 texts:
    0.22 of the scores' standard deviation at most, 0.03 on average.)
    """

    tolerance = 0.05
    self_test = ""

    def __init__(self, reward: Reward, server: RewardServer) -> None:
        """Check server and key; nothing is asked yet. Raises ConfigError."""
        self.name = reward.model
        self._reward, self._endpoint = reward, server.endpoint
        self._model = server.model or reward.model
        roots = tuple(url.rstrip("/").removesuffix("/v1") for url in server.base_urls)
        self._in_flight = server.in_flight
        self._servers = Servers(server.model_copy(update={"base_urls": roots}), RewardError)
        self._compared = False

    def identity(self) -> dict[str, str]:
        """The model by its served name and revision, and which output is read: no URL, no key."""
        return {
            "name": self.name,
            "endpoint": self._endpoint,
            "model": self._model,
            "revision": self._reward.revision or "",
            "output": str(self._reward.weights or self._reward.output or 0),
        }

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Score one batch, in order. Raises RewardError where no server gives what it should."""
        together = self._asked(items)
        if items and not self._compared:
            self._compared = True
            self._compare(items[:ALONE], together)
        return together

    def _asked(self, items: Sequence[Item]) -> list[Scored]:
        groups = self._servers.ask(enumerate(items), self._score, max(1, len(items)))
        numbered = dict(pair for group in groups for pair in group)
        return [numbered[number] for number in range(len(items))]

    def _compare(self, items: Sequence[Item], together: Sequence[Scored]) -> None:
        """Score items one at a time, and raise the tolerance to what their scores among others differ by, twice."""
        moves = [0.0]
        for item, among in zip(items, together, strict=False):
            (alone,) = self._asked([item])
            if alone.score is not None and among.score is not None:
                moves.append(abs(alone.score - among.score))
        self.tolerance = max(self.tolerance, 2 * max(moves))
        if moves[1:]:
            self.self_test = (
                f"{len(moves) - 1} texts, scored once more one at a time, moved by at most {max(moves):.6f}"
            )

    def close(self) -> None:
        """Close all connections; the next `score` opens new ones."""
        self._servers.close()

    async def _score(self, client: Client, numbered: tuple[int, Item]) -> list[tuple[int, Scored]]:
        number, item = numbered
        messages = [*item.messages, {"role": "assistant", "content": item.response}]
        body = {"model": self._model, "messages": messages, "use_activation": False}
        found = await client.post(f"/{self._endpoint}", body, self._read)
        if not isinstance(found, Failure):
            return [(number, found)]
        if not found.refused:
            raise RewardError(f"{self.name}: the server gave no score: {found.reason}; build again to go on.")
        return [(number, Scored(None, None, TOO_LONG if found.too_long else found.reason))]

    def _read(self, answer: Any) -> Scored:  # noqa: ANN401
        """Read the score off an answer; ValueError where it is none, so that it is asked for again."""
        try:
            tokens, row = int(answer["usage"]["prompt_tokens"]), answer["data"][0]
            outputs = row["probs"] if self._endpoint == "classify" else row["data"]
            outputs = outputs[-1] if isinstance(outputs[0], list) else outputs
            numbers = [float(output) for output in outputs]
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError("the answer holds no outputs of a reward model") from error
        score = self._chosen(numbers)
        if not math.isfinite(score):
            return Scored(None, tokens, f"the score is no number ({score})")
        return Scored(round(score, DECIMALS), tokens)

    def _chosen(self, outputs: list[float]) -> float:
        """Give the recipe's choice among the model's outputs. Raises RewardError where it does not fit them."""
        output, weights, count = self._reward.output, self._reward.weights, len(outputs)
        if weights is not None and len(weights) == count:
            return math.fsum(w * o for w, o in zip(weights, outputs, strict=True))
        if weights is None and (output is not None or count == 1) and (output or 0) < count:
            return outputs[output or 0]
        remedy = "let [reward] name its `output`, or as many `weights`"
        raise RewardError(f"{self.name}: the model has {count} outputs, and the recipe does not fit them: {remedy}.")
