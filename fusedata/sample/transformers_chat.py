"""A chat model loaded by transformers, and how a batch of requests is answered: imports torch when it is used."""

import random
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from fusedata.errors import EngineError, MissingExtraError
from fusedata.profile import TransformersEngine as Host
from fusedata.quiet import quiet_loading
from fusedata.recipe import SourceModel
from fusedata.sample.protocol import Completion, Group, Request
from fusedata.store import first_line
from fusedata.weights import Weights, load_arguments

SAMPLER = "1"
"""Version of how prompts are read and tokens drawn here: raised when a seed no longer gives the same text."""


class Chat:
    """A loaded model with its tokenizer. Raises EngineError where it cannot be loaded."""

    def __init__(self, model: SourceModel, host: Host, weights: Weights) -> None:
        """Load `weights` for `model`, as `host` says."""
        self._model = model
        try:
            self._load(host, weights)
        except ImportError as error:
            raise MissingExtraError("local", "The transformers engine") from error
        except Exception as error:  # whatever a damaged file makes foreign code raise
            raise EngineError(
                f"{model.id}: transformers cannot load {weights.source} ({first_line(error)})."
            ) from error

    def _load(self, host: Host, weights: Weights) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        with quiet_loading():
            self._tokenizer = AutoTokenizer.from_pretrained(weights.source, **weights.arguments)
            loaded = AutoModelForCausalLM.from_pretrained(
                weights.source, dtype=getattr(torch, host.dtype), **load_arguments(weights)
            )
        self._network = loaded.eval().to(host.device)
        stops = self._network.generation_config.eos_token_id or self._tokenizer.eos_token_id
        self._stops = stops if isinstance(stops, list) else [stops]
        self._context = int(self._network.config.max_position_embeddings)
        # The model's own generation_config would fill in what a recipe leaves out: only its stop tokens are kept.
        self._network.generation_config = GenerationConfig(eos_token_id=self._stops, pad_token_id=self._stops[0])
        if self._tokenizer.chat_template is None:
            raise ValueError("it has no chat template: take an instruct model")

    def answer(self, batch: Sequence[Request]) -> Group:
        """Answer one batch, in order; a prompt that leaves the model no room becomes an error."""
        read = [self._read(request) for request in batch]
        prompts = {i: tokens for i, tokens in enumerate(read) if not isinstance(tokens, Completion)}
        completions = {i: completion for i, completion in enumerate(read) if isinstance(completion, Completion)}
        for together in self._with_equal_room(prompts):
            answers = self._generate([prompts[i] for i in together], [batch[i].seed for i in together])
            for i, answer in zip(together, answers, strict=True):
                completions[i] = self._completion(prompts[i], answer)
        return [(request, completions[i]) for i, request in enumerate(batch)]

    def _read(self, request: Request) -> list[int] | Completion:
        """Give the tokens of a prompt, or why it cannot be asked."""
        messages = list(request.messages)
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            return Completion(None, "error", error=f"the chat template refuses the prompt ({first_line(error)})")
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        if len(tokens) < self._context:
            return tokens
        reason = f"the prompt has {len(tokens)} tokens, and the model's context is {self._context}"
        return Completion(None, "too_long", len(tokens), error=reason)

    def _with_equal_room(self, prompts: dict[int, list[int]]) -> list[list[int]]:
        """Group prompts that may run together: those with room for a whole answer; the others each alone."""
        roomy = [i for i, tokens in prompts.items() if len(tokens) + self._model.max_tokens <= self._context]
        return ([roomy] if roomy else []) + [[i] for i in prompts if i not in set(roomy)]

    def _generate(self, prompts: list[list[int]], seeds: list[int]) -> list[list[int]]:
        """Sample one continuation a prompt, padded on the left: the tokens after the prompt. Raises EngineError."""
        try:
            return self._continued(prompts, seeds)
        except (RuntimeError, ValueError, IndexError) as error:
            remedy = "a smaller batch_size in the profile takes less memory"
            raise EngineError(f"{self._model.id}: transformers broke down ({first_line(error)}); {remedy}.") from error

    def _continued(self, prompts: list[list[int]], seeds: list[int]) -> list[list[int]]:
        import torch

        width = max(map(len, prompts))
        tokens = torch.tensor([[self._stops[0]] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            output = self._network.generate(
                input_ids=tokens.to(self._network.device),
                attention_mask=mask.to(self._network.device),
                logits_processor=[Sampler(self._model, seeds, mask.to(self._network.device))],
                max_new_tokens=min(self._model.max_tokens, self._context - width),
                do_sample=False,
            )
        generated: list[list[int]] = output[:, width:].tolist()
        return generated

    def _completion(self, prompt: list[int], answer: list[int]) -> Completion:
        end = next((i for i, token in enumerate(answer) if token in self._stops), None)
        kept = answer if end is None else answer[: end + 1]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Completion(text, "length" if end is None else "stop", len(prompt), len(kept))


class Sampler:
    """A logits processor that draws each row's next token from a random stream of its own.

    As vLLM does it: penalties (repetition over prompt and answer, frequency and presence over the answer), temperature,
    min-p, top-k, then top-p of what those leave; the drawn token is left as the only possible one, so that greedy
    decoding takes it. Temperature 0 is greedy.
    """

    def __init__(self, model: SourceModel, seeds: Sequence[int], mask: Any) -> None:  # noqa: ANN401
        """Sample like `model` says; `mask` (rows, prompt tokens) is 0 where a row is padded."""
        self._model, self._mask = model, mask
        self._streams = [random.Random(seed) for seed in seeds]  # noqa: S311

    def __call__(self, tokens: Any, logits: Any) -> Any:  # noqa: ANN401
        """Take tokens (rows, length) and logits (rows, vocabulary); give logits with one finite entry a row."""
        import torch

        logits = self._penalised(tokens, logits.float())
        draws = torch.tensor([stream.random() for stream in self._streams], dtype=torch.float64)
        if self._model.temperature == 0:
            return logits
        ordered, order = torch.sort(logits / self._model.temperature, dim=-1, descending=True, stable=True)
        chances = torch.softmax(ordered.double(), dim=-1)
        sums = chances.cumsum(dim=-1)
        last = self._last(chances)
        # the last rank within top-p, which is a share of what min-p and top-k leave
        share = self._model.top_p * sums.gather(1, last[:, None])
        last = torch.minimum((sums < share).sum(dim=-1), last)
        total = sums.gather(1, last[:, None])
        rank = torch.searchsorted(sums, draws[:, None].to(sums.device) * total, right=True)
        chosen = order.gather(1, torch.minimum(rank, last[:, None]))
        return torch.full_like(logits, float("-inf")).scatter(1, chosen, 0.0)

    def _last(self, chances: Any) -> Any:  # noqa: ANN401
        """Take sorted probabilities (rows, vocabulary); give each row's last rank within min-p and top-k."""
        kept = (chances >= (self._model.min_p or 0.0) * chances[:, :1]).sum(dim=-1)
        return kept.clamp(max=self._model.top_k or chances.shape[-1]) - 1

    def _penalised(self, tokens: Any, logits: Any) -> Any:  # noqa: ANN401
        import torch

        model, width = self._model, self._mask.shape[1]
        if model.repetition_penalty != 1:
            real = torch.nn.functional.pad(self._mask, (0, tokens.shape[1] - width), value=1)
            seen = torch.zeros_like(logits).scatter_add(1, tokens, real.to(logits.dtype)) > 0
            penalised = torch.where(logits > 0, logits / model.repetition_penalty, logits * model.repetition_penalty)
            logits = torch.where(seen, penalised, logits)
        if model.frequency_penalty or model.presence_penalty:
            answer = tokens[:, width:]
            counts = torch.zeros_like(logits).scatter_add(1, answer, torch.ones_like(answer, dtype=logits.dtype))
            logits = logits - counts * (model.frequency_penalty or 0.0) - (counts > 0) * (model.presence_penalty or 0.0)
        return logits
