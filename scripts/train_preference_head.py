"""Train the linear head of the local stand-in reward model, and write down what it is worth.

    python scripts/train_preference_head.py DATA --out recipes/embedded/preference-head

DATA is a folder with dpo_en_demo.json, dpo_zh_demo.json (LLaMA-Factory) and dpo_zh_500.jsonl (MedicalGPT), all
Apache-2.0. One pair in four, by hash of the first user turn, is held out and touched once, at the end. Layer and
strength of the penalty are chosen by five-fold cross-validation on the others. Writes head.json and held-out.json, and
prints the figures that README.md beside them states. Takes about 20 minutes on two cores, nearly all of it hidden
states, which --cache keeps.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from preference_head_scale import Array, calibrate, item, sampled

from fusedata.reward import Item, PreferenceHead
from fusedata.reward.preference_head import DECIMALS, MODEL, WEIGHTS, encode, last_states, load_body, padded
from fusedata.weights import find_weights

FILES = ("dpo_en_demo.json", "dpo_zh_demo.json", "dpo_zh_500.jsonl")
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
LAYERS = (9, 12, 15)
"""Half of the body is as far as cross-validation and the patience of a laptop both reach."""
PENALTIES = (30.0, 100.0, 300.0, 1000.0, 3000.0)
LONGEST = 1024
"""Pairs with a longer side (tokens) are left out: time."""
KNOWN = (
    ("What is 14 + 15?", "14 + 15 = 29"),
    ("What is 14 + 15?", "I like turtles."),
    ("水的化学式是什么", "水的化学式是 H₂O。每个分子由两个氢原子和一个氧原子组成。"),
    ("Name three primary colours.", ""),
)


class Pair(NamedTuple):
    """One preference pair: where it comes from, which part it belongs to, and its two items."""

    file: str
    row: int
    digest: int
    chosen: Item
    rejected: Item


def read_pairs(folder: Path) -> Iterator[Pair]:
    """All pairs, in the order of FILES."""
    for file in FILES:
        text = (folder / file).read_text(encoding="utf-8")
        rows = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
        for number, row in enumerate(rows):
            turns = tuple({"role": ROLES[t["from"]], "content": t["value"]} for t in row["conversations"])
            chosen, rejected = (
                Item(turns, side["value"] if isinstance(side, dict) else side)
                for side in (row["chosen"], row["rejected"])
            )
            yield Pair(file, number, prompt_digest(turns), chosen, rejected)


def prompt_digest(turns: tuple[dict[str, str], ...]) -> int:
    """A number from the first user turn, white space folded: conversations that open alike share a part."""
    first = next(t["content"] for t in turns if t["role"] == "user")
    return int(hashlib.sha256(" ".join(first.split()).encode()).hexdigest()[:8], 16)


def hidden_states(body: Any, tokens: list[tuple[list[int], list[int]]]) -> Array:  # noqa: ANN401
    """Last-token and response-mean states after each of LAYERS: shape (items, layers, 2, hidden size), float64."""
    import torch

    kept: dict[int, Any] = {}
    for layer in LAYERS:
        body.layers[layer - 1].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: kept.update({layer: output})
        )
    found = np.zeros((len(tokens), len(LAYERS), 2, body.config.hidden_size))
    order = sorted(range(len(tokens)), key=lambda i: -sum(map(len, tokens[i])))
    while order:
        size = max(1, 4096 // sum(map(len, tokens[order[0]])))
        batch, order = order[:size], order[size:]
        ids, mask, sizes = padded([tokens[i] for i in batch])
        with torch.inference_mode():
            body(ids, attention_mask=mask, use_cache=False)
        for place, layer in enumerate(LAYERS):
            for row, text in enumerate(batch):
                states = kept[layer][row, len(tokens[text][0]) : sizes[row]].double()
                found[text, place] = torch.stack([states[-1], states.mean(dim=0)]).numpy()
        print(f"\r{len(order)} texts to go  ", end="", file=sys.stderr, flush=True)
    return found


def fit(differences: Array, penalty: float) -> Array:
    """Bradley-Terry with an L2 penalty by Newton's method: weights that put each difference above nought."""
    weights = np.zeros(differences.shape[1])
    for _ in range(50):
        right = 1 / (1 + np.exp(-np.clip(differences @ weights, -30, 30)))
        slope = penalty * weights - differences.T @ (1 - right)
        curve = (differences * (right * (1 - right))[:, None]).T @ differences + penalty * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def cross_validated(differences: Array, folds: Array, penalty: float) -> Array:
    """The margin of each pair under weights that never saw its prompt."""
    margins = np.zeros(len(differences))
    for fold in np.unique(folds):
        margins[folds == fold] = differences[folds == fold] @ fit(differences[folds != fold], penalty)
    return margins


