"""What the static checks refuse for certain, and what they must leave to the sandbox."""

import sys

import pytest

from fusedata.snippets import LEETCODE_PREAMBLE, parsed, placed_before
from fusedata.verify.code.prepare import prepare
from fusedata.verify.sandbox.programs import Outcome, Program

TESTS = ["assert f(3) == 4"]


def prepared(code: str, tests: object = TESTS, **more: object) -> Program | Outcome:
    return prepare({"code": code, "tests": tests, **more})


REFUSED = {
    "def f(x): return y": "the name y is not defined (line 1)",
    "def f(x):\n    z = [y for y in w]\n    return 4": "the name w is not defined (line 2)",
    "def f(x):\n    if x > 9:\n        print(q)\n    return heapq.nlargest(1, [x])[0]": "the name heapq is not defined (line 4)",
    "print(y)\ndef f(x): return 4": "the name y is not defined (line 1)",
    "def f(x: List[int]): return 4": "the name List is not defined (line 1)",
    "@lru_cache(None)\ndef f(x): return 4": "the name lru_cache is not defined (line 1)",
    "class A:\n    size = width\ndef f(x): return 4": "the name width is not defined (line 2)",
    "def f(x, n=size): return 4": "the name size is not defined (line 1)",
    "def g(x): return 4": "it does not define f, which the tests use",
    "import math": "it does not define f, which the tests use",
    "class C:\n    def f(self, x): return 4": "it does not define f, which the tests use",
    "def f(): return 4": "no call in the tests fits the parameters of f()",
    "def f(x, y): return 4": "no call in the tests fits the parameters of f(x, y)",
    "def f(x, *, y): return 4": "no call in the tests fits the parameters of f(x, *, y)",
    "def f(*, x): return 4": "no call in the tests fits the parameters of f(*, x)",
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_no_run_could_pass_is_a_static_error(code: str):
    assert prepared(code) == Outcome(False, "static_error", REFUSED[code], 0.0, "none")


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    if x > 5: return y\n    return 4",
        "def f(x):\n    if x == 3: return 4\n    return y",
        "def f(x):\n    for i in range(x - 3): print(y)\n    return 4",
        "def f(x):\n    while x > 9:\n        y\n    return 4",
        "def f(x):\n    try:\n        return y\n    except NameError:\n        return 4",
        "def f(x):\n    try:\n        return y\n    except Exception:\n        return 4",
        "import contextlib\ndef f(x):\n    with contextlib.suppress(NameError):\n        y\n    return 4",
        "def f(x): return 4 if x else y",
        "def f(x): return x + 1 or y",
        "def f(x): return 4 if x < 9 < y else 4" if False else "def f(x): return 4 if 9 < x < y else 4",
        "def f(x): return [y for x in range(x - 3)] or 4",
        "def f(x):\n    g = lambda: y\n    return 4",
        "def f(x):\n    def g(): return y\n    return 4",
        "def helper(): return y\ndef f(x): return 4",
        "def f(x):\n    assert x, y\n    return 4",
        "if __name__ == '__test__':\n    y\ndef f(x): return 4",
        "from os.path import *\ndef f(x): return join and 4",
        "from nowhere_to_be_found import *",
        "exec('y = 4')\ndef f(x): return y",
        "globals()['y'] = 4\ndef f(x): return y",
        "import builtins\nbuiltins.y = 4\ndef f(x): return y",
        "def g():\n    global y\n    y = 4\ng()\ndef f(x): return y",
        "globals()['f'] = lambda x: 4",
        "f = lambda x: 4",
        "from operator import neg as f",
        "def outer():\n    global f\n    def f(x): return 4\nouter()",
        "if True:\n    def f(x): return 4",
        "try:\n    import missing\nexcept ImportError:\n    missing = None\ndef f(x): return 4",
        "from __future__ import annotations\ndef f(x: List[int]) -> Tuple: return 4",
        "def f(x: 'List[int]') -> 'Tuple': return 4",
        "def f(x):\n    y: List[int] = 4\n    return y",
        "y = 1\ndel y\ny = 4\ndef f(x): return y",
        "for y in [4]: pass\ndel y\nimport os as y\ndef f(x): return 4",
        "class A:\n    __slots__ = ()\n    here = __qualname__ + __module__\ndef f(x): return 4",
        "class M(type):\n    def __prepare__(*a): return {'y': 4}\nclass A(metaclass=M):\n    z = y\ndef f(x): return 4",
        "def f(*values): return 4",
        "def f(x, y=1, **more): return 4",
        "import functools\n@functools.wraps(print)\ndef f(): return 4",
        "def f(): return 4\ndef f(x): return 4",
        "def f(): return 4\nf = lambda x: 4",
        "class f:\n    def __new__(cls, x): return 4",
        "def f(x):\n    yield y",
        "async def f(x): return y",
        "def f(x): return exit and 4",
        "x = 3\ndef f(x): return __file__ and 4",
    ],
)
def test_what_some_run_might_pass_is_left_to_the_sandbox(code: str):
    assert prepared(code) == Program(code, tuple(TESTS))


