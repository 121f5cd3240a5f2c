"""Put the raw scores of the preference head on ArmoRM's scale: a part of train_preference_head.py.

SmolLM2 answers one-step sums the way the local build samples them, four times each; the scores of those answers set
the scale (how far apart four answers to one question lie) and the shift (what a right answer scores).
"""

import random
import re
from typing import Any

import numpy as np

from fusedata.reward import Item
from fusedata.reward.preference_head import encode, last_states
from fusedata.weights import find_weights, load_arguments

TYPICAL_GAP, GOOD_ANSWER = 0.04, 0.15
"""ArmoRM's scale: a good answer scores 0.1 to 0.2, and a gap of 0.01 to 0.1 is a usable one."""
SEED, ASKED = 7, 80

Array = np.ndarray[Any, np.dtype[Any]]


def questions(seed: int, count: int) -> list[tuple[str, int]]:
    """One-step sums in the manner of the embedded corpus, each with its answer."""
    draw, made = random.Random(seed), []
    for _ in range(count):
        a, b = draw.randint(2, 20), draw.randint(2, 20)
        made.append(
            draw.choice(
                [
                    (f"What is {a} + {b}?", a + b),
                    (f"What is {a + b} - {a}?", b),
                    (f"Tom has {a} apples and buys {b} more. How many apples does he have?", a + b),
                    (f"A box holds {a + b} pens. {a} are taken out. How many pens are left?", b),
                ]
            )
        )
    return made


def sample_answers(weights: str, asked: list[tuple[str, int]], seed: int) -> list[list[str]]:
    """Four answers a question as the local build samples them: temperature 0.8, top-p 0.95, 48 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = find_weights("SmolLM2", weights)
    tokenizer = AutoTokenizer.from_pretrained(found.source, **found.arguments, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(found.source, dtype=torch.float32, **load_arguments(found))
    torch.manual_seed(seed)
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
        for q, _ in asked
        for _ in range(4)
    ]
    answers: list[str] = []
    for start in range(0, len(texts), 64):
        batch = texts[start : start + 64]
        inputs = tokenizer(batch, add_special_tokens=False, return_tensors="pt", padding=True)
        output = model.generate(**inputs, do_sample=True, temperature=0.8, top_p=0.95, max_new_tokens=48)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [answers[i : i + 4] for i in range(0, len(answers), 4)]


def says(answer: str, gold: int) -> bool:
    """Whether the last whole number of the text is the gold answer: crude, enough to describe a scale."""
    numbers = re.findall(r"-?\d+", answer.replace(",", ""))
    return bool(numbers) and int(numbers[-1]) == gold


def calibrate(raw: Array, right: Array) -> tuple[float, float]:
    """Scale and shift that put raw scores of four answers a question, shape (questions, 4), on ArmoRM's scale."""
    scale = TYPICAL_GAP / float(np.median(np.ptp(raw, axis=1)))
    shift = GOOD_ANSWER - scale * float(np.median(raw[right]))
    scores = raw * scale + shift
    mixed = right.any(axis=1) & ~right.all(axis=1)
    gaps = np.where(right, scores, -np.inf).max(axis=1)[mixed] - np.where(right, np.inf, scores).min(axis=1)[mixed]
    usable = ((gaps >= 0.01) & (gaps <= 0.1)).mean()
    spread = np.ptp(scores, axis=1)
    print(
        f"calibration: {len(raw)} questions, {right.mean():.0%} of answers right, {mixed.mean():.0%} of questions mixed"
    )
    print(f"  best minus worst of four, quantiles 5 25 50 75 95 %: {_quantiles(spread)}")
    print(f"  best right minus worst wrong where mixed: {_quantiles(gaps)}; within 0.01 to 0.1: {usable:.0%}")
    print(f"  right answers: {_quantiles(scores[right])}; wrong: {_quantiles(scores[~right])}")
    print(f"  mean right minus mean wrong where mixed: {_contrast(scores[mixed], right[mixed]):.4f}")
    return scale, shift


def _contrast(scores: Array, right: Array) -> float:
    return float(np.mean([s[r].mean() - s[~r].mean() for s, r in zip(scores, right, strict=True)]))


def _quantiles(values: Array) -> str:
    return " ".join(f"{q:.3f}" for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))


def sampled(weights: str, body: Any, tokenizer: Any, vector: Array) -> tuple[Array, Array]:  # noqa: ANN401
    """Raw scores of four sampled answers a question and whether each is right: both of shape (questions, 4)."""
    asked = questions(SEED, ASKED)
    answers = sample_answers(weights, asked, SEED)
    items = [[item(question, answer) for answer in four] for (question, _), four in zip(asked, answers, strict=True)]
    states = [last_states(body, [encode(tokenizer, one) for one in four]).numpy() for four in items]
    right = [[says(answer, gold) for answer in four] for (_, gold), four in zip(asked, answers, strict=True)]
    return np.stack(states) @ vector, np.array(right)


def item(question: str, answer: str) -> Item:
    return Item(({"role": "user", "content": question},), answer)
