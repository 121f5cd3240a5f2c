"""60,000 prompts held against benchmarks as large as those of the method, beside a floor in the same run.

The floor does what no search can do without: it normalises each prompt, cuts it into words and hashes every n-gram of
them, in one thread. Benchmarks and prompts are made up of a vocabulary with the frequencies of natural text (Zipf), so
that no file is needed; sizes are those of the real ones: 22,000 texts of 90 words, 60,000 prompts of 110 words, one
prompt in a hundred with a planted part of a benchmark. Exits with 1 if the search takes more than 3 times the floor,
misses a planted part, or finds one in other prompts.

    python benchmarks/contamination.py [FOLDER]

FOLDER holds real benchmarks, in a hub's layout or by the names that `fusedata.contamination.benchmarks` lists: then it
is told of each how many parts of PART_WORDS words of its items are found inside other text.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np

from fusedata.contamination.normalise import tokens
from fusedata.contamination.overlap import Index, Item
from fusedata.contamination.sources import Places, find_benchmarks, read_items

ITEMS, ITEM_WORDS = 22_000, 90
PROMPTS, PROMPT_WORDS = 60_000, 110
WORDS, PLANTED_EVERY, PLANTED_WORDS = 13, 100, 30
PART_WORDS = 26
MOST = 3.0


def texts(random: np.random.Generator, count: int, words: int) -> list[str]:
    """Give texts of made-up words, as often as words are in natural text."""
    letters = "etaoinshrdlucmfw"
    vocabulary = ["".join(letters[(n >> 4 * k) & 15] for k in range(4)) for n in range(40_000)]
    chosen = random.zipf(1.2, size=(count, words)) % len(vocabulary)
    return [f"{' '.join(vocabulary[n] for n in row).capitalize()}." for row in chosen]


def tell_real(folder: Path) -> None:
    """Print the share of parts of real items that are found inside other text."""
    items, shelf = read_items(find_benchmarks((), Places(folder)))
    index = Index(items, words=WORDS)
    for name in shelf.revisions():
        said = [tokens(item.text).words for item in items if item.benchmark == name]
        parts = [
            " ".join(words[at : at + PART_WORDS])
            for words in said
            for at in range(0, len(words) - PART_WORDS + 1, PART_WORDS // 2)
        ]
        found = sum(index.find(f"Remember this: {part} and so on.") is not None for part in parts)
        print(f"{name}: {found / max(len(parts), 1):.1%} of {len(parts):,} parts of {PART_WORDS} words found")


def floor(prompts: list[str]) -> int:
    """Normalise, cut and hash: what any search over n-grams has to do at least."""
    grams = 0
    for prompt in prompts:
        words = tokens(prompt).words
        grams += len({hash(" ".join(words[n : n + WORDS])) for n in range(len(words) - WORDS + 1)})
    return grams


def main() -> int:
    """Print rates, ratio and memory; give the exit code."""
    for folder in sys.argv[1:2]:
        tell_real(Path(folder))
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
