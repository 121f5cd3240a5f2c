r"""Bring an answer's tree to the shape in which it is compared.

Names, steps of a calculation and units are taken off (`x = 2 + 3 = 5` is 5 named x), `±` becomes two values,
inequalities in one name become intervals, sums and products of matrices one matrix.
"""

from fractions import Fraction
from typing import Final, NamedTuple

from fusedata.verify.mathematics.rational import UndecidedError, rational_or_none
from fusedata.verify.mathematics.tokens import Node

MAX_ITEMS: Final = 64
FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


class Named(NamedTuple):
    """An equation that only gives a value a name: `x = 3`."""

    name: Node
    value: Node


def settle(node: Node) -> Node | Named:  # noqa: C901, PLR0911 - one for each kind of node
    """A node without what says nothing about equality: units, chains of steps, brackets round one value."""
    while True:
        if node[0] in {"unit", "deg"}:
            node = node[1]
        elif node[0] == "seq" and len(node) == 2 and node[1] != "{}":  # noqa: PLR2004
            return node
        elif node[0] == "seq" and len(node) == 3 and node[1] in {"{}", "[]", ","} and node[2][:2] != ("seq", "{}"):  # noqa: PLR2004
            node = node[2]
        elif node[0] == "seq":
            return _records(node)
        elif node[0] == "neg" and node[1][0] == "seq":
            return _negated(node[1])
        elif node[0] == "rel":
            settled = _relation(node)
            if isinstance(settled, Named) or settled[0] in {"rel", "seq"}:
                return settled
            node = settled
        elif node[0] in {"add", "mul", "neg", "div"} and (matrix := matrix_value(node)):
            return matrix
        elif node[0] in {"add", "mul", "neg", "div", "pm", "mp"} and (spread := spread_signs(node)):
            return spread
        else:
            return node


def _negated(node: Node) -> Node:
    """Minus a tuple, an interval or a list."""
    items = [("neg", item) for item in node[2:]]
    if node[1] in {"[)", "(]"}:
        return ("seq", {"[)": "(]", "(]": "[)"}[node[1]], *reversed(items))
    return ("seq", node[1], *items)


# -- names and relations -------------------------------------------------------------------------------------------


def _is_name(node: Node) -> bool:
    if node[0] in {"sym", "text"}:
        return True
    if node[0] == "fn":
        return len(str(node[1])) == 1 and all(part[0] in {"sym", "num", "const"} for part in node[2:])
    if node[0] == "abs":
        return node[1][0] == "sym" and len(node[1][1]) > 1 and node[1][1].isupper()
    if node[0] in {"ratio", "div"}:
        return all(part[0] == "sym" for part in node[1:])
    return node[0] == "seq" and node[1] == "()" and all(part[0] == "sym" for part in node[2:])


def _relation(node: Node) -> Node | Named:
    """A chain of relations as what it says: a named value, an interval, a value, or a relation as it stands."""
    operands, signs = list(node[1]), list(node[2])
    while "=>" in signs:
        cut = signs.index("=>")
        operands, signs = operands[cut + 1 :], signs[cut + 1 :]
    if not signs:
        return operands[0]  # type: ignore[no-any-return]
    if signs == ["in"]:
        return Named(operands[0], operands[1]) if _is_name(operands[0]) else ("rel", tuple(operands), tuple(signs))
    if set(signs) <= {"=", "~"}:
        return _chain(operands, signs)
    if len(operands) <= 3 and set(signs) <= {"<", ">", "<=", ">="}:  # noqa: PLR2004 - low < x < high
        return _interval(operands, signs) or ("rel", tuple(operands), tuple(signs))
    return ("rel", tuple(operands), tuple(signs))


def _chain(operands: list[Node], signs: list[str]) -> Node | Named:
    """`x = 2 + 3 = 5` is x with the value 5; `1/3 = 0.33...` with an approximation keeps what stands before it."""
    if _contradicts(operands, signs):
        return ("rel", tuple(operands), tuple(signs))
    if "~" in signs:
        cut = max(signs.index("~"), 1 if _is_name(operands[0]) else 0)
        operands, signs = operands[: cut + 1], ["="] * cut
    if len(operands) == 1:
        return operands[0]
    if not _is_name(operands[0]) and _is_name(operands[-1]):
        operands = operands[::-1]
    if _is_name(operands[0]):
        return Named(operands[0], operands[-1])
    if not any(symbols(operand) for operand in operands):
        return operands[-1]
    return ("rel", tuple(operands), tuple(signs))


def _contradicts(operands: list[Node], signs: list[str]) -> bool:
    """Whether neighbours in a chain of numbers are not equal (`0 = 18`), or not about equal (`18 ~ 20`)."""
    try:
        values = [rational_or_none(operand) for operand in operands]
    except UndecidedError:
        return False
    for left, right, sign in zip(values, values[1:], signs, strict=False):
        if left is not None and right is not None and abs(left - right) > max(Fraction(1), abs(left) / 50):
            return True
        if sign == "=" and left is not None and right is not None and abs(left - right) >= 1:
            return True
    return False


def symbols(node: Node) -> set[str]:
    """The names of the symbols in a tree."""
    if node[0] == "sym":
        return {node[1]}
    return set().union(*(symbols(part) for part in node[1:] if isinstance(part, tuple) and part))


