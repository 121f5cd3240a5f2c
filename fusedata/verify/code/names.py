"""Names: what code binds and unbinds, and what every program has."""

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Final

from fusedata.snippets import LEETCODE_MODULES, parsed

Function = ast.FunctionDef | ast.AsyncFunctionDef
_ALWAYS: Final = frozenset(
    ("exit", "quit", "copyright", "credits", "license", "help", "__file__", "__builtins__", "__annotations__"),
)


def stores(node: ast.AST) -> tuple[str, ...]:
    """Give the names that one node binds or unbinds."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return (node.id,)
    if isinstance(node, ast.alias):
        return ((node.asname or node.name).split(".")[0],)
    if isinstance(node, ast.Global | ast.Nonlocal):
        return tuple(node.names)
    if isinstance(node, Function | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return (node.name,) if node.name else ()
    return ()


def gone(node: ast.AST) -> Iterator[str]:
    """Give what a node unbinds: a `del`, or the end of a handler."""
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
        yield node.id


_ON_THE_SIDE: Final = frozenset(
    (
        *("exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "builtins", "modules", "inspect", "gc"),
        *("import_module", "importlib", "ctypes", "settrace", "_getframe", "f_globals", "f_locals", "f_builtins"),
        *("__import__", "__builtins__", "__dict__", "__globals__"),
        *("__getattr__", "__getattribute__", "__prepare__", "__missing__"),
    )
)
"""Names by which code could define others where nobody sees it."""


def words(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Give every name that code reads, binds, imports, or takes of another."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
        elif isinstance(node, Function):
            found.add(node.name)
    return frozenset(found)


def is_blind(found: frozenset[str]) -> bool:
    """Whether code with these `words` could define names where nobody sees it."""
    return not found.isdisjoint(_ON_THE_SIDE)


@lru_cache(maxsize=512)
def bound_by(code: str) -> frozenset[str] | None:
    """Give the names that trusted code may bind for others, in whatever scope; None where it could bind any."""
    try:
        nodes = list(ast.walk(parsed(code)))
    except (SyntaxError, RecursionError, MemoryError):
        return None
    starred = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    if is_blind(words(nodes) - _HARMLESS) or not all(module in _PROVIDED for module in starred):
        return None
    stars = (name for module in starred for name in _PROVIDED[module or ""])
    return frozenset(name for node in nodes for name in stores(node)).union(stars)


def _public(module: str) -> frozenset[str]:
    held = import_module(module)
    return frozenset(getattr(held, "__all__", [name for name in vars(held) if not name.startswith("_")]))


_HARMLESS: Final = frozenset(("builtins", "setattr"))
"""What LeetCode's preamble uses: importing from builtins, and setting attributes of nodes."""
_PROVIDED: Final = {module: _public(module) for module in (*LEETCODE_MODULES, "builtins")}
"""What `from module import *` binds, for the modules of LeetCode's preamble."""


@lru_cache(maxsize=1)
def builtin_names() -> frozenset[str]:
    """Give the names that every program has."""
    return _PROVIDED["builtins"] | _ALWAYS | {"__name__", "__doc__"}
