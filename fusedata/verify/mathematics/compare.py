r"""Decide whether two answers are the same, in three values: True, False, and None for "not known here".

Lists, sets, tuples, intervals, matrices, equations, names and units are taken apart here; single values go to a
`Judge`: the exact one of this module, or the numeric one of `mathematics.numeric` in a worker process.
"""

from fractions import Fraction
from typing import Final, Protocol

from fusedata.verify.mathematics.rational import rational_or_none
from fusedata.verify.mathematics.shape import FLIPPED, MAX_ITEMS, Named, settle
from fusedata.verify.mathematics.tokens import Node
from fusedata.verify.mathematics.units import FOREIGN, clash, unit_of


class Judge(Protocol):
    """Compares single values."""

    def same(self, left: Node, right: Node) -> bool | None:
        """Whether two values are equal."""
        ...

    def proportion(self, left: Node, right: Node) -> int | None:
        """The sign of a constant c with left = c * right: 1 or -1; 0 where there is none; None where unknown."""
        ...


# -- structures ----------------------------------------------------------------------------------------------------


def equal(left: Node, right: Node, judge: Judge) -> bool | None:
    """Whether the answers `left` (the gold) and `right` are the same."""
    if left == right:
        return True
    if clash(left, right):
        return _in_other_units(left, right, judge)
    if left[0] == right[0] == "rel" and _relations(left, right, judge):
        return True
    shapes = settle(left), settle(right)
    names = [shape.name for shape in shapes if isinstance(shape, Named)]
    if not names:
        return _equal(shapes[0], shapes[1], judge)
    if len(names) == 2 and not _same_name(names[0], names[1]):  # noqa: PLR2004 - both are named
        return False
    values = [shape.value if isinstance(shape, Named) else shape for shape in shapes]
    return equal(values[0], values[1], judge)


def _in_other_units(left: Node, right: Node, judge: Judge) -> bool | None:
    """5 cents are not 5 dollars; whether 500 cents are, is not known here."""
    units = unit_of(left), unit_of(right)
    names = {unit[1] for unit in units if unit}
    if "¤" in names and names & FOREIGN:
        return None
    same_dimension = units[0] and units[1] and units[0][::2] == units[1][::2]
    return None if same_dimension and equal(left[1], right[1], judge) is False else False


def _equal(left: Node, right: Node, judge: Judge) -> bool | None:  # noqa: PLR0911 - one for each kind
    kinds = {left[0], right[0]}
    if kinds & {"pct"}:
        return _percents(left, right, judge)
    if kinds & {"text", "base"}:
        return _words(left) == _words(right)
    if kinds & {"rel"}:
        return _relations(left, right, judge) if kinds == {"rel"} else None if kinds & {"seq", "union"} else False
    if kinds & {"record"}:
        return _same_records(left, right, judge)
    if kinds & {"seq"}:
        return _sequences(left, right, judge)
    if kinds & {"matrix"}:
        return _matrices(left, right, judge) if kinds == {"matrix"} else False
    if kinds & {"union", "ratio"}:
        if left[0] != right[0]:
            return _clock(left, right, judge) if kinds & {"ratio"} and not kinds & {"union"} else False
        if left[0] == "ratio":
            return _ratios(left, right, judge)
        return matched(left[1:], right[1:], judge) or None
    return judge.same(left, right)


def _words(node: Node) -> str:
    """A text answer, folded: letters and digits only. A lone symbol counts as text, `52_8` keeps its base."""
    if node[0] == "base":
        return f"{node[1]}_{_BASES.get(node[2].lower(), node[2])}"
    if node[0] in {"text", "sym"}:
        return "".join(char for char in str(node[1]).casefold() if char.isalnum())
    if node[0] == "const":
        return str(node[1])
    if node[0] == "mul" and all(part[0] in {"sym", "const"} for part in node[1:]):
        return "".join(_words(part) for part in node[1:])
    return f"\0{node[0]}"