def loss(margins: Array) -> float:
    """Mean negative log-likelihood of the preferences; 0.693 is a coin."""
    return float(np.log1p(np.exp(-margins)).mean())


def accuracy(margins: Array) -> tuple[float, float, float]:
    """Share of pairs ordered rightly, a tie counting half, with Wilson's 95 % interval."""
    n, z = len(margins), 1.959964
    share = float((margins > 0).mean() + (margins == 0).mean() / 2)
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def tell(name: str, margins: Array) -> None:
    share, low, high = accuracy(margins)
    print(f"{name:46} {share:6.1%}  [{low:.1%}, {high:.1%}]  n={len(margins)}")


def best(differences: Array, folds: Array, label: str) -> tuple[float, float]:
    """Loss and penalty of the best penalty by cross-validation; prints it."""
    tries = [(cross_validated(differences, folds, penalty), penalty) for penalty in PENALTIES]
    margins, penalty = min(tries, key=lambda t: loss(t[0]))
    tell(f"  {label}, penalty {penalty:g}, loss {loss(margins):.4f}", margins)
    return loss(margins), penalty


def spread(states: Array) -> Array:
    """The spread of each feature over the texts of pairs, states of shape (pairs, 2, hidden size)."""
    units: Array = states.reshape(-1, states.shape[-1]).std(axis=0) + 1e-9
    return units


def differences(states: Array, units: Array) -> Array:
    """Chosen minus rejected in units of each feature's spread."""
    return (states[:, 0] - states[:, 1]) / units


def all_states(folder: Path, cache: Path | None, body: Any, tokenizer: Any) -> tuple[list[Pair], Array, Array]:  # noqa: ANN401
    """The pairs that are short enough, their states (pairs, 2, layers, 2, hidden size) and response lengths."""
    pairs = list(read_pairs(folder))
    tokens = [[encode(tokenizer, item) for item in (pair.chosen, pair.rejected)] for pair in pairs]
    short = [i for i, sides in enumerate(tokens) if max(len(p) + len(r) for p, r in sides) <= LONGEST]
    print(f"{len(pairs)} pairs, {len(short)} of them with both sides within {LONGEST} tokens")
    if cache and cache.exists():
        states = np.load(cache)["states"].astype(float)
    else:
        states = hidden_states(body, [side for i in short for side in tokens[i]])
        if cache:
            np.savez(cache, states=states.astype(np.float32))
    lengths = np.array([[len(response) for _, response in tokens[i]] for i in short], dtype=float)
    return [pairs[i] for i in short], states.reshape(len(short), 2, *states.shape[1:]), lengths


def choose(states: Array, folds: Array) -> tuple[int, float]:
    """Place of the best layer in LAYERS and its penalty, last token; the mean over the response is shown beside it."""
    print("cross-validation on the training part")
    tried = []
    for place, layer in enumerate(LAYERS):
        last, mean = states[:, :, place, 0], states[:, :, place, 1]
        found, penalty = best(differences(last, spread(last)), folds, f"layer {layer}, last token")
        tried.append((found, place, penalty))
        best(differences(mean, spread(mean)), folds, f"layer {layer}, mean of response")
    _, place, penalty = min(tried)
    return place, penalty


