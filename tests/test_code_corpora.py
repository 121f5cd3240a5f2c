"""Unit tests read off corpora, and what becomes of rows without them."""

import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import polars as pl
import pytest
from conftest import write_corpus
from plain_python import judge_plainly

from fusedata.collect.carried import carried
from fusedata.collect.code_tests import announced_asserts
from fusedata.collect.gold import gold_check
from fusedata.collect.leetcode import read_statement
from fusedata.collect.locate import locate
from fusedata.collect.prompts import Collected, collect
from fusedata.config import validate
from fusedata.errors import ConfigError
from fusedata.profile import load_profile, shipped_profiles
from fusedata.recipe import Recipe, find_recipe, load_recipe
from fusedata.schema import PROMPTS
from fusedata.verify.code.prepare import prepare
from fusedata.verify.sandbox.programs import Program

TWO_SUM = """Given an array nums and a target, return the indices of two numbers that add up to it.

**Example 1:**
**Input:** nums = [2,7,11,15], target = 9
**Output:** [0,1]
**Explanation:** Because nums[0] + nums[1] == 9, we return [0, 1].

**Example 2:**
**Input:** nums = [3,2,4], target = 6
**Output:** [1,2]

**Constraints:**

2 <= nums.length <= 104"""

SOLUTION = """
    ```python
class Solution:
    def twoSum(self, nums: List[int], target: int) -> List[int]:
        seen = {}
        for i, n in enumerate(nums):
            if target - n in seen:
                return [seen[target - n], i]
            seen[n] = i
```

    It keeps what it has seen.
    """


def solution(signature: str, body: str = "pass") -> str:
    return f"```python\nclass Solution:\n    def {signature}:\n        {body}\n```"


def statement(given: str, output: str, text: str = "Do it.") -> str:
    return f"{text}\n\n**Example 1:**\n**Input:** {given}\n**Output:** {output}\n"


def test_examples_of_a_statement_are_asserts_in_the_order_of_the_parameters():
    found = read_statement(TWO_SUM, SOLUTION)
    assert found is not None
    assert found.entry_point == "Solution().twoSum"
    assert found.tests == [
        "assert Solution().twoSum([2, 7, 11, 15], 9) == [0, 1]",
        "assert Solution().twoSum([3, 2, 4], 6) == [1, 2]",
    ]
    swapped = read_statement(TWO_SUM, SOLUTION.replace("nums: List[int], target: int", "target: int, nums: List[int]"))
    assert swapped is not None
    assert swapped.tests[0] == "assert Solution().twoSum(9, [2, 7, 11, 15]) == [0, 1]"


def test_the_prompt_ends_with_the_signature_of_the_solution():
    found = read_statement(TWO_SUM, SOLUTION)
    assert found is not None
    prompt = found.prompt(TWO_SUM)
    assert prompt.startswith(TWO_SUM)
    assert prompt.endswith(
        "\n\nComplete this Python code:\n```python\nclass Solution:\n"
        "    def twoSum(self, nums: List[int], target: int) -> List[int]:\n```"
    )
    assert "seen" not in prompt


def test_a_solution_that_is_a_bare_function_is_called_so_and_gets_the_preamble():
    found = read_statement(TWO_SUM, "```python\ndef twoSum(nums, target):\n    return [0, 1]\n```")
    assert found is not None
    assert found.tests[0] == "assert twoSum([2, 7, 11, 15], 9) == [0, 1]"
    assert found.starter == "def twoSum(nums, target):"
    assert "from typing import *" in str(found.spec()["preamble"])


