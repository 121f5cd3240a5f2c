"""How many times as fast rewards come in passes by token budget as in fixed-size padded batches.

    python benchmarks/reward_throughput.py [--responses N] [--shared FOLDER]

The peer is what reward scripts commonly do: 16 conversations at a time in the order they come, padded to the longest,
through the same body in float32 (SmolLM2-135M-Instruct; a third of its blocks, since the ratio does not change with
depth). Both sides read the same conversations: answers of one model to real prompts (Arena-Hard, of which FOLDER holds
500 with their answers), or, with `--samples`, of several models to each. Processor time of one thread is compared, so
that other work on the machine does not count. Passes when the scores agree and ours takes at most half the time.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fusedata.profile import RewardHost
from fusedata.reward.chat import Reading
from fusedata.reward.passes import Passes, Row, last_hidden, shares_prompts
from fusedata.reward.preference_head import MODEL, WEIGHTS, encode, load_body
from fusedata.reward.protocol import Item
from fusedata.weights import find_weights

ANSWERS = "arena-hard-answer-*.jsonl"
BATCH, LAYERS, RATIO, EQUAL = 16, 10, 2.0, 1e-3
"""EQUAL is for scores of some units: the head here is random, and not on ArmoRM's scale."""
SHARED = Path(os.environ.get("FUSEDATA_SHARED", Path(__file__).parents[2] / "shared"))


def conversations(folder: Path, count: int, samples: int) -> list[Item]:
    """Real answers to real prompts: `samples` to each, one after the other."""
    items = []
    for file in sorted(folder.glob(ANSWERS))[:samples]:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        turns = [row["messages"] for row in rows]
        items += [Item(({"role": "user", "content": t[0]["content"]},), t[1]["content"]["answer"]) for t in turns]
    by_prompt: dict[str, list[Item]] = {}
    for item in items:
        by_prompt.setdefault(item.messages[0]["content"], []).append(item)
    prompts = random.Random(7).sample(sorted(by_prompt), count // samples)
    return [item for prompt in prompts for item in by_prompt[prompt]]


def main() -> int:
    """Measure both in turn, print the ratio and the largest difference of a score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--shared", type=Path, default=SHARED)
    arguments = parser.parse_args()
    folder = arguments.shared / "corpora" / "preference"
    items = conversations(folder, arguments.responses, arguments.samples)
    return compare(items)


def compare(items: list[Item]) -> int:
    """Score the items both ways."""
    import torch

    tokenizer, body = load_body(find_weights(MODEL, WEIGHTS), LAYERS, "cpu", "float32")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    head = torch.randn(body.config.hidden_size) / 8
    pairs = [encode(tokenizer, item) for item in items]
    readings = [Reading(p + r, (len(p) + len(r) - 1,), len(p)) for p, r in pairs]
    readings = [reading for reading in readings if len(reading.tokens) <= 2500]

    def naive() -> list[float]:
        found: list[float] = []
        for start in range(0, len(readings), BATCH):
            batch = readings[start : start + BATCH]
            width = max(len(reading.tokens) for reading in batch)
            tokens = torch.tensor([reading.tokens + [0] * (width - len(reading.tokens)) for reading in batch])
            mask = torch.tensor([[1] * len(r.tokens) + [0] * (width - len(r.tokens)) for r in batch])
            with torch.inference_mode():
                states = body(tokens, attention_mask=mask, use_cache=False).last_hidden_state
            last = torch.tensor([len(reading.tokens) - 1 for reading in batch])
            found += (states[torch.arange(len(batch)), last] @ head).tolist()
        return found

    def forward(group: Sequence[Row]) -> list[float]:
        return list((last_hidden(body, group)[:, 0] @ head).tolist())

    passes = Passes(forward, RewardHost().batch_tokens, "cpu", share=shares_prompts(body))
    passes.scores(readings[:2])  # the first pass allocates
    theirs, slow = timed(naive)
    ours, fast = timed(lambda: passes.scores(readings))
    return report([len(reading.tokens) for reading in readings], slow, fast, theirs, ours)


def timed(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """Give what `work` gives, and the seconds of processor time it took."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def report(sizes: list[int], slow: float, fast: float, theirs: list[float], ours: list[float]) -> int:
    """Print what was found; 1 where it misses the aim."""
    spread, ratio = max(theirs) - min(theirs), slow / fast
    off = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
    print(f"{len(sizes)} conversations of {min(sizes)} to {max(sizes)} tokens, {sum(sizes)} in all")
    print(f"batches of {BATCH} as they come: {slow:.1f} s ({sum(sizes) / slow:.0f} tokens a second)")
    print(f"passes by token budget:  {fast:.1f} s ({sum(sizes) / fast:.0f} tokens a second)")
    print(f"ratio {ratio:.2f} (aim {RATIO}), largest difference of a score {off:.6f} (aim {EQUAL}) of {spread:.0f}")
    return int(ratio < RATIO or off > EQUAL)


if __name__ == "__main__":
    sys.exit(main())
