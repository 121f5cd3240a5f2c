"""ArmoRM (RLHFlow/ArmoRM-Llama3-8B-v0.1), on transformers' Llama: none of the code that it publishes is run.

A score is made of two hidden states of one conversation. The one of the last token gives a number for each of 19
objectives (`regression_layer`); the one at the end of the prompt, the first token of GATE's last occurrence, gives
their weights (`gating`). The score is the sum of weight times objective, after `reward_transform_matrix` has taken
what is mere verbosity out of the objectives. Source: the model's card and "Interpretable Preferences via
Multi-Objective Reward Modeling and Mixture-of-Experts" (arXiv 2406.12845).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fusedata.errors import RewardError
from fusedata.quiet import quiet_loading, quiet_logger
from fusedata.reward.chat import Reading, whole_tokens
from fusedata.reward.checkpoint import read_config, read_tensors
from fusedata.reward.local import LocalReward, Network
from fusedata.reward.passes import Row, last_hidden, shares_prompts
from fusedata.reward.protocol import Item

ARCHITECTURE = "LlamaForRewardModelWithGating"
GATE = [128009, 128006, 78191, 128007, 271]
"""End of turn, then the assistant's header: `<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n`."""
HEADER = 128006
PUBLISHED = (4096, 19)
"""Hidden size and objectives of the published weights, whose scale is known."""
BAND = (-0.5, 0.5)
"""Where the published weights score a plain right answer: good answers are about 0.1 to 0.2, and near -2 the gating
head is not there."""
_HEAD = re.compile(r"regression_layer\.|reward_transform_matrix$|gating\.")
_LAYER = re.compile(r"gating\.layers\.(\d+)\.weight")


@dataclass(frozen=True)
class Head:
    """What stands on the body: float32 tensors, on its device."""

    regression: Any
    """Shape (objectives, hidden size)."""
    transform: Any
    """Shape (objectives, objectives)."""
    layers: tuple[tuple[Any, Any], ...]
    """Weight and bias of each linear layer of the gating."""
    scale: Any
    temperature: float

    def score(self, gate: Any, last: Any) -> Any:  # noqa: ANN401
        """Scores, shape (n), of hidden states at the gate and at the last token, shape (n, hidden size) each."""
        import torch

        for weight, bias in self.layers[:-1]:
            gate = torch.relu(gate @ weight.T + bias)
        weight, bias = self.layers[-1]
        gating = torch.softmax((gate @ weight.T + bias) / self.temperature, dim=1) * self.scale
        return (gating * (last @ self.regression.T @ self.transform)).sum(dim=1)


class ArmoRM(LocalReward):
    """A RewardModel of ArmoRM's architecture, with its published weights or others of the same layout.

    The body has the host's precision; head and gating are float32. Turns go through the tokenizer's chat template as
    they are; no system prompt is added. Its name is whatever the recipe calls it.
    """

    stated: ClassVar = {"float32": 1e-5, "bfloat16": 0.004, "float16": 0.001}
    """As the preference head's, which is on the same scale and was measured; a published score in bfloat16 throughout
    is itself rounded to 0.001 near 0.15."""

    def _head_identity(self) -> dict[str, str]:
        return {"head": "gating"}

    def _open(self) -> Network:
        from transformers import AutoTokenizer

        config = read_config(self.weights)
        with quiet_loading(), quiet_logger("transformers"):
            tokenizer = AutoTokenizer.from_pretrained(
                self.weights.source, trust_remote_code=False, **self.weights.arguments
            )
            body = self._body()
        head = read_head(read_tensors(self.weights, lambda name: bool(_HEAD.match(name))), config, self.name)
        if head.regression.shape[1] != body.config.hidden_size:
            found = f"{head.regression.shape[1]} numbers, and the body gives {body.config.hidden_size}"
            raise RewardError(f"{self.name}: the regression layer takes {found}: fetch the weights again.")
        self._published = (body.config.hidden_size, head.regression.shape[0]) == PUBLISHED
        head = _moved(head, self._host.device)

        def forward(group: Sequence[Row]) -> list[float]:
            states = last_hidden(body, group).float()
            return list(head.score(states[:, 0], states[:, 1]).tolist())

        def read(item: Item) -> Reading | str:
            tokens, prefix = whole_tokens(tokenizer, item)
            gate = find_gate(tokens)
            if gate is None:
                return "the assistant's header is not where the gating reads it"
            return Reading(tokens, (gate, len(tokens) - 1), prefix)

        return Network(read, forward, shares_prompts(body), body.config.max_position_embeddings)

    def _body(self) -> Any:  # noqa: ANN401
        """Load the Llama under the head. The classes are named here, so nothing that config.json names is run."""
        import torch
        from transformers import LlamaConfig, LlamaModel

        where = {"pretrained_model_name_or_path": self.weights.source, **self.weights.arguments}
        body, told = LlamaModel.from_pretrained(
            **where,
            config=LlamaConfig.from_pretrained(**where),
            dtype=getattr(torch, self._host.dtype),
            output_loading_info=True,
        )
        if told["missing_keys"]:
            missing = f"{min(told['missing_keys'])} and {len(told['missing_keys']) - 1} more"
            raise RewardError(f"{self.name}: the weights lack tensors of the body ({missing}): fetch them again.")
        return body.eval().to(self._host.device)

    def _check(self) -> None:
        """Tell a foreign chat template apart first: it would leave every item without a score."""
        if isinstance(self._read(_probe()), str):
            raise RewardError(
                f"{self.name}: the pattern {GATE}, at which the gating reads, is not in what the tokenizer's chat "
                "template writes before a response: use the tokenizer that was published with the weights."
            )
        super()._check()

    def _check_known(self, score: float) -> None:
        low, high = BAND
        if self._published and not low <= score <= high:
            raise RewardError(
                f"{self.name}: a plain right answer scores {score:.3f}, and should score between {low} and {high} "
                "(near -2 the gating head did not load): fetch the weights again."
            )


