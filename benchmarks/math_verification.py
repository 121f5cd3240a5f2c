"""Pairs a second: MathVerifier against math-verify called directly, on the same real solutions in the same run.

The mix: whole solutions, each with its own gold answer, and one in five with the gold of another problem of its
corpus: all of GSM8K (train and test), the 100 of OpenMathInstruct-2, MATH-500 twice. math-verify is called as
its README says, `verify(parse(gold), parse(response))` with the gold between dollars, in one process (its normal use,
which the pass mark is set on) and in a pool of two, after its import; MathVerifier has its fast path in one process
and up to two workers, and their start counts. Each corpus is timed apart, too. Exits 1 where the ratio on the whole
mix is below `PASS_RATIO`, or a disagreement is not explained.

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

EXPLAINED = "math-verify takes the number after the word 'answer' (or in 'answered') for the one after ####"


def pairs(shared: Path) -> dict[str, list[Pair]]:
    """The corpora, each in a fixed order."""
    draw = random.Random(7)
    train, test = shared / "corpora/math/gsm8k-train.jsonl", shared / "corpora/benchmarks/gsm8k-test.jsonl"
    open_math = shared / "corpora/math/openmathinstruct2-train_1M-first100.jsonl"
    corpora = {
        "GSM8K": [*gsm8k(train), *gsm8k(test)],
        "OpenMathInstruct-2": list(rows(open_math, "expected_answer", "generated_solution")),
        "MATH-500": list(rows(shared / "corpora/benchmarks/math-500.jsonl", "answer", "solution")) * 2,
    }
    for name, chosen in corpora.items():
        golds = [gold for gold, _ in chosen]
        crossed = [(draw.choice(golds) if at % 5 == 4 else gold, text) for at, (gold, text) in enumerate(chosen)]
        corpora[name] = draw.sample(crossed, len(crossed))
    return corpora


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
        marked = pair[1].rpartition("####")[2].strip()
        explained = "answer" in pair[1].lower() and READ[pair] == marked
        unexplained += not explained
        reason = EXPLAINED if explained else "NOT EXPLAINED"
        print(f"  gold {pair[0]!r}, read {READ[pair]!r}: ours {left}, math-verify {right}: {reason}")
    return unexplained


def main() -> int:
    logging.disable(logging.CRITICAL)
    corpora = pairs(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED)
    mix = [pair for chosen in corpora.values() for pair in chosen]
    random.Random(8).shuffle(mix)
    theirs(mix[:5])  # its import and caches, not to be counted
    results = {
        "MathVerifier, 2 workers": timed(ours, mix),
        "math-verify, 1 process": timed(theirs, mix),
        "math-verify, 2 processes": timed(theirs_in_two, mix),
    }
    mine, single = results["MathVerifier, 2 workers"], results["math-verify, 1 process"]
    print(f"{len(mix)} whole solutions, one in five with another problem's gold\n")
    print(f"{'verifier':26}{'pairs/s':>10}{'ours is faster by':>20}{'right':>8}{'wrong':>8}{'unjudged':>10}")
    for name, (rate, verdicts) in results.items():
        counts = [verdicts.count(value) for value in (True, False, None)]
        print(f"{name:26}{rate:>10,.0f}{mine[0] / rate:>19.1f}x{counts[0]:>8}{counts[1]:>8}{counts[2]:>10}")
    print(f"\n{'corpus':26}{'pairs':>10}{'ours, pairs/s':>20}{'math-verify':>18}{'ratio':>9}")
    for name, chosen in corpora.items():
        rates = timed(ours, chosen)[0], timed(theirs, chosen)[0]
        print(f"{name:26}{len(chosen):>10}{rates[0]:>20,.0f}{rates[1]:>18,.0f}{rates[0] / rates[1]:>8.1f}x")
    print("\ndisagreements:")
    unexplained = disagreements(mix, mine[1], single[1])
    ratio = mine[0] / single[0]
    print(f"\nratio to math-verify in 1 process {ratio:.1f} (pass mark {PASS_RATIO:g}), {unexplained} not explained")
    return 0 if ratio >= PASS_RATIO and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