def _interval(operands: list[Node], signs: list[str]) -> Named | None:
    """`0 < x <= 5` as x in `(0, 5]`, `x > 3` as x in `(3, oo)`; None where no name stands between numbers."""
    if signs[0][0] == ">":
        operands, signs = operands[::-1], [FLIPPED[sign] for sign in reversed(signs)]
    if any(sign[0] == ">" for sign in signs):
        return None
    infinite: Node = ("const", "inf")
    if len(operands) == 2:  # noqa: PLR2004
        low, high = operands
        if _is_name(low) and not symbols(high):
            return Named(low, ("seq", "(" + "])"[signs[0] == "<"], ("neg", infinite), high))
        if _is_name(high) and not symbols(low):
            return Named(high, ("seq", "[("[signs[0] == "<"] + ")", low, infinite))
        return None
    low, name, high = operands
    if not _is_name(name) or symbols(low) or symbols(high):
        return None
    return Named(name, ("seq", "[("[signs[0] == "<"] + "])"[signs[1] == "<"], low, high))


# -- records -------------------------------------------------------------------------------------------------------


def _records(node: Node) -> Node | Named:
    """A list with its `±` spread, one name for all its values (`x = 1, 2`), or its named values in records."""
    if node[1] not in {",", "{}"}:
        return node
    items: list[Node | Named] = []
    for item in node[2:]:
        settled = settle(item)
        items += settled[2:] if settled[:2] == ("seq", ",") else [settled]
    named = [item for item in items if isinstance(item, Named)]
    if len(named) == len(items) > 1:
        return _named_records(node[1], named)
    values = ("seq", node[1], *(item.value if isinstance(item, Named) else item for item in items))
    return Named(items[0].name, values) if len(named) == 1 and isinstance(items[0], Named) else values


def _named_records(brackets: str, named: list[Named]) -> Node:
    """`x=1, y=2` is one record, `x=1, y=2, x=3, y=4` are two, and so are `x=1, x=3`."""
    names = [item.name for item in named]
    period = next((at for at, name in enumerate(names) if at and name == names[0]), len(names))
    if len(names) % period or any(name != names[at % period] for at, name in enumerate(names)):
        period = 1
    groups = [("record", *map(tuple, named[at : at + period])) for at in range(0, len(named), period)]
    return ("seq", brackets, *groups) if len(groups) > 1 else groups[0]


# -- plus or minus, matrices ---------------------------------------------------------------------------------------


def spread_signs(node: Node) -> Node | None:
    r"""`a \pm b` as the list of both its values; None where there is no such sign, or nested ones."""
    if not _has_mark(node):
        return None
    return ("seq", ",", _signed(node, 1), _signed(node, -1))


def _has_mark(node: Node) -> bool:
    return node[0] in {"pm", "mp"} or any(isinstance(part, tuple) and part and _has_mark(part) for part in node[1:])


def _signed(node: Node, sign: int) -> Node:
    if node[0] in {"pm", "mp"}:
        left, right = _signed(node[1], sign), _signed(node[2], sign)
        return ("add", left, right if (sign > 0) == (node[0] == "pm") else ("neg", right))
    return (node[0], *(_signed(part, sign) if isinstance(part, tuple) and part else part for part in node[1:]))


def matrix_value(node: Node) -> Node | None:
    """A sum, a product or a multiple of matrices as one matrix; None where there is none."""
    if node[0] == "matrix":
        return node
    if node[0] == "neg":
        inner = matrix_value(node[1])
        return inner and _scaled(("num", Fraction(-1)), inner)
    if node[0] not in {"add", "mul", "div"} or not any(isinstance(p, tuple) and p[0] == "matrix" for p in node[1:]):
        return None
    parts = [matrix_value(part) or part for part in node[1:]]
    total = parts[0]
    for part in parts[1:]:
        step = _matrix_step(node[0], total, part)
        if step is None:
            return None
        total = step
    return total


def _matrix_step(kind: str, left: Node, right: Node) -> Node | None:
    matrices = left[0] == "matrix", right[0] == "matrix"
    if kind == "div":
        return _scaled(("div", ("num", Fraction(1)), right), left) if matrices == (True, False) else None
    if matrices == (True, True):
        return _matrix_sum(left, right) if kind == "add" else _matrix_product(left, right)
    if kind == "add" or not any(matrices):
        return None
    return _scaled(right, left) if matrices[0] else _scaled(left, right)


def _scaled(factor: Node, matrix: Node) -> Node:
    return ("matrix", *(tuple(("mul", factor, item) for item in row) for row in matrix[1:]))


def _matrix_sum(left: Node, right: Node) -> Node | None:
    if [len(row) for row in left[1:]] != [len(row) for row in right[1:]]:
        return None
    rows = zip(left[1:], right[1:], strict=True)
    return ("matrix", *(tuple(("add", *pair) for pair in zip(*row, strict=True)) for row in rows))


def _matrix_product(left: Node, right: Node) -> Node | None:
    inner = len(right) - 1
    if (
        any(len(row) != inner for row in left[1:])
        or len({len(row) for row in right[1:]}) != 1
        or inner * len(left) > MAX_ITEMS
    ):
        return None
    columns = list(zip(*right[1:], strict=True))
    return (
        "matrix",
        *(
            tuple(("add", *(("mul", *pair) for pair in zip(row, column, strict=True))) for column in columns)
            for row in left[1:]
        ),
    )
