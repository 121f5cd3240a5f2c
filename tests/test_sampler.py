"""The transformers engine's own sampler, against the rules of vLLM's parameters written out one by one."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.recipe import SourceModel

torch = pytest.importorskip("torch")

from fusedata.sample.transformers_chat import Sampler  # noqa: E402

pytestmark = pytest.mark.model
VOCABULARY = 12


def expected(model: SourceModel, logits: list[float], prompt: list[int], answer: list[int], draw: float) -> int:
    """The token that `draw` in [0, 1) falls on, by the textbook."""
    for token in set(prompt + answer):
        penalty = model.repetition_penalty
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    for token in set(answer):
        logits[token] -= answer.count(token) * (model.frequency_penalty or 0) + (model.presence_penalty or 0)
    if model.temperature == 0:
        return max(range(VOCABULARY), key=lambda t: logits[t])
    weights = {t: math.exp(x / model.temperature) for t, x in enumerate(logits)}
    ranked = sorted(weights, key=lambda t: -weights[t])
    ranked = [t for t in ranked if weights[t] >= (model.min_p or 0) * weights[ranked[0]]][: model.top_k]
    kept, total = [], sum(weights[t] for t in ranked)
    for token in ranked:
        kept.append(token)
        if sum(weights[t] for t in kept) >= model.top_p * total:
            break
    reached = 0.0
    for token in kept:
        reached += weights[token]
        if draw * sum(weights[t] for t in kept) < reached:
            return token
    return kept[-1]


TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    prompt=TOKENS,
    answer=TOKENS,
    padding=st.integers(0, 2),
    sampling=st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.3, 0.8, 1.7]),
            "top_p": st.sampled_from([0.5, 0.95, 1.0]),
            "top_k": st.sampled_from([None, 1, 3]),
            "min_p": st.sampled_from([None, 0.1, 0.6]),
            "repetition_penalty": st.sampled_from([1.0, 1.05, 2.0]),
            "presence_penalty": st.sampled_from([None, 0.7]),
            "frequency_penalty": st.sampled_from([None, 0.9, -0.4]),
        }
    ),
)
def test_the_token_drawn_is_the_one_of_the_rules_written_out(seed, prompt, answer, padding, sampling):
    model = SourceModel(id="m", **sampling)
    numbers = random.Random(seed)
    logits = [numbers.gauss(0, 2) for _ in range(VOCABULARY)]
    logits = torch.tensor(logits, dtype=torch.float32).tolist()
    mask = torch.tensor([[0] * padding + [1] * len(prompt)])
    sampler = Sampler(model, [seed], mask)
    tokens = torch.tensor([[VOCABULARY - 1] * padding + prompt + answer])
    drawn = sampler(tokens, torch.tensor([logits])).argmax().item()
    assert drawn == expected(model, logits, prompt, answer, random.Random(seed).random())