def _probe() -> Item:
    return Item(({"role": "user", "content": "Hi"},), "Hello")


def find_gate(tokens: Sequence[int]) -> int | None:
    """Place of the first token of GATE's last occurrence; None where it is not the header before the response."""
    size = len(GATE)
    for start in range(len(tokens) - size, -1, -1):
        if tokens[start + 1] == HEADER:
            return start if list(tokens[start : start + size]) == GATE else None
    return None


def read_head(tensors: dict[str, Any], config: dict[str, Any], name: str) -> Head:
    """Make a head of a checkpoint's tensors, after checking that all are there, finite and of one shape.

    Raises RewardError: a head that is not there would be made up of random numbers elsewhere, without a word.
    """
    numbers = sorted(int(found[1]) for key in tensors if (found := _LAYER.fullmatch(key)))
    count = int(config.get("gating_n_hidden", 3)) + 1
    needed = ["regression_layer.weight", "reward_transform_matrix", "gating.logit_scale"]
    needed += [f"gating.layers.{n}.{part}" for n in range(count) for part in ("weight", "bias")]
    missing = [key for key in needed if key not in tensors]
    if missing or len(numbers) > count:
        lack = f"no {', '.join(missing)}" if missing else f"{len(numbers)} gating layers where its config has {count}"
        raise RewardError(f"{name}: the gating head did not load, the weights hold {lack}: fetch them again.")
    plain = {key: tensors[key].float() for key in needed}
    _check_shapes(plain, _shapes(plain, config, count), name)
    layers = tuple((plain[f"gating.layers.{n}.weight"], plain[f"gating.layers.{n}.bias"]) for n in range(count))
    regression, transform, scale = (plain[key] for key in needed[:3])
    return Head(regression, transform, layers, scale.reshape(()), float(config.get("gating_temperature", 10)))


def _shapes(tensors: dict[str, Any], config: dict[str, Any], count: int) -> dict[str, list[int]]:
    """Give the shape that each tensor should have: by config.json where it says so, else by its neighbours."""
    objectives, hidden = (int(n) for n in tensors["regression_layer.weight"].shape)
    objectives = int(config.get("num_objectives", objectives))
    inner = int(config.get("gating_hidden_dim", tensors["gating.layers.0.bias"].shape[0]))
    widths = [int(config.get("hidden_size", hidden)), *[inner] * (count - 1), objectives]
    layers = {f"gating.layers.{n}.weight": [widths[n + 1], widths[n]] for n in range(count)}
    biases = {f"gating.layers.{n}.bias": [widths[n + 1]] for n in range(count)}
    square = {"reward_transform_matrix": [objectives, objectives], "gating.logit_scale": [1]}
    return {"regression_layer.weight": [objectives, widths[0]], **square, **layers, **biases}


def _check_shapes(tensors: dict[str, Any], shapes: dict[str, list[int]], name: str) -> None:
    import torch

    for key, shape in shapes.items():
        tensor = tensors[key].reshape(1) if shape == [1] and tensors[key].dim() == 0 else tensors[key]
        if list(tensor.shape) != shape or not torch.isfinite(tensor).all():
            found = f"{key} is {list(tensor.shape)} and should be {shape}, of finite numbers"
            raise RewardError(f"{name}: the gating head did not load, {found}: fetch the weights again.")
    transform = tensors["reward_transform_matrix"]
    if len(transform) > 1 and torch.equal(transform, torch.eye(len(transform))):
        found = "reward_transform_matrix is what it is before it was trained, the identity"
        raise RewardError(f"{name}: the gating head did not load, {found}: fetch the weights again.")


def _moved(head: Head, device: str) -> Head:
    layers = tuple((weight.to(device), bias.to(device)) for weight, bias in head.layers)
    parts = (head.regression.to(device), head.transform.to(device))
    return Head(*parts, layers, head.scale.to(device), head.temperature)
