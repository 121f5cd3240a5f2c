"""Make the corpora that ship with fusedata, in recipes/embedded/, from their sources.

    python scripts/make_embedded_corpora.py FOLDER

FOLDER holds `math/openmathinstruct2-train_1M-first100.jsonl` (the first rows of nvidia/OpenMathInstruct-2's train_1M,
CC-BY-4.0), `math/gsm8k-train.jsonl` (openai/grade-school-math, MIT), `code/mbpp.jsonl` (google-research, CC-BY-4.0),
`instructions/seed_tasks.jsonl` (yizhongw/self-instruct, Apache-2.0) and `preference/dpo_en_demo.json`
(hiyouga/LLaMA-Factory, Apache-2.0). The one-step questions and the one-line functions are made here; what is in
short_conversations.jsonl, chinese_tasks.jsonl and chinese_labelled.jsonl was written by hand, for this project.
"""

import json
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).resolve().parent.parent / "recipes" / "embedded"
PROBLEMS = 32
QUESTIONS = 48
LONGEST = 900
"""Characters a carried answer may have: longer ones would make the first build slow, and teach it nothing more."""

SEED_TASKS = (15, 21, 43, 48, 57, 58, 60, 63, 69, 72, 76, 84, 88, 90, 97, 126, 134, 144, 147, 148, 157)
"""Tasks with short answers, in which SmolLM2-135M-Instruct often ends by itself; 21, 69, 72 and 144 are of the topics
that the recipe leaves out."""
CONVERSATIONS = (22, 23, 142, 147, 158, 163, 165, 181, 236, 251, 257, 267, 292, 299)
"""Short prompts of the preference demo, some with a system prompt or several turns; 165 and 236 are mathematics."""

TEMPLATES = (
    ("Calculate {a} + {b}.", lambda a, b: a + b),
    ("What is {a} + {b}? Answer with one short sentence.", lambda a, b: a + b),
    ("What is {a} times {b}?", lambda a, b: a * b),
)
"""Phrasings that SmolLM2-135M-Instruct was measured to answer now right and now wrong."""

MBPP_TRAINING = range(601, 975)
"""Task ids of MBPP's training part; 11 to 510 are a benchmark, and 1 to 10 its few-shot prompts."""