def held_out(moves: Array, longer: Array, test: Array, penalty: float, weights: Array, pairs: list[Pair]) -> None:
    """Print what the head is worth on held-out pairs, beside what length alone is worth.

    `moves` are standardised differences of states, `longer` the logarithm of chosen over rejected length.
    """
    margins, by_length = moves[test] @ weights, longer[test]
    alone = longer[:, None] / longer[~test].std()
    both = np.hstack([moves, alone])
    print("held-out pairs")
    tell("  head", margins)
    tell("  the longer response wins", by_length)
    tell("  Bradley-Terry on length alone", alone[test] @ fit(alone[~test], 1.0))
    tell("  head and length together", both[test] @ fit(both[~test], penalty))
    for file in FILES:
        tell(f"  head, {file}", margins[[p.file == file for p, t in zip(pairs, test, strict=True) if t]])
    tell("  head, where the chosen response is longer", margins[by_length > 0])
    tell("  head, where it is shorter", margins[by_length < 0])
    print(f"  correlation of the head's margin with log length: {np.corrcoef(margins, by_length)[0, 1]:.2f}")
    ahead = (margins > 0).astype(float) - (by_length > 0)
    draws = np.random.default_rng(0).integers(0, len(ahead), (10_000, len(ahead)))
    low, high = np.quantile(ahead[draws].mean(axis=1), [0.025, 0.975])
    print(f"  head ahead of the longer by {ahead.mean():.1%}  [{low:.1%}, {high:.1%}] (paired bootstrap)")


def write_head(file: Path, body: Any, tokenizer: Any, head: dict[str, Any]) -> None:  # noqa: ANN401
    """Write the head with the texts of KNOWN scored by it."""
    items = [item(question, answer) for question, answer in KNOWN]
    scores = last_states(body, [encode(tokenizer, item) for item in items]).numpy() @ head["vector"] + head["bias"]
    known = [
        {"messages": item.messages, "response": item.response, "score": round(float(score), DECIMALS)}
        for item, score in zip(items, scores, strict=True)
    ]
    text = json.dumps({**head, "self_test": known}, ensure_ascii=False, separators=(",\n", ": "))
    file.write_text(text + "\n", encoding="utf-8")


def write_held_out(file: Path, pairs: list[Pair], scores: Array) -> None:
    """Write the score of both sides of each held-out pair, one pair a line, with where the pair comes from."""
    rows = [
        {"file": pair.file, "row": pair.row, "chosen": round(float(a), DECIMALS), "rejected": round(float(b), DECIMALS)}
        for pair, (a, b) in zip(pairs, scores, strict=True)
    ]
    file.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


def main() -> None:
    """Train, judge, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with " + ", ".join(FILES))
    parser.add_argument("--out", type=Path, required=True, help="folder for head.json and held-out.json")
    parser.add_argument("--weights", default=WEIGHTS, help="the body: see fusedata.weights")
    parser.add_argument("--cache", type=Path, help="file that keeps the hidden states between runs")
    options = parser.parse_args()
    found = find_weights(MODEL, options.weights)
    tokenizer, body = load_body(found, max(LAYERS), "cpu", "float32")
    pairs, states, lengths = all_states(options.data, options.cache, body, tokenizer)
    digests = np.array([pair.digest for pair in pairs])
    test, folds = digests % 4 == 0, digests // 4 % 5
    place, penalty = choose(states[~test], folds[~test])
    last = states[:, :, place, 0]
    units = spread(last[~test])
    moves, longer = differences(last, units), np.log(lengths[:, 0] / lengths[:, 1])
    weights = fit(moves[~test], penalty)
    held_out(moves, longer, test, penalty, weights, pairs)

    body.layers = body.layers[: LAYERS[place]]
    scale, bias = calibrate(*sampled(options.weights, body, tokenizer, weights / units))
    vector = [float(f"{x:.7g}") for x in weights / units * scale]
    options.out.mkdir(parents=True, exist_ok=True)
    head = {"layer": LAYERS[place], "weights": found.revision, "bias": bias, "vector": vector}
    write_head(options.out / "head.json", body, tokenizer, head)
    kept = [pair for pair, held in zip(pairs, test, strict=True) if held]
    write_held_out(options.out / "held-out.json", kept, last[test] @ vector + bias)
    PreferenceHead(weights=options.weights, head=options.out / "head.json").load()


if __name__ == "__main__":
    main()