@pytest.mark.parametrize(
    "tests",
    [
        ["try:\n    f(3)\nexcept NameError:\n    pass"],
        ["import contextlib", "with contextlib.suppress(NameError, TypeError):\n    f(3)"],
        ["if False:\n    f(3)"],
        ["def call():\n    return f(3)"],
        ["y = 4", "assert f(3) == 4"],
        ["assert f(", "broken"],
    ],
)
def test_tests_that_may_do_without_it_condemn_nothing(tests: list[str]):
    code = "def f(x):\n    return y"
    assert prepared(code, tests) == Program(code, tuple(tests))


def test_a_name_that_setup_or_preamble_binds_is_there():
    assert isinstance(prepared("def f(x): return y", setup="y = 4"), Program)
    assert isinstance(prepared("def f(x): return y", setup="def g():\n    global y\n    y = 4\ng()"), Program)
    assert isinstance(prepared("def f(x): return sqrt(16)", preamble="from math import *"), Program)
    assert isinstance(prepared("def f(x): return y", preamble="from unknown import *"), Program)


SYNTAX = {
    "def f(x)\n    return 4": "expected ':' (line 1)",
    "def f(x):\nreturn 4": "expected an indented block after function definition on line 1 (line 2)",
    "return 4": "'return' outside function (line 1)",
    "def f(x):\n    nonlocal y": "no binding for nonlocal 'y' found (line 2)",
    "print 'hello'": None,
    "\x00": None,
    "def f(x):\n    return (4": None,
    "(" * 1000: None,
}


@pytest.mark.parametrize("code", SYNTAX)
def test_what_does_not_compile_is_a_syntax_error(code: str):
    outcome = prepared(code)
    assert isinstance(outcome, Outcome)
    assert (outcome.passed, outcome.status, outcome.isolation) == (False, "syntax_error", "none")
    assert SYNTAX[code] in {None, outcome.detail}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python knows the syntax")
@pytest.mark.parametrize(
    "code", ["def f[T](x: T): return 4", "type X = int\ndef f(x): return 4", "def f(x): return f'{x['a']}'"]
)
def test_syntax_of_a_later_python_is_left_to_the_sandbox(code: str):
    assert isinstance(prepared(code), Program)


@pytest.mark.parametrize(
    "code", ["-" * 100_000 + "1", "f" + "()" * 50_000, "x=" + "1+" * 50_000 + "1", "lambda:" * 20_000 + "1"]
)
def test_what_is_nested_too_deeply_to_be_read_is_left_to_the_sandbox(code: str):
    assert prepared(code) == Program(code, tuple(TESTS))


