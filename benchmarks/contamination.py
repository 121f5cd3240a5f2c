"""60,000 prompts held against benchmarks as large as those of the method, beside a floor in the same run.

The floor does what no search can do without: it normalises each prompt, cuts it into words and hashes every n-gram of
them, in one thread. Benchmarks and prompts are made up of a vocabulary with the frequencies of natural text (Zipf), so
that no file is needed; sizes are those of the real ones: 22,000 texts of 90 words, 60,000 prompts of 110 words, one
prompt in a hundred with a planted part of a benchmark. Exits with 1 if the search takes more than 3 times the floor,
misses a planted part, or finds one in other prompts.
"""

import resource
import sys
import time

import numpy as np

from fusedata.contamination.normalise import tokens
from fusedata.contamination.overlap import Index, Item

ITEMS, ITEM_WORDS = 22_000, 90
PROMPTS, PROMPT_WORDS = 60_000, 110
WORDS, PLANTED_EVERY, PLANTED_WORDS = 13, 100, 30
MOST = 3.0


def texts(random: np.random.Generator, count: int, words: int) -> list[str]:
    """Give texts of made-up words, as often as words are in natural text."""
    letters = "etaoinshrdlucmfw"
    vocabulary = ["".join(letters[(n >> 4 * k) & 15] for k in range(4)) for n in range(40_000)]
    chosen = random.zipf(1.2, size=(count, words)) % len(vocabulary)
    return [f"{' '.join(vocabulary[n] for n in row).capitalize()}." for row in chosen]


def floor(prompts: list[str]) -> int:
    """Normalise, cut and hash: what any search over n-grams has to do at least."""
    grams = 0
    for prompt in prompts:
        words = tokens(prompt).words
        grams += len({hash(" ".join(words[n : n + WORDS])) for n in range(len(words) - WORDS + 1)})
    return grams


def main() -> int:
    """Print rates, ratio and memory; give the exit code."""
    random = np.random.default_rng(5)
    items = [Item(f"bench-{n % 15}", str(n), text) for n, text in enumerate(texts(random, ITEMS, ITEM_WORDS))]
    prompts = texts(random, PROMPTS, PROMPT_WORDS)
    planted = set(range(0, PROMPTS, PLANTED_EVERY))
    for n in planted:
        part = items[n % ITEMS].text.split()[20 : 20 + PLANTED_WORDS]
        prompts[n] = f"{prompts[n]} {' '.join(part).upper()}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    index = Index(items)
    built = time.perf_counter()
    found = {n for n, prompt in enumerate(prompts) if index.find(prompt)}
    searched = time.perf_counter()
    floor(prompts)
    least = time.perf_counter() - searched
    took, memory = searched - built, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"index of {len(index):,} texts: {built - started:.1f} s, {memory / 1024:,.0f} MB")
    print(f"{PROMPTS:,} prompts searched: {took:.1f} s ({PROMPTS / took:,.0f}/s)")
    print(f"floor: {least:.1f} s; ratio {took / least:.2f}, at most {MOST}")
    missed, wrong = planted - found, found - planted
    print(f"planted {len(planted):,}: missed {len(missed):,}, found elsewhere {len(wrong):,}")
    return int(took > MOST * least or bool(missed) or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
