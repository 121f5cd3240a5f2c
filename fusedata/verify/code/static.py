"""What is wrong with a program for certain, before it runs: its syntax, names, entry point, or parameters.

pyflakes resolves the names. It condemns a program only where no run could pass: the name is read whenever the program
is loaded or the tested function returns, nothing in the program could define it on the side, and some plain test needs
it. All else is left to the sandbox, which gives the same programs `error`. Annotations of functions are evaluated when
they are defined, as up to Python 3.13, which the sandbox's image has.
"""

import ast
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pyflakes.checker import Checker, ModuleScope
from pyflakes.messages import UndefinedName

from fusedata.snippets import compiled, parsed
from fusedata.verify.code.certain import evaluated, is_generator, is_plain, straight
from fusedata.verify.code.names import Function, bound_by, builtin_names, gone, is_blind, stores, words
from fusedata.verify.code.needs import Tests

MAX_CHARS: Final = 200_000
"""A longer program is run without being checked."""

_NEWER: Final = re.compile(r"\b(?:[rR]?[fFtT][rR]?)['\"]|^\s*type\s+\w+|\b(?:def|class)\s+\w+\s*\[|\bexcept\b[^:(]*,")
"""Beginnings of syntax that came with Python 3.12 to 3.14."""
_METHOD: Final = re.compile(r"(\w+)\(\)\.(\w+)")


class Problem(NamedTuple):
    """Why a program is not run: `syntax_error` or `static_error`, and one line that says what."""

    status: str
    detail: str


class _Program(NamedTuple):
    tree: ast.Module
    nodes: Sequence[ast.AST]
    scope: ModuleScope
    unresolved: frozenset[tuple[object, ...]]
    """Name, line and column of the names that pyflakes cannot resolve."""
    present: frozenset[str]
    """What is there without the program: builtins, and what its preamble and its tests bind."""
    unbound: frozenset[str]
    """What a `del` or the end of a handler unbinds: whether before it is read, is not known."""


def static_problem(code: str, tests: Tests, provided: str | None = "") -> Problem | None:
    """Say why no run of `code` can pass; None: it may.

    Names that the code `provided` binds count as present. None: only the syntax counts, as for a program that may end
    whenever it has printed its output.
    """
    if len(code) > MAX_CHARS:
        return None
    try:
        tree = parsed(code)
        compile_problem = _compiled(tree)
        if compile_problem or provided is None:
            return compile_problem
        return _first(tree, tests, provided)
    except SyntaxError as error:
        return None if _may_be_newer(error) else Problem("syntax_error", _said(error))
    except (RecursionError, MemoryError):
        return None


def _may_be_newer(error: SyntaxError) -> bool:
    """Whether a later Python, which the sandbox may have, could take what this one refuses."""
    return error.msg.startswith(("f-string", "unterminated f-string")) or bool(_NEWER.search(error.text or ""))


def _compiled(tree: ast.Module) -> Problem | None:
    """Find what only the compiler refuses: `return` outside a function, `nonlocal` without a name, ..."""
    try:
        compiled(tree)
    except SyntaxError as error:
        return Problem("syntax_error", _said(error))
    except ValueError:
        return None
    return None


def _said(error: SyntaxError) -> str:
    return f"{error.msg} (line {error.lineno})" if error.lineno else str(error.msg)


def _first(tree: ast.Module, tests: Tests, provided: str) -> Problem | None:
    nodes = list(ast.walk(tree))
    names, used = bound_by(provided), words(nodes)
    if names is None or is_blind(used):
        return None
    checker = Checker(tree, builtins=builtin_names() | (names & used), withDoctest=False)
    (scope,) = (scope for scope in checker.deadScopes if isinstance(scope, ModuleScope))
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in nodes):
        return None
    undefined = [m for m in checker.messages if isinstance(m, UndefinedName)]
    unresolved = frozenset((*m.message_args, m.lineno, m.col) for m in undefined)
    unbound = frozenset(name for node in nodes for name in gone(node))
    program = _Program(tree, nodes, scope, unresolved, builtin_names() | names, unbound)
    found = next((detail for check in _CHECKS if (detail := check(program, tests))), None)
    return Problem("static_error", found) if found else None


