"""Pairs a second: MathVerifier against math-verify called directly, on the same real solutions in the same run.

The mix: whole solutions, each with its own gold answer, and one in five with the gold of another problem of its
corpus: 2,000 of GSM8K train, 500 of GSM8K test, the 100 of OpenMathInstruct-2, the 500 of MATH-500. math-verify is
called as its README says, `verify(parse(gold), parse(response))` with the gold between dollars. Both sides have two
processes in the pass mark: MathVerifier two workers (their start counts), math-verify a pool of two; its figure in
one process, its normal use, is printed beside. Exits 1 where the ratio to one process is below `PASS_RATIO`, or a
disagreement is not explained.

    python benchmarks/math_verification.py [FOLDER]    FOLDER holds corpora/ (default: ../shared)
"""

import json
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fusedata.verify.math_answer import MathVerifier

PASS_RATIO = 20.0
SHARED = Path(os.environ.get("FUSEDATA_SHARED") or Path(__file__).resolve().parents[2] / "shared")
Pair = tuple[str, str]

# (gold, what we read off the response): why the two verifiers disagree. Filled in from runs.
EXPLAINED: dict[Pair, str] = {}


def pairs(shared: Path) -> list[Pair]:
    """The mix, in a fixed order."""
    draw = random.Random(7)
    mix = []
    for solutions, count in (
        (gsm8k(shared / "corpora/math/gsm8k-train.jsonl"), 2000),
        (gsm8k(shared / "corpora/benchmarks/gsm8k-test.jsonl"), 500),
        (rows(shared / "corpora/math/openmathinstruct2-train_1M-first100.jsonl", "expected_answer", "generated_solution"), 100),
        (rows(shared / "corpora/benchmarks/math-500.jsonl", "answer", "solution"), 500),
    ):
        chosen = draw.sample(list(solutions), count)
        golds = [gold for gold, _ in chosen]
        mix += [(draw.choice(golds) if at % 5 == 4 else gold, response) for at, (gold, response) in enumerate(chosen)]
    draw.shuffle(mix)
    return mix


def rows(path: Path, gold: str, response: str) -> Iterator[Pair]:
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row[gold], row[response]


def gsm8k(path: Path) -> Iterator[Pair]:
    for answer, response in rows(path, "answer", "answer"):
        yield answer.split("####")[-1].strip(), response


def ours(mix: list[Pair]) -> list[bool | None]:
    with MathVerifier(workers=2) as verifier:
        verdicts = list(verifier.verify_many(mix))
    READ.update({pair: verdict.extracted for pair, verdict in zip(mix, verdicts, strict=True)})
    return [verdict.passed for verdict in verdicts]


READ: dict[Pair, str | None] = {}


def theirs_of(pair: Pair) -> bool:
    import math_verify

    return bool(math_verify.verify(math_verify.parse(f"${pair[0]}$"), math_verify.parse(pair[1])))


def theirs(mix: list[Pair]) -> list[bool | None]:
    return [theirs_of(pair) for pair in mix]


def theirs_in_two(mix: list[Pair]) -> list[bool | None]:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return list(pool.imap(theirs_of, mix, chunksize=16))


def timed(run: Callable[[list[Pair]], list[bool | None]], mix: list[Pair]) -> tuple[float, list[bool | None]]:
    start = time.perf_counter()
    verdicts = run(mix)
    return len(mix) / (time.perf_counter() - start), verdicts


def disagreements(mix: list[Pair], mine: list[bool | None], other: list[bool | None]) -> int:
    """Print every pair on which the verdicts differ; how many of them are not explained."""
    unexplained = 0
    for pair, left, right in zip(mix, mine, other, strict=True):
        if left is right:
            continue
        reason = EXPLAINED.get((pair[0], READ[pair] or ""))
        unexplained += reason is None
        print(f"  gold {pair[0]!r}, read {READ[pair]!r}: ours {left}, math-verify {right}: {reason or 'NOT EXPLAINED'}")
    return unexplained


def main() -> int:
    logging.disable(logging.CRITICAL)
    mix = pairs(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED)
    theirs(mix[:5])  # its imports and caches, not to be counted
    results = {
        "MathVerifier, 2 workers": timed(ours, mix),
        "math-verify, 1 process": timed(theirs, mix),
        "math-verify, 2 processes": timed(theirs_in_two, mix),
    }
    mine, single = results["MathVerifier, 2 workers"], results["math-verify, 1 process"]
    print(f"{len(mix)} pairs of GSM8K, OpenMathInstruct-2 and MATH-500, one in five with another problem's gold\n")
    print(f"{'verifier':26}{'pairs/s':>10}{'ours is faster by':>20}{'right':>8}{'wrong':>8}{'unjudged':>10}")
    for name, (rate, verdicts) in results.items():
        counts = [verdicts.count(value) for value in (True, False, None)]
        print(f"{name:26}{rate:>10,.0f}{mine[0] / rate:>19.1f}x{counts[0]:>8}{counts[1]:>8}{counts[2]:>10}")
    print("\ndisagreements:")
    unexplained = disagreements(mix, mine[1], single[1])
    ratio = mine[0] / single[0]
    print(f"\nratio to math-verify in 1 process {ratio:.1f} (pass mark {PASS_RATIO:g}), {unexplained} not explained")
    return 0 if ratio >= PASS_RATIO and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
