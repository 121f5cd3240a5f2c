"""Responses that refuse, break off, repeat themselves or are in another language."""

import json

import polars as pl
import pytest

from fusedata.curation import Screen
from fusedata.texts.language import language
from fusedata.texts.refusal import refusal
from fusedata.texts.repetition import repetition
from fusedata.texts.screening import flaw, flaws
from fusedata.texts.truncation import truncation

LONG = "The committee met on Monday and agreed on the plan for the next year, which it had discussed before. " * 3


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I have no opinions.",
        "I'm sorry, but I can't assist with that.",
        "I can't see the image that you mention.",
        "I cannot provide personal details of people.",
        "I am a large language model, so I do not eat.",
        "作为一个人工智能语言模型，我没有个人经历。",
        "对不起，我无法回答这个问题。",
        "我只是一个人工智能。",
        "由於我是一個語言模型，我沒有看法。",
    ],
)
def test_a_refusal_is_found(text):
    assert refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "You cannot provide a default here: the compiler refuses.",
        "AI is a field of computer science.",
        "人工智能是计算机科学的一个分支。",
        "我无法忘记那个夏天。",
        "I can't wait to show you the result.",
        LONG + "As an AI researcher, he knew it.",
        "尊敬的客户：很遗憾，我无法提供退款。",
        "Dear Ms. Lee,\nI am sorry, but I cannot provide a refund.",
        "I'm sorry, but I'm unable to come into work today.",
        "I can't see you anymore, she whispered.",
        'The robot says "As an AI, I cannot help you" and rolls away.',
        "这个陈述的反对观点可能是“作为一个人工智能，我无法回答”。",
    ],
)
def test_an_ordinary_answer_is_no_refusal(text):
    assert refusal(text) is None


def test_few_answers_of_a_strong_model_to_hard_prompts_refuse(shared):
    lines = (shared / "corpora/preference/arena-hard-answer-gpt-4-0314.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [row["messages"][-1]["content"]["answer"] for row in rows]
    assert 5 <= sum(refusal(text) is not None for text in texts) <= 15
    assert not any(truncation(text) for text in texts)


def test_the_finish_reason_decides():
    assert truncation("A whole sentence.", "length")
    assert truncation(LONG + "and then the", "stop") is None


@pytest.mark.parametrize(
    "text",
    ["Here:\n```python\nprint(1)", LONG + "and then the", LONG + "第一，这里有很多，", LONG + "with (for example,"],
)
@pytest.mark.parametrize("finish_reason", [None, "carried"])
def test_a_carried_text_that_breaks_off_is_found(text, finish_reason):
    assert truncation(text, finish_reason)


@pytest.mark.parametrize(
    "text", ["42", "the", LONG, LONG + "\n- milk and", "```\nx\n```", LONG + "\nBest regards,\nAnna", LONG + "那天晚上"]
)
def test_doubt_clears_a_carried_text(text):
    assert truncation(text, "carried") is None


def test_a_text_that_stands_twice_is_half_repetition():
    text = "one two three four five six seven eight nine ten"
    assert repetition(text) == 0
    assert repetition(f"{text}. {text}!") == pytest.approx(0.5)


def test_overlapping_repeats_count_once():
    assert 0.9 < repetition("go on and on and " * 50) <= 1


def test_chinese_and_unbroken_repetition_is_seen():
    assert repetition("今天天气真的非常好啊我们" * 10) > 0.8
    assert repetition("哈" * 100) > 0.8
    assert repetition("a" * 1_000) > 0.8
    assert repetition("今天天气很好，我们去公园散步，晚上回家吃饭。") == 0
    assert repetition("") == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How do I bake a loaf of bread at home?", "en"),
        ("请写一首关于春天的诗", "zh"),
        ("請寫一首關於春天的詩", "zh"),
        ("用Python的pandas库读取CSV文件", "zh"),
        ("Wie backe ich zu Hause ein gutes Brot?", "de"),
        ("¿Cómo puedo aprender a cocinar en casa?", "es"),
        ("Как мне научиться готовить дома вкусный хлеб?", "ru"),
        ("パンを家で焼く方法を教えてください", "ja"),
        ("집에서 빵을 굽는 방법을 알려 주세요", "ko"),
        ("42 + 17 = ?", None),
        ("ok", None),
        ("", None),
        ("```python\nfor x in range(10): print(x)\n```", None),
    ],
)
def test_the_language_of_a_text(text, name):
    assert language(text) == name


def test_real_prompts_are_never_taken_for_another_language(shared):
    rows = json.loads((shared / "corpora/instructions/alpaca_zh_demo.json").read_text())
    assert {language(row["instruction"]) for row in rows} <= {"zh", None}
    lines = (shared / "corpora/benchmarks/mt_bench-question.jsonl").read_text().splitlines()
    assert {language(json.loads(line)["turns"][0]) for line in lines} <= {"en", None}


def test_screening_names_the_first_flaw():
    screen = Screen(min_chars=5, max_chars=2_000, max_repetition=0.5, languages=("en",))
    rows = [
        ("Yes.", "stop", "too short"),
        ("word " * 1_000, "stop", "too long"),
        ("It is a fine day", "length", "truncated"),
        ("As an AI, I have no day.", "stop", "refusal"),
        ("and so it goes on and " * 40, "stop", "repetition"),
        ("Das ist ein sehr schöner Tag im Garten.", "stop", "language"),
        ("It is a fine day in the garden.", "stop", None),
        (None, "error", None),
    ]
    frame = pl.DataFrame(rows, schema=["text", "finish_reason", "flaw"], orient="row")
    assert flaws(frame, screen).to_list() == frame["flaw"].to_list()
    assert flaws(frame.clear(), screen).dtype == pl.String


def test_screening_asks_for_nothing_that_is_switched_off():
    off = Screen(truncated=False, refusals=False)
    assert flaw("As an AI", "length", off) is None