def _missing(program: _Program, tests: Tests) -> str | None:
    """Say what the tests use and the program does not define."""
    method = _METHOD.fullmatch(tests.entry_point or "")
    entry = [method[1] if method else tests.entry_point] if tests.entry_point and tests.calls else []
    for name in (*entry, *sorted(tests.names)):
        if name.isidentifier() and name not in program.scope and name not in program.unbound | program.present:
            return f"it does not define {name}, which the tests use"
    if method and tests.calls and (owner := _class(program, method[1])) and is_plain(owner):
        bound = {name for node in ast.walk(owner) for name in stores(node)}
        if method[2] not in bound and not _assigned(program, method[2]):
            return f"its class {method[1]} does not define {method[2]}, which the tests use"
    return None


def _assigned(program: _Program, attribute: str) -> bool:
    nodes = (node for node in program.nodes if isinstance(node, ast.Attribute))
    return any(node.attr == attribute and isinstance(node.ctx, ast.Store) for node in nodes)


def _misfitting(program: _Program, tests: Tests) -> str | None:
    """Say that no call in the tests fits the parameters of the entry point."""
    function = _tested(program, tests)
    if function is None or not tests.calls:
        return None
    skipped = 1 if _METHOD.fullmatch(tests.entry_point or "") else 0
    if any(_fits(function.args, call, skipped) for call in tests.calls):
        return None
    return f"no call in the tests fits the parameters of {function.name}({ast.unparse(function.args)})"


def _tested(program: _Program, tests: Tests) -> Function | None:
    """Find the one plain function that the entry point is."""
    method = _METHOD.fullmatch(tests.entry_point or "")
    body: Sequence[ast.stmt] = program.tree.body
    if method:
        owner = _class(program, method[1])
        if owner is None or not is_plain(owner) or _assigned(program, method[2]):
            return None
        body = owner.body
    name = method[2] if method else tests.entry_point
    found = [node for node in body if isinstance(node, Function) and node.name == name]
    plain = len(found) == 1 and found == _bearers(program, name) and not found[0].decorator_list
    return found[0] if plain else None


def _class(program: _Program, name: str) -> ast.ClassDef | None:
    """Find the class that is all that ever bears its name."""
    found = [node for node in program.tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return found[0] if len(found) == 1 and found == _bearers(program, name) else None


def _bearers(program: _Program, name: str | None) -> list[ast.AST]:
    return [node for node in program.nodes if name in stores(node)]


def _fits(parameters: ast.arguments, call: ast.Call, skipped: int) -> bool:
    """Whether a call may bind; `skipped` parameters are given already (`self`)."""
    if any(isinstance(a, ast.Starred) for a in call.args) or any(keyword.arg is None for keyword in call.keywords):
        return True
    ordered = [p.arg for p in (*parameters.posonlyargs, *parameters.args)]
    places, given = ordered[skipped:], set(ordered[:skipped])
    if len(given) < skipped and not parameters.vararg:
        return False
    by_name = {p.arg for p in (*parameters.args, *parameters.kwonlyargs)} - given
    taken, named = set(places[: len(call.args)]), {keyword.arg for keyword in call.keywords}
    if len(call.args) > len(places) and not parameters.vararg:
        return False
    if named & taken & by_name or (not parameters.kwarg and not named <= by_name):
        return False
    optional = set(ordered[len(ordered) - len(parameters.defaults) :])
    required = {p.arg for p, d in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if d is None}
    return (required | set(places)) - optional <= taken | named


def _undefined(program: _Program, tests: Tests) -> str | None:
    """Say which name is read for certain and defined nowhere."""
    if not program.unresolved:
        return None
    eager = not any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in program.tree.body)
    function = _tested(program, tests) if tests.calls else None
    body = [] if function is None or is_generator(function) else straight(function.body)
    nodes = [
        node
        for statements, local in ((program.tree.body, False), (body, True))
        for statement in statements
        for node in evaluated(statement, local=local, annotations=eager)
        if isinstance(node, ast.Name) and node.id not in program.unbound
    ]
    found = next((n for n in nodes if (n.id, n.lineno, n.col_offset) in program.unresolved), None)
    return f"the name {found.id} is not defined (line {found.lineno})" if found else None


_CHECKS: Final[tuple[Callable[[_Program, Tests], str | None], ...]] = (_missing, _misfitting, _undefined)
