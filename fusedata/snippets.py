"""Programs in Markdown, and LeetCode's preamble: what both reading corpora and judging responses stand on."""

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Final, NamedTuple

_FENCE: Final = re.compile(r"[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^`\n]*")
_PYTHON: Final = frozenset({"", "python", "python3", "py", "py3", "ipython", "ipython3"})


class Block(NamedTuple):
    """A fenced block: its language in lower case ("" where none is named), its text without the fence's indentation."""

    language: str
    text: str
    closed: bool
    """False: the text ended before the fence did."""


def blocks(text: str) -> list[Block]:
    """Find the fenced blocks of a Markdown text, in order; a fence may be indented, as in a list."""
    found: list[Block] = []
    opening: re.Match[str] | None = None
    held: list[str] = []
    for line in text.splitlines():
        fence = _FENCE.fullmatch(line)
        if opening is None:
            opening, held = fence, []
        elif fence and _closes(fence, opening):
            found.append(_block(opening, held, closed=True))
            opening = None
        else:
            held.append(line)
    return [*found, _block(opening, held, closed=False)] if opening else found


def _closes(fence: re.Match[str], opening: re.Match[str]) -> bool:
    return fence["fence"].startswith(opening["fence"]) and not fence["language"] and not fence[0].strip("`~ \t")


def _block(opening: re.Match[str], lines: list[str], *, closed: bool) -> Block:
    leading = (len(line) - len(line.lstrip()) for line in lines if line.strip())
    indent = min([opening.start("fence"), *leading])  # some fences are indented and their programs are not
    text = "\n".join(line[indent:] for line in lines)
    return Block(opening["language"].lower(), text, closed)


def python_blocks(text: str) -> list[Block]:
    """Find the fenced blocks that may be Python: marked so, or not marked at all."""
    return [block for block in blocks(text) if block.language in _PYTHON]


_PARSING: Final = threading.RLock()
"""Held while Python parses or compiles: in CPython before 3.11.8 two threads that do so can fail (its issue 106905)."""


def parsed(code: str) -> ast.Module:
    """Parse a program, without the warnings that Python has for it.

    Raises SyntaxError where it is none; RecursionError or MemoryError where it is nested too deeply to tell.
    """
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except ValueError as error:  # null bytes, lone surrogates
            raise SyntaxError(str(error)) from error


def compiled(tree: ast.Module) -> None:
    """Compile a program that is never run, for the errors that only the compiler finds (SyntaxError, ValueError)."""
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(tree, "program", "exec", dont_inherit=True)


def placed_before(preamble: str, code: str) -> str:
    """Put `preamble` into a program: after its docstring and `from __future__` imports, which must come first."""
    if not preamble:
        return code
    line = max((statement.end_lineno or 0 for statement in _first_statements(code)), default=0)
    lines = code.split("\n")
    return "\n".join([*lines[:line], preamble.rstrip("\n"), *lines[line:]])


def _first_statements(code: str) -> Iterator[ast.stmt]:
    try:
        body = parsed(code).body
    except (SyntaxError, RecursionError, MemoryError):
        return
    if not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in body):
        return
    for number, node in enumerate(body):
        docstring = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            return
        yield node


LEETCODE_MODULES: Final = (
    *("typing", "functools", "collections", "itertools", "heapq", "bisect", "string", "operator", "math"),
)
"""Modules all of whose names LeetCode's own preamble provides."""

LEETCODE_PREAMBLE: Final = (
    "\n".join(f"from {module} import *" for module in LEETCODE_MODULES)
    + """
from builtins import *
import bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re, string, sys
from random import randint
try:
    from sortedcontainers import SortedDict, SortedList, SortedSet
except ImportError:
    pass
inf = float("inf")

class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next

def list_node(values):
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head

def is_same_list(one, other):
    while one and other and one.val == other.val:
        one, other = one.next, other.next
    return one is None and other is None

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right

def tree_node(values):
    values = iter(values)
    root = next(values, None)
    root = None if root is None else TreeNode(root)
    level = deque([root] if root else [])
    while level:
        node = level.popleft()
        for side in ("left", "right"):
            value = next(values, None)
            if value is not None:
                setattr(node, side, TreeNode(value))
                level.append(getattr(node, side))
    return root

def is_same_tree(one, other):
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if one is None or other is None:
            if one is not other:
                return False
            continue
        if one.val != other.val:
            return False
        pairs += [(one.left, other.left), (one.right, other.right)]
    return True
"""
)
"""What LeetCode lets a Python program take for granted, and how its lists and trees are written in tests.

The builtins come after the star imports: `math.pow` would hide the `pow` of three arguments. `bisect` is the module:
models write `bisect.bisect_left` without importing it more often than a bare `bisect(…)`.
"""
