"""Any reward model that transformers loads as AutoModelForSequenceClassification, without code of its own.

Its raw outputs count, before any sigmoid or softmax. A causal model is read at its last token that is not padding, as
its own forward pass does for one sequence; others (BERT, DeBERTa) run their own forward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fusedata.errors import ConfigError, RewardError
from fusedata.profile import RewardHost
from fusedata.quiet import quiet_loading, quiet_logger
from fusedata.recipe import Reward
from fusedata.reward.chat import Reading, plain, whole_tokens
from fusedata.reward.checkpoint import read_tensors
from fusedata.reward.local import KNOWN, LocalReward, Network
from fusedata.reward.passes import Forward, Row, last_hidden, shares_prompts
from fusedata.reward.protocol import Item
from fusedata.weights import Weights

NO_LIMIT = 10**9
"""What tokenizers without a limit name as their limit, or more."""
_FROM_PAD = {"roberta", "xlm-roberta", "camembert"}
"""Kinds of models that count positions from the padding token's number on."""


class SequenceClassifier(LocalReward):
    """A RewardModel of one output, of several with a stated one, or of several with stated weights.

    The body has the host's precision; the head is float32.
    """

    stated: ClassVar = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
    """For outputs within some units of 0. Their scale differs with each model: the self-test raises what is too low."""

    def __init__(self, reward: Reward, weights: Weights, host: RewardHost) -> None:
        """Load nothing yet; `reward` names the model and says which output counts. Raises MissingExtraError."""
        super().__init__(reward.model, weights, host)
        self._chosen = reward.weights or reward.output or 0

    def _head_identity(self) -> dict[str, str]:
        return {"head": "sequence classification", "output": str(self._chosen)}

    def _open(self) -> Network:
        from transformers import AutoTokenizer

        with quiet_loading(), quiet_logger("transformers"):
            tokenizer = AutoTokenizer.from_pretrained(
                self.weights.source, trust_remote_code=False, **self.weights.arguments
            )
            model = self._model()
        combine, causal = self._combine(model.config.num_labels), is_causal(model)
        if causal:
            self._restore(model.score)
        _float_heads(model)
        self._own = _own_pass(model, tokenizer, combine)
        forward = _head_pass(model, combine) if causal else self._own
        body = getattr(model, model.base_model_prefix)
        return Network(
            _reader(tokenizer, model.config, self.name, causal=causal),
            forward,
            causal and shares_prompts(body),
            _context(model.config, tokenizer),
        )

    def _model(self) -> Any:  # noqa: ANN401
        import torch
        from transformers import AutoModelForSequenceClassification

        model, told = AutoModelForSequenceClassification.from_pretrained(
            self.weights.source,
            dtype=getattr(torch, self._host.dtype),
            output_loading_info=True,
            trust_remote_code=False,
            **self.weights.arguments,
        )
        if told["missing_keys"]:
            missing = ", ".join(sorted(told["missing_keys"])[:4])
            found = f"its head or body did not load, the weights hold no {missing}"
            raise RewardError(f"{self.name}: {found}: name a model that was trained as a reward model.")
        return model.eval().to(self._host.device)

    def _restore(self, layer: Any) -> None:  # noqa: ANN401
        """Give the head the numbers of the file: loaded, they were rounded to the body's precision.

        Most classes have no bias there, and drop one that the file holds.
        """
        import torch

        stored = read_tensors(self.weights, lambda name: name in {"score.weight", "score.bias"})
        for name, tensor in stored.items():
            value = torch.nn.Parameter(tensor.float().to(self._host.device), requires_grad=False)
            setattr(layer, name.removeprefix("score."), value)

    def _combine(self, outputs: int) -> Callable[[Any], list[float]]:
        """Make one number of each row of outputs."""
        import torch

        chosen = self._chosen
        size = len(chosen) if isinstance(chosen, tuple) else chosen + 1
        if size > outputs or (isinstance(chosen, tuple) and size != outputs):
            raise ConfigError(
                f"reward model {self.name}: the weights have {outputs} outputs, and [reward] names {size}."
            )
        if isinstance(chosen, tuple):
            shares = torch.tensor(chosen, dtype=torch.float64)
            return lambda found: list((found.cpu().double() @ shares).tolist())
        return lambda found: list(found[:, chosen].tolist())

    def _check(self) -> None:
        """Hold the reading of a causal model to its own forward pass over one sequence."""
        super()._check()
        read = self._read(KNOWN)
        assert isinstance(read, Reading)
        (own,), ours = self._own([Row(0, (read,), (0,))]), self.score([KNOWN])[0].score
        assert ours is not None
        if abs(own - ours) > max(self.tolerance, 0.01 * abs(own)):
            found = f"a known exchange scores {ours:.4f}, and {own:.4f} by its own forward pass"
            raise RewardError(f"{self.name}: {found}: this kind of model cannot be read here, have a server hold it.")