@pytest.mark.parametrize(
    ("given", "output", "signature", "test"),
    [
        ('s = "ab", k = 2', "true", "f(self, s, k)", "assert Solution().f('ab', 2) == True"),
        ("x = null", "null", "f(self, x)", "assert Solution().f(None) == None"),
        ("3", "4", "f(self, n)", "assert Solution().f(3) == 4"),
        ("[1,2], 3", "4", "f(self, a, b)", "assert Solution().f([1, 2], 3) == 4"),
        ("n = -2, b = 1", "[]", "f(self, x, y)", "assert Solution().f(-2, 1) == []"),
        ("x = 2.0", "9.26100", "f(self, x)", "assert abs(Solution().f(2.0) - 9.261) <= 1e-05"),
        ("l = [1,2]", "[2]", "f(self, l: ListNode) -> ListNode", "assert is_same_list(Solution().f(list_node([1, 2])), list_node([2]))"),
        ("l = [1,2]", "3", "f(self, l: Optional[ListNode])", "assert Solution().f(list_node([1, 2])) == 3"),
        ("ls = [[1],[]]", "[]", "f(self, ls: List[Optional[ListNode]])", "assert Solution().f([list_node([1]), list_node([])]) == []"),
        ("r = [1,null,2]", "[]", "f(self, r: TreeNode) -> 'TreeNode'", "assert Solution().f(tree_node([1, None, 2])) == []"),
        ("r = [1]", "[1]", "f(self, r: Optional[TreeNode]) -> Optional[TreeNode]", "assert is_same_tree(Solution().f(tree_node([1])), tree_node([1]))"),
    ],
)  # fmt: skip
def test_an_example_becomes_an_assert(given: str, output: str, signature: str, test: str):
    found = read_statement(statement(given, output), solution(signature))
    assert found is not None
    assert found.tests == [test]


def test_answers_in_any_order_are_compared_sorted():
    found = read_statement(statement("n = 2", "[3,1]", "Return them in any order."), solution("f(self, n)"))
    assert found is not None
    assert found.tests == ["assert sorted(Solution().f(2)) == [1, 3]"]


@pytest.mark.parametrize(
    ("content", "program"),
    [
        (statement("n = 2", "3", "Return any of them."), solution("f(self, n)")),
        (statement("n = 2", "3"), "no Python here ("),
        (statement("n = 2", "3"), solution("f(self)")),
        (statement("n = 2", "an explanation"), solution("f(self, n)")),
        (statement("n = 2", "open('x')"), solution("f(self, n)")),
        (statement("n = __import__('os').getpid()", "3"), solution("f(self, n)")),
        ('**Input**\n["LRUCache", "put"]\n[[2], [1, 1]]\n**Output**\n[null, null]', solution("f(self, n)")),
        ("No example.", solution("f(self, n)")),
        ("", ""),
    ],
)
def test_a_statement_without_an_example_that_can_be_judged_gives_no_tests(content: str, program: str):
    assert read_statement(content, program) is None


def test_a_statement_that_is_nothing_but_examples_takes_no_long_time():
    assert read_statement("Input: (\n" * 20_000, solution("f(self, n)")) is None
    assert read_statement(" " * 50_000 + "\n* " * 20_000, solution("f(self, n)")) is None


INSTRUCTION = """Write a function that doubles.

Your code should pass the following {}:
```python
assert double(2) == 4
assert double(0) == 0
```"""


@pytest.mark.parametrize("what", ["assertion", "assertions", "test case"])
def test_asserts_at_the_end_of_an_instruction_are_its_tests(what: str):
    assert announced_asserts(INSTRUCTION.format(what)) == "assert double(2) == 4\nassert double(0) == 0"


@pytest.mark.parametrize(
    "instruction",
    [
        "Write a function that doubles.",
        "Write a function.\n```python\nassert f(1) == 2\n```",
        "Your code should pass the following tests, which you write yourself.",
        INSTRUCTION.format("assertions").replace("assert ", "print "),
    ],
)
def test_an_instruction_that_announces_no_asserts_has_no_tests(instruction: str):
    assert announced_asserts(instruction) == ""


def recipe(path: Path, tests: dict[str, object], **corpus: object) -> Recipe:
    return validate(
        Recipe,
        {
            "name": "code",
            "corpora": [{"id": "test/code", "path": str(path), "prompt": "text", "tests": tests, **corpus}],
            "source_models": [{"id": "test/model"}],
            "correctness": {"check": "unit_tests"},
        },
        "test",
    )


def collected(folder: Path, rows: list[dict[str, object]], tests: dict[str, object], **corpus: object) -> Collected:
    """Collect with plain Python as the judge of solutions."""
    asked = recipe(write_corpus(folder / "code.jsonl", rows), tests, **corpus)
    located = [(c, locate(c.id, files=c.files, split=c.split, path=Path(str(c.path)))) for c in asked.corpora]
    return collect(located, asked, [gold_check(gold)])