FUNCTIONS = (
    ("add(a, b)", "returns the sum of two numbers", "a + b", "1, 2; -3, 3; 10, 5"),
    ("double(n)", "returns twice a number", "2 * n", "4; 0; -7"),
    ("square(n)", "returns the square of a number", "n * n", "3; -4; 0"),
    ("cube(n)", "returns the cube of a number", "n ** 3", "2; -3; 5"),
    ("negate(n)", "returns the negative of a number", "-n", "5; -2; 0"),
    ("is_even(n)", "returns True if a number is even and False otherwise", "n % 2 == 0", "4; 7; 0"),
    ("is_odd(n)", "returns True if a number is odd and False otherwise", "n % 2 == 1", "4; 7; -3"),
    ("is_positive(n)", "returns True if a number is greater than zero", "n > 0", "3; 0; -1"),
    ("larger(a, b)", "returns the larger of two numbers", "max(a, b)", "2, 9; 5, 5; -1, -8"),
    ("smallest(numbers)", "returns the smallest number of a list", "min(numbers)", "[3, 1, 2]; [5]; [-1, -4]"),
    ("total(numbers)", "returns the sum of a list of numbers", "sum(numbers)", "[1, 2, 3]; []; [-5, 5]"),
    (
        "mean(numbers)",
        "returns the average of a list of numbers",
        "sum(numbers) / len(numbers)",
        "[2, 4]; [1, 2, 3, 4]",
    ),
    ("first(items)", "returns the first item of a list", "items[0]", "[1, 2, 3]; ['a', 'b']"),
    ("last(items)", "returns the last item of a list", "items[-1]", "[1, 2, 3]; ['a', 'b']; [7]"),
    ("count_items(items)", "returns the number of items in a list", "len(items)", "[1, 2, 3]; []"),
    ("backwards(text)", "returns a string reversed", "text[::-1]", "'abc'; ''; 'level'"),
    ("shout(text)", "returns a string in upper case", "text.upper()", "'abc'; 'Hello'"),
    ("quiet(text)", "returns a string in lower case", "text.lower()", "'ABC'; 'Hello'"),
    ("greet(name)", 'returns "Hello, " followed by the name', '"Hello, " + name', "'Ada'; 'Bob'"),
    ("repeat(text, times)", "returns a string repeated several times", "text * times", "'ab', 3; 'x', 0"),
    (
        "starts_with_a(text)",
        'returns True if a string starts with the letter "a"',
        'text.startswith("a")',
        "'apple'; 'bat'; ''",
    ),
    (
        "is_palindrome(text)",
        "returns True if a string reads the same backwards",
        "text == text[::-1]",
        "'level'; 'abc'; ''",
    ),
    (
        "count_vowels(text)",
        "returns how many vowels (a, e, i, o, u) a string holds",
        'sum(c in "aeiou" for c in text)',
        "'hello'; 'sky'; 'aeiou'",
    ),
    ("words(text)", "splits a string at blanks and returns the list of words", "text.split()", "'a b c'; 'one'"),
    (
        "longest_word(words)",
        "returns the longest string of a list",
        "max(words, key=len)",
        "['a', 'abc', 'ab']; ['xy']",
    ),
    (
        "to_celsius(fahrenheit)",
        "converts degrees Fahrenheit to degrees Celsius",
        "(fahrenheit - 32) * 5 / 9",
        "32; 212; -40",
    ),
    ("area(width, height)", "returns the area of a rectangle", "width * height", "3, 4; 0, 5; 2, 2"),
    ("perimeter(width, height)", "returns the perimeter of a rectangle", "2 * (width + height)", "3, 4; 0, 5; 2, 2"),
    (
        "squares(numbers)",
        "returns the list of the squares of the numbers in a list",
        "[n * n for n in numbers]",
        "[1, 2, 3]; []",
    ),
    (
        "evens(numbers)",
        "returns the list of the even numbers in a list",
        "[n for n in numbers if n % 2 == 0]",
        "[1, 2, 3, 4]; [1]",
    ),
    (
        "descending(numbers)",
        "returns a list of numbers sorted from largest to smallest",
        "sorted(numbers, reverse=True)",
        "[3, 1, 2]; []",
    ),
    ("contains(items, item)", "returns True if an item is in a list", "item in items", "[1, 2], 2; [1, 2], 3; [], 1"),
)
"""Signature, task, solution and inputs of functions that SmolLM2-135M-Instruct writes now right and now wrong."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
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


def mbpp_train(folder: Path) -> Iterator[dict[str, object]]:
    """Give the shortest problems of the training part, unchanged, in their order."""
    training = [row for row in rows(folder / "code" / "mbpp.jsonl") if int(row["task_id"]) in MBPP_TRAINING]
    shortest = sorted(training, key=lambda row: len(row["code"]) + sum(map(len, row["test_list"])))[:PROBLEMS]
    columns = ("task_id", "text", "code", "test_list", "test_setup_code")
    for row in sorted(shortest, key=lambda row: int(row["task_id"])):
        yield {column: row[column] for column in columns}


def one_line_functions() -> Iterator[dict[str, object]]:
    for signature, task, solution, inputs in FUNCTIONS:
        code = f"def {signature}:\n    return {solution}\n"
        scope: dict[str, object] = {}
        exec(code, scope)
        calls = [f"{signature.partition('(')[0]}({given})" for given in inputs.split("; ")]
        tests = [f"assert {call} == {eval(call, scope)!r}" for call in calls]
        yield {"instruction": f"Write a Python function `{signature}` that {task}.", "tests": tests, "solution": code}


def seed_tasks(folder: Path) -> Iterator[dict[str, str]]:
    wanted = {f"seed_task_{number}" for number in SEED_TASKS}
    for row in rows(folder / "instructions" / "seed_tasks.jsonl"):
        if row["id"] in wanted:
            yield {"id": row["id"], "instruction": row["instruction"], "input": row["instances"][0]["input"]}


def conversations(folder: Path) -> Iterator[dict[str, object]]:
    demo = json.loads((folder / "preference" / "dpo_en_demo.json").read_text(encoding="utf-8"))
    for number in CONVERSATIONS:
        yield {"conversations": demo[number]["conversations"]}


def write(name: str, lines: Iterable[Mapping[str, object]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (EMBEDDED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say where the sources are: python scripts/make_embedded_corpora.py FOLDER")
    source = Path(sys.argv[1])
    write("openmathinstruct2.jsonl", openmathinstruct2(source))
    write("gsm8k.jsonl", gsm8k(source))
    write("one_step_arithmetic.jsonl", one_step_arithmetic())
    write("mbpp_train.jsonl", mbpp_train(source))
    write("one_line_functions.jsonl", one_line_functions())
    write("seed_tasks.jsonl", seed_tasks(source))
    write("preference_prompts.jsonl", conversations(source))
