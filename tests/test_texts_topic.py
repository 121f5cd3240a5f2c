"""What a prompt is about, told from its text; floors on real labelled prompts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fusedata.texts.topic import topic


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Write a function that returns the longest word of a list.", "code"),
        ("用python写一个爬虫", "code"),
        ("SELECT name FROM users WHERE id = 1\n\nWhy is this slow?", "code"),
        ("Write a Python function that solves a quadratic equation.", "code"),
        ("Solve 3x + 5 = 20.", "math"),
        ("Tom has 3 apples and buys 4 more. How many apples does he have?", "math"),
        ("计算半径为5的圆的面积。", "math"),
        ("Find $\\frac{1}{2} + \\frac{1}{3}$.", "math"),
        ("Write a poem about autumn.", "other"),
        ("Generate a short story of 50-100 words.", "other"),
        ("谁发明了万维网？", "other"),
        ("生成一个移动应用程序的名称。", "other"),
        ("", "other"),
        ("How do I remove rust from a bike?", "other"),
        ("Where do pandas live, and what do they eat?", "other"),
        ("Explain angular momentum to a child.", "other"),
        ("My blood test shows a high sed rate. What does it mean?", "other"),
        ("Write a web server in Rust.", "code"),
        ("How do I merge two tables in pandas?", "code"),
        ("Use sed to replace a word in every file.", "code"),
        ("用rust写一个网页服务器", "code"),
    ],
)
def test_a_prompt_has_a_topic(text, told):
    assert topic(text).topic == told


def test_what_told_the_topic_is_named():
    assert "python" in topic("How do I sort a list in python?").by
    assert topic("Write a poem.").by == ""


def test_the_end_of_a_long_prompt_is_read():
    assert topic("Here is my story. " * 1_000 + "\nTranslate it into a Python dictionary, with code.").topic == "code"


def labelled(shared: Path) -> list[tuple[str, str]]:
    labels = json.loads((Path(__file__).parent / "data" / "topics.json").read_text())
    questions = (shared / "corpora/preference/arena-hard-question.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in questions]
    return [(row["prompt"], labels["arena-hard"][row["uid"]]) for row in rows if row["uid"] in labels["arena-hard"]]


def test_arena_hards_code_and_mathematics_are_found(shared):
    found = [(label, topic(text).topic) for text, label in labelled(shared)]
    wanted = [told for label, told in found if label != "other"]
    told = [label for label, told in found if told != "other"]
    assert sum(one != "other" for one in wanted) / len(wanted) > 0.85
    assert sum(label != "other" for label in told) / len(told) > 0.9


def test_word_problems_of_gsm8k_are_mathematics(shared):
    lines = (shared / "corpora/benchmarks/gsm8k-test.jsonl").read_text().splitlines()
    told = [topic(json.loads(line)["question"]).topic for line in lines]
    assert told.count("math") / len(told) > 0.95


def test_few_chinese_teasers_are_code_or_mathematics(shared):
    rows = json.loads((shared / "corpora/instructions/ruozhiba_qa2449_gpt4t.json").read_text())
    told = [topic(row["instruction"]).topic for row in rows]
    assert told.count("other") / len(told) > 0.98


def test_precision_and_recall_on_all_labelled_sets_keep_their_marks_in_english_and_chinese(shared):
    script = Path(__file__).parents[1] / "benchmarks/topics.py"
    result = subprocess.run([sys.executable, script, shared / "corpora"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all, zh" in result.stdout