def gold(rows: pl.DataFrame) -> Iterator[str | None]:
    for text, tests in zip(rows["solution"], rows["tests"], strict=True):
        program = prepare({**orjson.loads(tests), "response": text})
        status = program.status if not isinstance(program, Program) else next(judge_plainly([program])).status
        yield None if status == "passed" else status


def funnel(found: Collected) -> dict[str, int]:
    return {what: count for _, what, count in found.funnel}


ASSERTS = {"form": "asserts", "column": "tests", "solution": "code"}
ROW: dict[str, object] = {"text": "Write f.", "tests": ["assert f(1) == 2"], "code": "def f(x): return x + 1"}


def test_rows_without_tests_are_dropped_with_their_count_and_so_are_solutions_that_fail(tmp_path: Path):
    rows = [
        ROW,
        {**ROW, "text": "No tests.", "tests": []},
        {**ROW, "text": "Blank ones.", "tests": [" "]},
        {**ROW, "text": "None.", "tests": None},
        {**ROW, "text": "A wrong solution.", "code": "def f(x): return x"},
        {**ROW, "text": "A solution that does not load.", "code": "def f(x: Foo): return x + 1"},
        {**ROW, "text": "No solution.", "code": None},
    ]
    found = collected(tmp_path, rows, ASSERTS)
    assert found.prompts.schema == PROMPTS
    assert [m[0]["content"] for m in found.prompts["messages"]] == ["Write f."]
    assert json.loads(found.prompts["tests"][0]) == {"tests": ["assert f(1) == 2"]}
    assert funnel(found) == {"rows read": 7, "no tests": 3, "solution does not pass its tests": 3, "prompts": 1}
    dropped = dict(found.dropped.select("corpus_row", "detail").iter_rows())
    assert dropped == {1: None, 2: None, 3: None, 4: "failed", 5: "static_error", 6: "static_error"}


def test_changed_tests_are_another_answer_and_equal_ones_the_same(tmp_path: Path):
    first = collected(tmp_path, [ROW], ASSERTS).prompts
    again = collected(tmp_path, [{**ROW, "code": "def f(x):\n    return 1 + x"}], ASSERTS).prompts
    changed = collected(tmp_path, [{**ROW, "tests": ["assert f(2) == 3"]}], ASSERTS).prompts
    assert first.equals(again)
    assert first["prompt_id"][0] == changed["prompt_id"][0]
    assert first["answer"][0] != changed["answer"][0]


def test_rows_that_ask_the_same_with_other_tests_conflict(tmp_path: Path):
    other = {**ROW, "tests": ["assert f(2) == 3"]}
    found = collected(tmp_path, [ROW, other, {**ROW, "text": "Write f!"}, {**ROW, "text": "Write f!"}], ASSERTS)
    assert funnel(found)["conflicting tests"] == 1
    assert funnel(found)["prompts"] == 1


def test_tests_that_are_shown_stand_in_the_prompt_and_carried_responses_find_it(tmp_path: Path):
    tests = {**ASSERTS, "shown": True}
    more = {"responses": {"column": "code", "source_model": "human"}}
    found = collected(tmp_path, [ROW], tests, **more)
    (turn,) = found.prompts["messages"][0]
    announced = "Your code should pass the following assertions:\n```python\nassert f(1) == 2\n```"
    assert turn["content"] == f"Write f.\n\n{announced}"
    assert announced_asserts(turn["content"]) == "assert f(1) == 2"
    corpus = recipe(tmp_path / "code.jsonl", tests, **more).corpora[0]
    located = locate(corpus.id, files=(), split="train", path=tmp_path / "code.jsonl")
    assert corpus.responses
    (answers,) = carried(corpus, corpus.responses, located, found.prompts)
    assert answers.responses["text"].to_list() == [ROW["code"]]


