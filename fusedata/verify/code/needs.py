"""What tests need of a program: they fail for certain without it."""

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from fusedata.snippets import parsed
from fusedata.verify.code.certain import evaluated, straight
from fusedata.verify.code.names import bound_by, builtin_names

_PLAIN = ast.Assert | ast.Assign | ast.Expr


class Tests(NamedTuple):
    """What the tests are known to use: they fail for certain without it.

    `names` they read; `calls` they make of the entry point, which is a name ("f") or a method ("Solution().f").
    """

    names: frozenset[str]
    entry_point: str | None
    calls: tuple[ast.Call, ...]


@lru_cache(maxsize=512)
def used_by(tests: tuple[str, ...], check: str | None, entry_point: str | None, provided: str) -> Tests:
    """Read off tests what they need; of what no parser reads, nothing. `provided`: code that runs beside the program.

    A test counts where it is a plain statement: what it expects to fail stands in a `try` or a `with`.
    """
    plain = list(_plain_statements("\n".join(tests)))
    if check is not None:
        plain += _check_body(check)
    known = bound_by("\n".join([provided, *tests]))
    nodes = [node for statement in plain for node in evaluated(statement, local=False, annotations=False)]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names = frozenset() if check is not None or known is None else frozenset(read - known - builtin_names())
    if entry_point is None and len(names) == 1:
        (entry_point,) = names
    spelled = {"candidate"} if check is not None else {entry_point}
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in spelled]
    return Tests(names, entry_point, tuple(calls))


def _plain_statements(code: str) -> Iterator[ast.stmt]:
    """Give the plain statements of tests."""
    try:
        body = parsed(code).body
    except (SyntaxError, RecursionError, MemoryError):
        return
    yield from (node for node in body if isinstance(node, _PLAIN))


def _check_body(check: str) -> Iterator[ast.stmt]:
    """Give the plain statements of a function `check(candidate)`."""
    try:
        body = parsed(check).body
    except (SyntaxError, RecursionError, MemoryError):
        return
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and ast.unparse(node.args) == "candidate":
            yield from (n for n in straight(node.body) if isinstance(n, _PLAIN))
