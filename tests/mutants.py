"""Programs with one change each: an operator, a constant or a comparison."""

import ast
import copy
import random
from collections.abc import Iterator

from fusedata.snippets import parsed

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.USub: ast.UAdd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def mutants(code: str, count: int, seed: str) -> Iterator[str]:
    """Give at most `count` programs that differ from `code` in one place, chosen by `seed`."""
    tree = parsed(code)
    places = [(number, way) for number, node in enumerate(ast.walk(tree)) for way in _ways(node)]
    stream = random.Random(seed)
    stream.shuffle(places)
    found = {ast.unparse(tree)}
    for number, way in places:
        if len(found) > count:
            return
        changed = copy.deepcopy(tree)
        _change(list(ast.walk(changed))[number], way)
        text = ast.unparse(changed)
        if text not in found:
            found.add(text)
            yield text


def _ways(node: ast.AST) -> Iterator[int | str]:
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.AugAssign | ast.BoolOp) and type(node.op) in _OPERATORS:
        yield "operator"
    elif isinstance(node, ast.Compare):
        yield from range(len(node.ops))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str) and node.value != "":
        yield "constant"


def _change(node: ast.AST, way: int | str) -> None:
    if isinstance(node, ast.Compare):
        assert isinstance(way, int)
        node.ops[way] = _OPERATORS[type(node.ops[way])]()
    elif isinstance(node, ast.Constant):
        value = node.value
        node.value = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
    else:
        node.op = _OPERATORS[type(node.op)]()
