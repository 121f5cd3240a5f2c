"""What runs for certain: the parts of a statement that are evaluated whenever it completes.

A name that cannot be resolved condemns a program only here. In a branch, a loop's body, a `try`, a `with` or a function
that no test is known to call, it may never be read.
"""

import ast
from collections.abc import Iterator, Sequence

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_BRANCHES = (ast.If, ast.While, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


def evaluated(node: ast.AST, *, local: bool, annotations: bool) -> Iterator[ast.AST]:
    """Give the expressions that are evaluated whenever `node` completes.

    `local`: it stands in a function, where annotations of variables are not evaluated. `annotations`: others are (not
    after `from __future__ import annotations`).
    """
    yield node
    for child in _children(node, local=local, annotations=annotations):
        yield from evaluated(child, local=local, annotations=annotations)


def _children(node: ast.AST, *, local: bool, annotations: bool) -> Sequence[ast.AST]:  # noqa: C901, PLR0911, PLR0912 - a case a kind
    match node:
        case ast.BoolOp():
            return node.values[:1]
        case ast.IfExp() | ast.If() | ast.While() | ast.Assert():
            return [node.test]
        case ast.Compare():
            return [node.left, node.comparators[0]]
        case ast.For() | ast.AsyncFor():
            return [node.iter]
        case ast.With() | ast.AsyncWith():
            return [node.items[0].context_expr]
        case ast.Match():
            return [node.subject]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return [node.generators[0].iter]
        case ast.AnnAssign():
            own = [node.annotation] if annotations and not local else []
            return [*([node.value] if node.value else []), *own]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            own = _annotations(node) if annotations else []
            return [*node.decorator_list, *_defaults(node.args), *own]
        case ast.Lambda():
            return _defaults(node.args)
        case ast.ClassDef():
            return [*node.decorator_list, *node.bases, *(k.value for k in node.keywords), *_class_body(node)]
        case ast.Try() | ast.TryStar() | ast.Delete():
            return []
        case _ if type(node).__name__ == "TypeAlias":  # Python 3.12 and later, evaluated when asked for
            return []
        case _:
            return list(ast.iter_child_nodes(node))


def _class_body(node: ast.ClassDef) -> Sequence[ast.stmt]:
    """Give the body of a class that is nothing special: bases or a metaclass could provide names to it."""
    return straight(node.body) if is_plain(node) else []


def is_plain(node: ast.ClassDef) -> bool:
    """Whether a class is built by `type` from its body alone."""
    only_object = all(isinstance(base, ast.Name) and base.id == "object" for base in node.bases)
    return only_object and not node.keywords and not node.decorator_list


def straight(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Give the statements at the beginning of a body up to the first after which the rest may be skipped."""
    end = next((number for number, node in enumerate(body, start=1) if _may_leave(node)), len(body))
    return list(body[:end])


def _may_leave(node: ast.AST) -> bool:
    """Whether a statement may end the body that it stands in without an error."""
    if isinstance(node, ast.Return | ast.Break | ast.Continue):
        return True
    return isinstance(node, _BRANCHES) and any(map(_may_leave, _within(node)))


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Give the nodes within a statement, those of inner functions and classes aside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _SCOPES):
            yield child
            yield from _within(child)


def is_generator(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether calling a function does not run its body yet."""
    if isinstance(node, ast.AsyncFunctionDef):
        return True
    return any(isinstance(child, ast.Yield | ast.YieldFrom) for child in _within(ast.Module(node.body, [])))


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    held = node.args
    arguments = [*held.posonlyargs, *held.args, *held.kwonlyargs, held.vararg, held.kwarg]
    found = [argument.annotation for argument in arguments if argument and argument.annotation]
    return [*found, *([node.returns] if node.returns else [])]