_BASES: Final = {
    word: str(value)
    for value, word in enumerate(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ],
        start=2,
    )
}


def _percents(left: Node, right: Node, judge: Judge) -> bool | None:
    """`28%` is 0.28; and 28, where a side leaves the sign off, but only above 1 (`0.5` is never `0.5%`)."""
    if left[0] == right[0]:
        return equal(left[1], right[1], judge)
    percent, plain = (left, right) if left[0] == "pct" else (right, left)
    if plain[0] in {"text", "seq", "rel", "matrix", "ratio", "union", "base"}:
        return False
    whole = judge.same(percent[1], plain)
    number = rational_or_none(percent[1])
    if whole and number is not None and abs(number) > 1:
        return True
    scaled = judge.same(("div", percent[1], ("num", Fraction(100))), plain)
    return scaled if scaled is not False or whole is not None else None


# -- names and relations -------------------------------------------------------------------------------------------


def _same_name(left: Node, right: Node) -> bool:
    """Whether two names may stand for the same; a function's argument is only a letter."""
    if left[0] == right[0] == "fn":
        return bool(left[1] == right[1]) and (left == right or all(p[0] == "sym" for p in (*left[2:], *right[2:])))
    if "text" in {left[0], right[0]}:
        return True
    return left == right or {left[0], right[0]} == {"fn", "sym"}


def _relations(left: Node, right: Node, judge: Judge) -> bool | None:
    if len(left[2]) != 1 or len(right[2]) != 1 or {*left[2], *right[2]} & {"in", "~", "->"}:
        return (left[2] == right[2] and every(left[1], right[1], judge)) or None
    direct, turned = left[2] == right[2], left[2][0] == FLIPPED[right[2][0]]
    if not direct and not turned:
        return False
    sides = [("add", node[1][0], ("neg", node[1][1])) for node in (left, right)]
    sign = judge.proportion(sides[0], sides[1])
    if sign is None:
        return None
    return (sign == 1 and direct) or (sign == -1 and turned)


def _clock(left: Node, right: Node, judge: Judge) -> bool | None:
    """5:00 is 5 o'clock; whether 1:2 is meant by 1/2 is left open."""
    ratio, other = (left, right) if left[0] == "ratio" else (right, left)
    full_hour = len(ratio) == 3 and rational_or_none(ratio[2]) == 0  # noqa: PLR2004
    if full_hour:
        return equal(ratio[1], other, judge)
    quotient = ("div", ratio[1], ratio[2]) if len(ratio) == 3 else ratio[1]  # noqa: PLR2004
    return False if judge.same(quotient, other) is False else None


def _ratios(left: Node, right: Node, judge: Judge) -> bool | None:
    """2:3 may be 4:6, but 3:15 as a time is not 6:30: what is proportional is left open."""
    verdict = every(left[1:], right[1:], judge)
    if verdict is not False or len(left) != len(right):
        return verdict
    values = [[rational_or_none(item) for item in side[1:]] for side in (left, right)]
    scales = {a / b if a is not None and b else None for a, b in zip(*values, strict=True)}
    return None if len(scales) == 1 else False


# -- lists, tuples, sets, intervals --------------------------------------------------------------------------------


def _same_records(left: Node, right: Node, judge: Judge) -> bool | None:
    """Records by their names; against a tuple or a list, by their order."""
    if left[0] == right[0]:
        if {name for name, _ in left[1:]} != {name for name, _ in right[1:]}:
            return False
        values = dict(right[1:])
        return every(tuple(value for _, value in left[1:]), tuple(values[name] for name, _ in left[1:]), judge)
    record, other = (left, right) if left[0] == "record" else (right, left)
    values_only = tuple(value for _, value in record[1:])
    if other[0] == "seq":
        if any(item[0] == "record" for item in other[2:]):
            return False
        return every(values_only, other[2:], judge)
    return equal(values_only[0], other, judge) if len(values_only) == 1 else False


