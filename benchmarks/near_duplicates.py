"""Near-duplicate search over generated prompts with planted near duplicates: time, recall, precision, memory.

The prompts: real ones of English and Chinese (`FOLDER`) are cut into sentences, and each generated prompt is two to six
sentences of them at random with the numbers changed, one in five Chinese. One prompt in twenty is a planted near
duplicate: an earlier prompt with one edit (a word replaced, added or left out, punctuation or letter case changed, or
words added at the end). What counts is judged by exact Jaccard similarity of the shingles, worked out here by plain
Python sets of strings, not by the code under test: a planted pair at or above the threshold should be found (recall),
and what is dropped should have an earlier prompt as similar (precision).

Beside it in the same run, on a part of the prompts: merely splitting and hashing the shingles (the floor), and
datasketch, if it is installed, doing MinHash LSH of the same bands without the exact check. Exits 1 where the search of
600,000 prompts takes more than `PASS_SECONDS` (in proportion for fewer), recall or precision miss their marks, or the
memory is more than `PASS_MB`.

    python benchmarks/near_duplicates.py FOLDER [--prompts N]
"""

import argparse
import importlib.util
import json
import random
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from fusedata.collect.filters import near_duplicates
from fusedata.texts.similar import NearDuplicates, shingles
from fusedata.texts.words import is_cjk, words

THRESHOLD = 0.8
PASS_SECONDS = 600
PASS_RECALL, PASS_PRECISION = 0.98, 0.99
PASS_MB = 2_500
PEER_PROMPTS = 5_000
BATCH = 20_000


class Planted(NamedTuple):
    place: int
    of: int


def sentences(folder: Path) -> tuple[list[str], list[str]]:
    english = [json.loads(line)["question"] for line in (folder / "math/gsm8k-train.jsonl").open()]
    english += [json.loads(line)["prompt"] for line in (folder / "preference/arena-hard-question.jsonl").open()]
    chinese = [
        row["instruction"] + row["output"]
        for row in json.loads((folder / "instructions/alpaca_zh_demo.json").read_text())
    ]
    split = re.compile(r"(?<=[.?!。？！])\s*")  # noqa: RUF001 - Chinese punctuation
    return tuple([s for text in texts for s in split.split(text) if 15 < len(s) < 200] for texts in (english, chinese))  # type: ignore[return-value]


def changed(sentence: str, dice: random.Random) -> str:
    return re.sub(r"\d+", lambda _: str(dice.randrange(2, 900)), sentence)


def edited(text: str, dice: random.Random) -> str:
    parts = text.split(" ") if " " in text else list(text)
    place = dice.randrange(len(parts))
    match dice.randrange(5):
        case 0:
            parts[place] = "several"
        case 1:
            parts.insert(place, "also")
        case 2:
            del parts[place]
        case 3:
            return text.upper().replace(",", " ,").replace(".", "!")
        case _:
            return f"{text} Explain it step by step."
    return (" " if " " in text else "").join(parts)


def generated(folder: Path, count: int) -> tuple[list[str], list[Planted]]:
    dice = random.Random(7)
    english, chinese = sentences(folder)
    texts: list[str] = []
    planted = []
    for place in range(count):
        if place > 100 and dice.random() < 0.05:
            of = dice.randrange(place)
            planted.append(Planted(place, of))
            texts.append(edited(texts[of], dice))
        else:
            pool = chinese if dice.random() < 0.2 else english
            own = [changed(sentence, dice) for sentence in dice.choices(pool, k=dice.randrange(2, 7))]
            texts.append(" ".join(own))
    return texts, planted


def string_shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    size = min(5 if is_cjk(found) else 3, len(found))
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)} if size else set()


def similarity(a: str, b: str) -> float:
    one, other = string_shingles(a), string_shingles(b)
    return len(one & other) / max(len(one | other), 1)


def searched(texts: list[str]) -> tuple[dict[int, int], float]:
    """Search as a build does; give what each dropped prompt resembles, and the seconds."""
    frame = pl.DataFrame({"prompt_id": [str(place) for place in range(len(texts))], "text": texts})
    search = near_duplicates(THRESHOLD)
    start = time.perf_counter()
    found = pl.concat([search(batch) for batch in frame.iter_slices(BATCH)])
    seconds = time.perf_counter() - start
    details = enumerate(found["detail"])
    return {place: int(detail.rpartition(" ")[2]) for place, detail in details if detail}, seconds


def datasketch_rate(texts: list[str]) -> float:
    from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - a peer that need not be there

    like = NearDuplicates(THRESHOLD)
    index = MinHashLSH(num_perm=like.bands * like.rows, params=(like.bands, like.rows))

    def search() -> None:
        for place, text in enumerate(texts):
            sketch = MinHash(num_perm=like.bands * like.rows)
            sketch.update_batch([" ".join(shingle).encode() for shingle in string_shingles(text)])
            if not index.query(sketch):
                index.insert(place, sketch)

    return rate(search, len(texts))


def rate(job: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    job()
    return count / (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=600_000)
    arguments = parser.parse_args()
    texts, planted = generated(arguments.folder, arguments.prompts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found, seconds = searched(texts)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(f"{len(texts):,} prompts, {sum(map(len, texts)) / 1e6:.0f} M characters, {len(planted):,} planted")
    print(f"search: {seconds:.0f} s ({len(texts) / seconds:,.0f} prompts/s), {memory:.0f} MB more at the peak")
    due = [pair for pair in planted if similarity(texts[pair.place], texts[pair.of]) >= THRESHOLD]
    recall = sum(pair.place in found for pair in due) / max(len(due), 1)
    right = sum(similarity(texts[place], texts[of]) >= THRESHOLD - 1e-9 for place, of in found.items())
    precision = right / max(len(found), 1)
    print(f"recall {recall:.4f} of {len(due):,} at or above {THRESHOLD}")
    print(f"precision {precision:.4f} of {len(found):,} dropped")
    part = texts[:PEER_PROMPTS]
    own = rate(lambda: NearDuplicates(THRESHOLD).add(part), len(part))
    floor = rate(lambda: shingles(part), len(part))
    print(f"first {len(part):,}: {own:,.0f} prompts/s; hashing the shingles alone {floor:,.0f}", end="")
    has_peer = importlib.util.find_spec("datasketch")
    print(f"; datasketch {datasketch_rate(part):,.0f}" if has_peer else "; datasketch is not installed")
    met = (
        seconds <= PASS_SECONDS * len(texts) / 600_000
        and recall >= PASS_RECALL
        and precision >= PASS_PRECISION
        and memory <= PASS_MB
    )
    print("marks met" if met else "MARK MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