METHOD = {"entry_point": "Solution().f", "check": "def check(candidate):\n    assert candidate(nums = [3]) == 4\n"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def f(nums): return 4", "it does not define Solution, which the tests use"),
        (
            "class Solution:\n    def g(self, nums): return 4",
            "its class Solution does not define f, which the tests use",
        ),
        ("class Solution:\n    def f(self, xs): return 4", "no call in the tests fits the parameters of f(self, xs)"),
        ("class Solution:\n    def f(nums): return 4", "no call in the tests fits the parameters of f(nums)"),
        ("class Solution:\n    def f(): return 4", "no call in the tests fits the parameters of f()"),
        ("class Solution:\n    def f(self, nums): return missing(nums)", "the name missing is not defined (line 2)"),
    ],
)
def test_a_method_is_held_to_its_tests(code: str, why: str):
    outcome = prepared(code, None, **METHOD)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.detail) == ("static_error", why)


@pytest.mark.parametrize(
    "code",
    [
        "class Solution:\n    def f(self, nums: List[int]) -> Optional[int]: return heapq.nsmallest(1, nums)[0] + inf",
        "class Solution:\n    @staticmethod\n    def f(nums): return 4",
        "class Base:\n    def f(self, nums): return 4\nclass Solution(Base):\n    pass",
        "class Solution: pass\nSolution.f = lambda self, nums: 4",
        "class Solution:\n    def f(self, **named): return 4",
        "class Solution:\n    f = lambda self, nums: 4",
        "def Solution(): return Other()\nclass Other:\n    def f(self, nums): return 4",
    ],
)
def test_a_method_that_may_work_runs_with_the_preamble_of_leetcode(code: str):
    program = prepared(code, None, **METHOD)
    assert isinstance(program, Program)
    assert program.code == f"{LEETCODE_PREAMBLE.rstrip()}\n{code}"


def test_the_preamble_provides_its_names_and_keeps_the_builtins():
    scope: dict[str, object] = {}
    exec(LEETCODE_PREAMBLE, scope)
    for line in (
        "assert pow(3, 4, 5) == 1",
        "assert List[int] and Counter('aa') and heappush and heapq.heappush and gcd(4, 6) == 2 and inf > 1",
        "assert bisect.bisect_left([1, 2], 2) == bisect_left([1, 2], 2) == 1",
        "assert is_same_list(list_node([1, 2]), list_node([1, 2]))",
        "assert not is_same_list(list_node([1, 2]), list_node([1]))",
        "assert not is_same_list(list_node([1]), None) and is_same_list(list_node([]), None)",
        "tree = tree_node([1, 2, 3, None, 4])",
        "assert (tree.left.left, tree.left.right.val, tree.right.val) == (None, 4, 3)",
        "assert is_same_tree(tree, tree_node([1, 2, 3, None, 4])) and not is_same_tree(tree, tree_node([1, 2, 3, 4]))",
        "assert not is_same_tree(tree, None) and is_same_tree(tree_node([]), None)",
    ):
        exec(line, scope)


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("x = 1", "import a"),
        ('"""Doc."""\nfrom __future__ import annotations\nx = 1', '"""Doc."""'),
        ('"""Doc."""\nx = 1', "import a"),
        ("from __future__ import (\n    annotations,\n)\nx = 1", "from __future__ import ("),
        ("broken (", "import a"),
    ],
)
def test_a_preamble_leaves_what_must_come_first_in_its_place(code: str, first: str):
    whole = placed_before("import a\n", code)
    assert whole.split("\n")[0] == first
    assert sorted(whole.split("\n")) == sorted([*code.split("\n"), "import a"])
    if not code.startswith("broken"):
        compile(parsed(whole), "whole", "exec")


def test_a_program_that_is_judged_by_its_output_is_held_to_its_syntax_only():
    row = {"stdin": "3\n", "stdout": "4\n"}
    quick = "print(int(input()) + 1)\nimport sys\nsys.exit()\nundefined"
    assert prepare({"code": quick, **row}) == Program(quick, stdin="3\n", stdout="4\n")
    assert prepare({"code": "print(", **row}).status == "syntax_error"  # type: ignore[union-attr]
