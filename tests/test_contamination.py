"""What is text in common with a benchmark, and what is not: on texts of the tests' own, and on the real benchmarks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusedata.contamination.normalise import joined, tokens
from fusedata.contamination.overlap import BOILERPLATE, Index, Item, Match
from fusedata.contamination.sources import Places, find_benchmarks, read_items

DUCKS = (
    "Janet’s ducks lay 1,600 eggs per day. She eats three for breakfast every morning and bakes muffins for her "
    "friends every day with four. How much in dollars does she make every day at the farmers' market?"
)
CHINESE = "小明每天早上从家里出发去学校，路上要经过一座很长的桥和两个公园，一共走了1,200米，请问他每分钟走多少米？"
SHORT = "Explain why water is important for plants growing indoors."
SHORTEST = "What is $5 - 3$?"
INDEX = Index(Item("bench", str(n), text) for n, text in enumerate([DUCKS, CHINESE, SHORT, SHORTEST]))


def item_of(text: str) -> str | None:
    match = INDEX.find(text)
    return match and match.item


@pytest.mark.parametrize(
    "number",
    [
        "1,000",
        "1 000",
        "1000",
        "1.000",
        "1'000",
        "１０００",
        "１，０００",
        "1.000,00",
        "1,000.00",
        "1000.0",
        "١٠٠٠",
        "1\u202f000",
        "1{,}000",
    ],
)
def test_formats_of_one_number_are_the_same_words(number: str) -> None:
    assert tokens(f"It costs {number} dollars.").words == ["it", "costs", "1", "000", "dollars"]


@pytest.mark.parametrize("number", ["10,000", "100", "1,001", "1,000.5", "1,000.25", "01000"])
def test_other_numbers_are_other_words(number: str) -> None:
    assert tokens(f"{number} dollars").words != ["1", "000", "dollars"]


def test_groups_of_two_digits_are_read_and_lists_of_numbers_are_not_taken_for_them() -> None:
    assert tokens("1,00,000 and 12,34,567.50").words == ["100", "000", "and", "1", "234", "567", "50"]
    assert tokens("10,20,30 and 7,12,345,6").words == ["10", "20", "30", "and", "7", "12", "345", "6"]


def test_long_rows_of_digits_are_read_in_linear_time() -> None:
    assert len(tokens("7" * 200_000).words) == 21


def test_labels_of_choices_and_apostrophes_are_no_words() -> None:
    assert tokens("A) Janet's\n(B) don’t\nC. ducks").words == ["janets", "dont", "ducks"]


def test_characters_without_spaces_between_them_are_words_and_are_shown_together() -> None:
    cut = tokens("他有１２个 apples。")
    assert cut.words == ["他", "有", "12", "个", "apples"]
    assert cut.unspaced == [True, True, False, True, False]
    assert joined(cut.words) == "他有 12 个 apples"


COPIES: dict[str, Callable[[str], str]] = {
    "the same text": lambda text: text,
    "other blanks and case": lambda text: text.upper().replace(" ", "  \n\t"),
    "inside a longer prompt": lambda text: f"Please solve this step by step:\n{text}\nThink twice before you answer.",
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "other numbers' format": lambda text: text.replace("1,600", "1.600,00").replace("1,200", "1200"),
    "no punctuation": lambda text: "".join(c for c in text if c not in ".,?'’，。？"),
    "invisible characters": lambda text: text.replace("a", "a\u200b").replace("的", "的\u200b"),
    "Chinese punctuation made English": lambda text: text.replace("，", ", ").replace("？", "?"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_an_item_is_found(copy: str) -> None:
    assert [item_of(COPIES[copy](text)) for text in (DUCKS, CHINESE)] == ["0", "1"]


@pytest.mark.parametrize(
    "part",
    [
        "I read: she eats three for breakfast every morning and bakes muffins for her friends. True?",
        "题目说路上要经过一座很长的桥和两个公园，一共走了很久，对吗",
    ],
)
def test_part_of_an_item_inside_another_prompt_is_found(part: str) -> None:
    match = INDEX.find(part)
    assert match is not None
    assert match.text in {
        "she eats three for breakfast every morning and bakes muffins for her friends",
        "路上要经过一座很长的桥和两个公园一共走了",
    }
    assert match.words == len(tokens(match.text).words)


@pytest.mark.parametrize(
    "text",
    [
        "She eats three for breakfast every morning and bakes cakes for her neighbours every day with five.",  # 8 words
        "路上要经过一座很长的桥和两个公司，请你写一篇作文描述它的样子。",  # 15 characters
        "How many eggs do ducks lay per day, and how much does a farmer make of them at the market?",
        "Explain why water is important.",
        "What is 53?",
        "",
        "。",
    ],
)
def test_ordinary_text_is_not_found(text: str) -> None:
    assert INDEX.find(text) is None


def test_a_short_item_is_found_inside_another_text_only_as_a_whole() -> None:
    assert item_of("Homework! Explain why water is important for plants growing indoors, please.") == "2"
    assert item_of("Explain why water is important for plants growing outdoors.") is None


def test_the_shortest_items_are_found_only_where_they_are_the_whole_text() -> None:
    assert item_of("what  is 5 - 3") == "3"
    assert item_of("What is 5 - 3 in binary?") is None
    assert item_of("What is 5 + 3?") is None


def test_the_longest_text_in_common_is_told_and_of_equal_ones_the_first_indexed() -> None:
    longer = "the quick brown fox jumps over one lazy dog while seven small cats look on from their warm garden wall"
    index = Index(
        [Item("short", "1", longer.partition(" from")[0]), Item("long", "2", longer), Item("same", "3", longer)]
    )
    assert index.find(f"He wrote {longer} yesterday") == Match("long", "2", longer, 20)


def test_a_run_that_begins_with_words_that_its_item_repeats_is_told_whole() -> None:
    verse = "row your boat gently down some stream merrily then life goes but dreams"
    index = Index([Item("bench", "1", f"{verse} {verse} until five o'clock this morning")])
    assert index.find(f"Sing {verse} until five o'clock this morning") == Match(
        "bench", "1", f"{verse} until five oclock this morning", 18
    )


def test_an_n_gram_is_as_long_as_asked_for() -> None:
    item = Item("bench", "1", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu")
    text = "first beta gamma delta epsilon zeta last"
    assert Index([item], words=6).find(text) is None
    assert Index([item], words=5).find(text) is not None


FORMAT = "You are given a string s consisting of lowercase English letters and an integer k, return the"


def test_a_phrase_of_several_items_of_one_benchmark_is_no_match() -> None:
    endings = ["longest palindrome", "number of vowels", "lexicographically smallest rotation"]
    items = [Item("code", str(n), f"{FORMAT} {ending} of s.") for n, ending in enumerate(endings)]
    mine = f"{FORMAT} most frequent letter of s."
    assert Index(items).find(mine) is None
    assert Index(items[: BOILERPLATE - 1]).find(mine) is not None
    assert Index([*items[:2], items[2]._replace(benchmark="other")]).find(mine) is not None
    assert [Index(items).find(f"Task: {item.text}") for item in items] != [None] * 3


def test_an_item_that_is_all_boilerplate_is_found_as_a_whole() -> None:
    index = Index(Item("code", str(n), f"{FORMAT} {word}.") for n, word in enumerate(("first", "last", "sum")))
    match = index.find(f"Hello! {FORMAT} last.")
    assert match is not None
    assert match.item == "1"


def test_numbers_and_repetition_are_no_match() -> None:
    row = "def check: " + " ".join(map(str, range(100))) + " end of it all"
    index = Index([Item("code", "1", row), Item("code", "2", "buffalo " * 40)])
    assert index.find("My list holds " + " ".join(map(str, range(60)))) is None
    assert index.find("He said " + "buffalo " * 20) is None
    assert index.find(row) is not None


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return json.load(file) if path.suffix == ".json" else [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The real benchmarks that there are files of."""
    folder = tmp_path_factory.mktemp("benchmarks")
    corpora = shared / "corpora"
    files = [
        *(corpora / "benchmarks").iterdir(),
        corpora / "code/mbpp.jsonl",
        corpora / "preference/arena-hard-question.jsonl",
    ]
    for file in files:
        (folder / file.name).symlink_to(file)
    items, shelf = read_items(find_benchmarks((), Places(folder)))
    assert {held.benchmark.name for held in shelf.held} == {
        "arena-hard", "mt-bench", "gsm8k", "math-500", "amc23", "humaneval", "mbpp"
    }  # fmt: skip
    return Index(items)