def _sequences(left: Node, right: Node, judge: Judge) -> bool | None:  # noqa: PLR0911 - one for each pair of kinds
    if left[0] != right[0]:
        other = right if left[0] == "seq" else left
        if other[0] == "matrix" and "seq" in {left[0], right[0]}:
            return _vector(left, right, judge)
        if other[0] == "union":
            return None
        single, listed = (right, left) if left[0] == "seq" else (left, right)
        distinct = len(listed) > 2 and len(set(listed[2:])) == len(listed[2:])  # noqa: PLR2004
        return listed[1] == "," and distinct and all(equal(single, item, judge) for item in listed[2:])
    kinds = {left[1], right[1]}
    if "," in kinds and kinds & _INTERVALS and any(map(_is_bound, (*left[2:], *right[2:]))):
        return None
    items = left[2:], right[2:]
    if len(items[0]) > MAX_ITEMS or len(items[1]) > MAX_ITEMS:
        return None
    if _dotted(items[0]) or _dotted(items[1]):
        return _with_dots(items[0], items[1], judge)
    if kinds <= {",", "{}"}:
        return matched(_distinct(items[0], kinds), _distinct(items[1], kinds), judge)
    if len(kinds) == 1 or ("," in kinds and not kinds & {"[)", "(]"}):
        return every(items[0], items[1], judge)
    return False


_INTERVALS: Final = frozenset(("()", "[]", "[)", "(]"))


def _is_bound(item: Node) -> bool:
    """Whether a list item is an inequality: several of them may be one interval."""
    return item[0] == "record" and all(value[0] == "seq" and value[1] in _INTERVALS for _, value in item[1:])


def _distinct(items: tuple[Node, ...], kinds: set[str]) -> tuple[Node, ...]:
    """Items without repeats, where they are solutions (tuples) or a set; roots `1, 1, 2` keep theirs."""
    if kinds == {","} and not all(item[0] == "seq" for item in items):
        return items
    return tuple(dict.fromkeys(items))


def _dotted(items: tuple[Node, ...]) -> bool:
    return ("sym", "...") in items


def _with_dots(left: tuple[Node, ...], right: tuple[Node, ...], judge: Judge) -> bool | None:
    """Lists with an ellipsis: the same items are the same list, another first or last item is another list."""
    if len(left) == len(right) and every(left, right, judge):
        return True
    ends = [equal(left[0], right[0], judge), equal(left[-1], right[-1], judge)]
    return False if False in ends else None


def _vector(left: Node, right: Node, judge: Judge) -> bool | None:
    """A column or a row against a tuple."""
    matrix, other = (left, right) if left[0] == "matrix" else (right, left)
    if other[1] != "()":
        return False
    flat = matrix[1] if len(matrix) == 2 else tuple(row[0] for row in matrix[1:] if len(row) == 1)  # noqa: PLR2004
    return every(flat, other[2:], judge) if len(flat) in {len(matrix) - 1, len(matrix[1])} else False


def every(left: tuple[Node, ...], right: tuple[Node, ...], judge: Judge) -> bool | None:
    """Whether two sequences are the same, item by item."""
    if len(left) != len(right):
        return False
    unknown = False
    for pair in zip(left, right, strict=True):
        verdict = equal(*pair, judge)
        if verdict is False:
            return False
        unknown |= verdict is None
    return None if unknown else True


def matched(left: tuple[Node, ...], right: tuple[Node, ...], judge: Judge) -> bool | None:
    """Whether two collections hold the same items, in any order."""
    if len(left) != len(right):
        return False
    rest = list(right)
    unknown = False
    for item in left:
        verdicts = [equal(item, other, judge) for other in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            unknown = True
        else:
            return False
    return None if unknown else True


# -- plus or minus, matrices ---------------------------------------------------------------------------------------


def _matrices(left: Node, right: Node, judge: Judge) -> bool | None:
    rows = left[1:], right[1:]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    return every(tuple(item for row in rows[0] for item in row), tuple(item for row in rows[1] for item in row), judge)