def test_a_check_is_read_with_its_entry_point_setup_and_preamble(tmp_path: Path):
    row = {
        "text": "Write f.",
        "check": "def check(candidate):\n    assert candidate(1) == 2 + y",
        "entry": "f",
        "before": "import math",
        "after": "y = 0",
        "code": "def f(x): return x + math.floor(1.5)",
    }
    tests = {
        "form": "check",
        "column": "check",
        "entry_point": "entry",
        "preamble": "before",
        "setup": "after",
        "solution": "code",
    }
    found = collected(tmp_path, [row], tests)
    assert json.loads(found.prompts["tests"][0]) == {
        "check": row["check"],
        "entry_point": "f",
        "preamble": "import math",
        "setup": "y = 0",
    }


def test_a_corpus_in_the_layout_of_leetcode_is_read(tmp_path: Path):
    rows = [
        {"text": TWO_SUM, "python": SOLUTION},
        {"text": TWO_SUM.replace("[1,2]", "[2,1]"), "python": SOLUTION},
        {"text": "Design a cache.", "python": SOLUTION},
        {"text": TWO_SUM + " ", "python": None},
    ]
    found = collected(tmp_path, rows, {"form": "leetcode", "column": "text", "solution": "python"})
    assert funnel(found) == {"rows read": 4, "no tests": 2, "solution does not pass its tests": 1, "prompts": 1}


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ({"form": "check", "column": "t"}, 'corpora[0].tests.entry_point: form = "check" needs it: the column that it calls.'),
        ({"form": "leetcode", "column": "t"}, 'corpora[0].tests.solution: form = "leetcode" needs it: the column that it takes the signature from.'),
        ({"form": "instruction", "column": "t", "shown": True}, 'corpora[0].tests.shown: goes with form = "asserts" only.'),
        ({"form": "unit", "column": "t"}, "corpora[0].tests.form: must be 'asserts', 'check', 'instruction' or 'leetcode' (found \"unit\")."),
        ({"form": "asserts"}, "corpora[0].tests.column: is missing."),
    ],
)  # fmt: skip
def test_a_mistake_in_the_description_of_tests_is_told(tests: dict[str, object], told: str):
    with pytest.raises(ConfigError) as caught:
        recipe(Path("x"), tests)
    assert told in [line.removeprefix("test: ") for line in str(caught.value).splitlines()]


def test_a_recipe_that_runs_tests_needs_them_and_one_that_does_not_has_no_isolation():
    base = {"name": "x", "corpora": [{"id": "a/b", "prompt": "p", "answer": "a"}], "source_models": [{"id": "m"}]}
    with pytest.raises(ConfigError, match=r"corpora\[0\]\.tests: is missing: \[correctness\] needs a `tests` table"):
        validate(Recipe, {**base, "correctness": {"check": "unit_tests"}}, "test")
    with pytest.raises(ConfigError, match='isolation: goes with check = "unit_tests" only'):
        validate(Recipe, {**base, "correctness": {"check": "math_answer", "isolation": "split"}}, "test")


def test_the_shipped_recipe_has_a_stand_in_for_each_corpus_and_none_is_a_benchmark():
    shipped = load_recipe(find_recipe("code"))
    profile = load_profile(shipped_profiles()["local"])
    assert profile.stand_in
    replaced = {corpus.replaces for corpus in profile.stand_in.corpora}
    assert {corpus.id for corpus in shipped.corpora} <= replaced
    embedded = Path(str(shipped_profiles()["local"])).parents[1] / "embedded" / "mbpp_train.jsonl"
    ids = [json.loads(line)["task_id"] for line in embedded.read_text().splitlines()]
    assert ids
    assert all(601 <= number <= 974 for number in ids)


def test_most_of_leetcode_and_all_of_self_oss_instructs_asserts_can_be_judged(shared: Path):
    hub = shared / "corpora" / "hub_layout"
    statements = [
        json.loads(line) for line in (hub / "greengerong__leetcode" / "leetcode-train.jsonl").read_text().splitlines()
    ]
    found = [s for row in statements if (s := read_statement(row["content"], row["python"]))]
    assert len(found) > 0.9 * len(statements)
    rows = pl.read_parquet(hub / "bigcode__self-oss-instruct-sc2-exec-filter-50k" / "data" / "*.parquet")
    announced = rows.filter(pl.col("instruction").str.contains("should pass the following"))
    assert announced.height >= 60
    assert all(announced_asserts(text) for text in announced["instruction"])