REAL = {
    "gsm8k": ("benchmarks/gsm8k-test.jsonl", "question"),
    "math-500": ("benchmarks/math-500.jsonl", "problem"),
    "amc23": ("benchmarks/amc23.jsonl", "problem"),
    "humaneval": ("benchmarks/HumanEval.jsonl.gz", "prompt"),
    "arena-hard": ("preference/arena-hard-question.jsonl", "prompt"),
}


@pytest.mark.parametrize("name", REAL)
def test_copies_of_every_real_item_are_found(name: str, real: Index, shared: Path) -> None:
    file, column = REAL[name]
    texts = [row[column] for row in rows(shared / "corpora" / file)]
    found = [real.find(text.swapcase().replace(" ", "\t ")) for text in texts]
    missed = [text for text, match in zip(texts, found, strict=True) if match is None]
    assert len(missed) <= (3 if name == "arena-hard" else 0), missed  # of some characters only


def test_the_benchmark_part_of_mbpp_is_found_and_no_program_of_humaneval_in_its_training_part(
    real: Index, shared: Path
) -> None:
    problems = rows(shared / "corpora/code/mbpp.jsonl")
    assert all(real.find(row["text"]) for row in problems if 11 <= row["task_id"] <= 510)
    training = [real.find(row["text"]) for row in problems if row["task_id"] > 600]
    assert {match.benchmark for match in training if match} == {"mbpp"}  # the same tasks, in other words at their ends
    assert sum(match is not None for match in training) <= 14


