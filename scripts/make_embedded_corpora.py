"""Make the corpora that ship with fusedata, in recipes/embedded/, from their sources.

    python scripts/make_embedded_corpora.py FOLDER

FOLDER holds `math/openmathinstruct2-train_1M-first100.jsonl` (the first rows of nvidia/OpenMathInstruct-2's train_1M,
CC-BY-4.0) and `math/gsm8k-train.jsonl` (openai/grade-school-math, MIT). The one-step questions are made here.
"""

import json
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parent.parent / "recipes" / "embedded"
PROBLEMS = 32
QUESTIONS = 48
LONGEST = 900
"""Characters a carried answer may have: longer ones would make the first build slow, and teach it nothing more."""

TEMPLATES = (
    ("Calculate {a} + {b}.", lambda a, b: a + b),
    ("What is {a} + {b}? Answer with one short sentence.", lambda a, b: a + b),
    ("What is {a} times {b}?", lambda a, b: a * b),
)
"""Phrasings that SmolLM2-135M-Instruct was measured to answer now right and now wrong."""


def rows(path: Path) -> Iterator[dict[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def openmathinstruct2(folder: Path) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    for row in rows(folder / "math" / "openmathinstruct2-train_1M-first100.jsonl"):
        if row["problem"] not in seen and len(row["generated_solution"]) <= LONGEST and len(seen) < PROBLEMS:
            seen.add(row["problem"])
            yield row


def gsm8k(folder: Path) -> Iterator[dict[str, str]]:
    for number, row in enumerate(rows(folder / "math" / "gsm8k-train.jsonl")):
        if number == PROBLEMS:
            break
        steps, _, final = row["answer"].partition("####")
        without_calculator = re.sub(r"<<[^>]*>>", "", steps).strip()
        solution = f"{without_calculator}\nThe answer is {final.strip()}."
        yield {"question": row["question"], "solution": solution, "final_answer": final.strip()}


def one_step_arithmetic() -> Iterator[dict[str, str]]:
    stream = random.Random(2)
    seen: set[str] = set()
    while len(seen) < QUESTIONS:
        text, answer = TEMPLATES[len(seen) % len(TEMPLATES)]
        a, b = stream.randint(2, 12), stream.randint(2, 12)
        question = text.format(a=a, b=b)
        if question not in seen:
            seen.add(question)
            yield {"question": question, "answer": str(answer(a, b))}


def write(name: str, lines: Iterable[dict[str, str]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (EMBEDDED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say where the sources are: python scripts/make_embedded_corpora.py FOLDER")
    source = Path(sys.argv[1])
    write("openmathinstruct2.jsonl", openmathinstruct2(source))
    write("gsm8k.jsonl", gsm8k(source))
    write("one_step_arithmetic.jsonl", one_step_arithmetic())