def is_causal(model: Any) -> bool:  # noqa: ANN401
    """Whether `model` is a linear `score` on a body whose tokens see only what came before them."""
    import torch

    config = model.config.get_text_config()
    both_ways = getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True)
    linear = isinstance(getattr(model, "score", None), torch.nn.Linear)
    return linear and not both_ways and not model.config.is_encoder_decoder


def _float_heads(model: Any) -> None:  # noqa: ANN401
    """Make all that stands on the body float32, and what goes into it."""
    for name, child in model.named_children():
        if name != model.base_model_prefix:
            child.float().register_forward_pre_hook(lambda _, given: tuple(_as_float(value) for value in given))


def _as_float(value: Any) -> Any:  # noqa: ANN401
    import torch

    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _head_pass(model: Any, combine: Callable[[Any], list[float]]) -> Forward:  # noqa: ANN401
    body = getattr(model, model.base_model_prefix)

    def forward(group: Sequence[Row]) -> list[float]:
        import torch

        with torch.inference_mode():
            return combine(model.score(last_hidden(body, group)[:, 0]))

    return forward


def _own_pass(model: Any, tokenizer: Any, combine: Callable[[Any], list[float]]) -> Forward:  # noqa: ANN401
    """Make a pass through the model's own forward pass: rows of one reading each, masked.

    Where a model tells two texts apart, the second begins after the reading's `prefix`.
    """
    pad = next(n for n in (model.config.get_text_config().pad_token_id, tokenizer.pad_token_id, 0) if n is not None)
    typed = "token_type_ids" in tokenizer.model_input_names and getattr(model.config, "type_vocab_size", 0) > 1

    def forward(group: Sequence[Row]) -> list[float]:
        import torch

        width = max(row.size for row in group)
        tokens = torch.full((len(group), width), pad)
        mask, types = torch.zeros_like(tokens), torch.zeros_like(tokens)
        for number, row in enumerate(group):
            tokens[number, : row.size] = torch.tensor(row.readings[0].tokens)
            mask[number, : row.size] = 1
            types[number, row.readings[0].prefix : row.size] = 1
        given = {"attention_mask": mask} | ({"token_type_ids": types} if typed else {})
        on_device = {name: tensor.to(model.device) for name, tensor in given.items()}
        with torch.inference_mode():
            return combine(model(tokens.to(model.device), **on_device).logits.float())

    return forward


def _reader(tokenizer: Any, config: Any, name: str, *, causal: bool) -> Callable[[Item], Reading | str]:  # noqa: ANN401
    """Say how an item is read: through the chat template, or by an encoder without one as a pair of texts."""
    pad = config.get_text_config().pad_token_id

    def whole(item: Item) -> Reading:
        tokens, prefix = whole_tokens(tokenizer, item)
        last = max((n for n, token in enumerate(tokens) if token != pad), default=0)
        return Reading(tokens, (last,), prefix if causal else len(tokens))

    def pair(item: Item) -> Reading | str:
        if [m["role"] for m in item.messages] != ["user"]:
            return "the reward model reads one question and one answer, and there are other turns"
        texts = (plain(tokenizer, text) for text in (item.messages[0]["content"], item.response))
        found = tokenizer(*texts)
        second = found.get("token_type_ids", [0] * len(found["input_ids"]))
        return Reading(found["input_ids"], (0,), len(second) - sum(second))

    if tokenizer.chat_template:
        return whole
    if causal:
        found = "its tokenizer has no chat template, so how it reads a conversation is not known"
        raise RewardError(f"{name}: {found}: add chat_template.jinja to a folder with its weights, and name that.")
    return pair


def _context(config: Any, tokenizer: Any) -> int | None:  # noqa: ANN401
    """Tokens that fit: the least of what model and tokenizer say."""
    text = config.get_text_config()
    places = getattr(text, "max_position_embeddings", None)
    if places and text.model_type in _FROM_PAD:
        places -= text.pad_token_id + 1
    limits = [limit for limit in (places, tokenizer.model_max_length) if limit and limit > 0]
    return min(limits) if min(limits, default=NO_LIMIT) < NO_LIMIT else None