def test_of_the_training_problems_of_gsm8k_only_those_with_a_twin_match(real: Index, shared: Path) -> None:
    found = [real.find(row["question"]) for row in rows(shared / "corpora/math/gsm8k-train.jsonl")]
    matches = [(match.benchmark, match.item) for match in found if match]
    assert len(found) == 7473
    assert sorted(matches) == [("gsm8k", f"row {row}") for row in (581, 602, 602, 632)]


def test_real_instructions_in_english_and_chinese_do_not_match(real: Index, shared: Path) -> None:
    folder = shared / "corpora/instructions"
    files = ("alpaca_en_demo.json", "alpaca_zh_demo.json", "ruozhiba_qa2449_gpt4t.json")
    texts = [f"{row['instruction']}\n{row.get('input', '')}" for file in files for row in rows(folder / file)]
    assert len(texts) == 4448
    assert [text for text in texts if real.find(text)] == []


def test_of_the_problems_of_leetcode_only_one_asked_in_arena_hard_and_one_definition_match(
    real: Index, shared: Path
) -> None:
    problems = rows(shared / "corpora/code/LeetCodeDataset-v0.2.0-train.jsonl.gz")
    found = {row["task_id"]: match.benchmark for row in problems if (match := real.find(row["query"]))}
    assert found == {"median-of-two-sorted-arrays": "arena-hard", "find-k-pairs-with-smallest-sums": "mbpp"}


@pytest.mark.parametrize(
    ("name", "words", "least"),
    [("gsm8k", 13, 0.995), ("gsm8k", 26, 1), ("math-500", 26, 0.94), ("humaneval", 26, 0.97), ("arena-hard", 26, 0.99)],
)
def test_parts_of_real_items_inside_other_text_are_found(
    name: str, words: int, least: float, real: Index, shared: Path
) -> None:
    file, column = REAL[name]
    parts = [
        " ".join(said[start : start + words])
        for row in rows(shared / "corpora" / file)
        for said in [tokens(row[column]).words]
        for start in range(0, len(said) - words + 1, words // 2)
    ]
    assert len(parts) > 500
    found = sum(real.find(f"Remember this: {part} … and so on.") is not None for part in parts)
    assert found / len(parts) >= least


def test_a_part_of_a_formula_is_found() -> None:
    problem = r"Let $f(x) = \frac{3x-2}{x-2}$ and $g(x) = \sqrt{x} + 4$. What is the value of $f(g(9))$?"
    index = Index([Item("math", "1", problem)])
    assert index.find(r"He asks: $f(x) = \frac{3x-2}{x-2}$ and $g(x) = \sqrt{x}") is not None
