"""One assert into the values to ask for and what is expected of them, or None where that cannot be done safely.

A split must not move what is expected into the child: `f(3) - 9 == 0` holds 9 in the expression, and an object of the
program's own could answer 0 to any subtraction. So an expression that computes with what the program returned is split
only where the constant outside cannot be guessed, and comparisons within an expression never are.
"""

import ast
from typing import Final, NamedTuple

from fusedata.verify.sandbox.expect import Deferred, Expectation
from fusedata.verify.sandbox.values import MOST_HASHED

CLEAN: Final = frozenset(
    (
        *("abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict", "divmod"),
        *("enumerate", "filter", "float", "format", "frozenset", "hex", "int", "len", "list", "map", "max", "min"),
        *("oct", "ord", "pow", "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple"),
        *("zip", "math", "string", "itertools", "collections", "functools", "operator", "datetime"),
        *("Counter", "OrderedDict", "defaultdict", "inf", "nan"),
    )
)
"""Names that mean the same where no program is: a constant may be computed with them in a child of its own."""
_TRANSPARENT: Final = frozenset(
    (
        *("abs", "bool", "dict", "float", "int", "iter", "len", "list", "max", "min", "next", "round", "set"),
        *("sorted", "str", "sum", "tuple", "type", "repr"),
    )
)
"""Functions that leave the answer to their argument's value or to a conversion of it."""
_FOR_NAMES: Final = frozenset(
    ("int", "float", "str", "list", "dict", "set", "tuple", "bool", "bytes", "complex", "frozenset", "bytearray")
)
_OPERATORS: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Eq: ("==", "=="),
    ast.NotEq: ("!=", "!="),
    ast.Lt: ("<", ">"),
    ast.LtE: ("<=", ">="),
    ast.Gt: (">", "<"),
    ast.GtE: (">=", "<="),
    ast.In: ("in", "contains"),
    ast.NotIn: ("not in", "lacks"),
}
"""The relation of value to constant where the value stands left, and where it stands right."""
_OPPOSITES: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


class Split(NamedTuple):
    """A value to ask for (or a pair), how, and what is expected of it."""

    kind: str
    values: tuple[ast.expr, ...]
    expectation: Expectation


class Constants:
    """The constants of one set of tests that are no literals, and the names that those may use."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.known = set(CLEAN)
        self.bound: dict[str, ast.expr] = {}
        self.local: set[str] = set()
        self.expected: set[str] = set()

    def bind(self, node: ast.stmt) -> bool:
        """Take in `name = constant` of the tests, which the child is not told unless it needs it; whether it is one."""
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, ast.Name) or not isinstance(node, ast.Assign) or not self.clean(node.value):
            return False
        self.bound[target.id] = node.value
        self.known.discard(target.id)
        return True

    def define(self, node: ast.stmt) -> None:
        """Take in what any other statement of the tests binds."""
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        names |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        self.local |= names
        self.known -= names
        for name in names:
            self.bound.pop(name, None)

    def meant(self, node: ast.expr) -> ast.expr:
        """What a side of a comparison stands for: a name that the tests bound to a constant is that constant."""
        if isinstance(node, ast.Name) and node.id in self.bound:
            self.expected.add(node.id)
            return self.bound[node.id]
        return node

    def know(self, node: ast.Import | ast.ImportFrom) -> None:
        """Take in names that an import of the tests binds."""
        self.known |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}

    def clean(self, node: ast.expr) -> bool:
        """Whether an expression uses no name that could be the program's."""
        bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        bound |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        return used <= self.known | bound

    def take(self, node: ast.expr) -> object:
        """The value of a literal, or a Deferred for what a child is to evaluate. Raises ValueError for huge sets."""
        hashed = sum(len(n.elts) for n in ast.walk(node) if isinstance(n, ast.Set))
        hashed += sum(len(n.keys) for n in ast.walk(node) if isinstance(n, ast.Dict))
        if hashed <= MOST_HASHED:
            try:
                return ast.literal_eval(node)
            except (ValueError, TypeError):
                pass
        self.sources.append(f"({ast.unparse(node)}\n)")
        return Deferred(len(self.sources) - 1)


def split_assert(test: ast.expr, constants: Constants) -> list[Split] | None:
    """The splits whose holding is what the test says, in order; None where it has to run as it stands."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        parts = [split_assert(value, constants) for value in test.values]
        return None if None in parts else [split for part in parts if part for split in part]
    found = _split(test, constants)
    return None if found is None else [found]


def _split(test: ast.expr, constants: Constants) -> Split | None:
    positive = True
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, positive = test.operand, not positive
    if isinstance(test, ast.Compare):
        return _comparison(test, constants, positive=positive)
    if isinstance(test, ast.Call):
        found = _close(test, constants) or _instance(test, constants)
        if found:
            return found if positive else None
    if not _plain(test) or not _flat(test, constants):
        return None
    return Split("truth", (test,), Expectation("==", positive))


def _comparison(test: ast.Compare, constants: Constants, *, positive: bool) -> Split | None:
    if len(test.ops) != 1:
        return None
    left, right = constants.meant(test.left), constants.meant(test.comparators[0])
    kind = type(test.ops[0]) if positive else _OPPOSITES.get(type(test.ops[0]))
    if kind is None:
        return None
    if kind in {ast.Is, ast.IsNot}:
        return _identity(left, right, "is" if kind is ast.Is else "is not", constants)
    relation, reflected = _OPERATORS[kind]
    return _near(left, right, relation, constants) or _sides(left, right, relation, reflected, constants)


def _sides(left: ast.expr, right: ast.expr, relation: str, reflected: str, constants: Constants) -> Split | None:
    """A value and a constant, whichever side it stands on; or two values."""
    known = constants.clean(left), constants.clean(right)
    if known == (False, True):
        return _against(left, right, relation, constants)
    if known == (True, False):
        return _against(right, left, reflected, constants)
    if not (_computed(left, constants) and _computed(right, constants)):
        return None
    return Split("value", (left, right), Expectation(f"pair {relation}"))


def _computed(node: ast.expr, constants: Constants) -> bool:
    """Whether a side is a call of the program's, with nothing in it that only the tests know."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    called = any(isinstance(n, ast.Call) for n in ast.walk(node))
    return called and _plain(node) and _flat(node, constants) and not names & constants.local


def _against(value: ast.expr, constant: ast.expr, relation: str, constants: Constants) -> Split | None:
    """A value against a constant; not where the value is computed from what it could be told."""
    if not _plain(value):
        return None
    known = constants.take(constant)
    if (_guessable(known) or relation not in {"==", "contains"}) and not _flat(value, constants):
        return None
    return Split("value", (value,), Expectation(relation, known))


def _identity(left: ast.expr, right: ast.expr, relation: str, constants: Constants) -> Split | None:
    if not isinstance(right, ast.Constant) or not (right.value is None or isinstance(right.value, bool)):
        return None
    if not _plain(left) or not _flat(left, constants):
        return None
    return Split("value", (left,), Expectation(relation, right.value))


def _near(left: ast.expr, right: ast.expr, relation: str, constants: Constants) -> Split | None:
    """`abs(value - constant) < tolerance`."""
    if relation not in {"<", "<="} or not _is_call(left, {"abs", "fabs"}) or not constants.clean(right):
        return None
    inner = left.args[0] if isinstance(left, ast.Call) and len(left.args) == 1 else None
    if not isinstance(inner, ast.BinOp) or not isinstance(inner.op, ast.Sub):
        return None
    value, constant = inner.left, inner.right
    if constants.clean(value):
        value, constant = constant, value
    if constants.clean(value) or not constants.clean(constant) or not (_plain(value) and _flat(value, constants)):
        return None
    name = "near" if relation == "<" else "near or at"
    return Split("value", (value,), Expectation(name, constants.take(constant), (constants.take(right),)))


def _close(test: ast.Call, constants: Constants) -> Split | None:
    """`math.isclose(value, constant, rel_tol=…, abs_tol=…)`."""
    if not _is_call(test, {"isclose"}) or len(test.args) != 2:  # noqa: PLR2004 - value and constant
        return None
    if isinstance(test.func, ast.Attribute) and not (
        isinstance(test.func.value, ast.Name) and test.func.value.id in {"math", "cmath"}
    ):
        return None
    value, constant = test.args
    if constants.clean(value):
        value, constant = constant, value
    named = {keyword.arg: keyword.value for keyword in test.keywords}
    if not set(named) <= {"rel_tol", "abs_tol"} or not all(constants.clean(v) for v in named.values()):
        return None
    if constants.clean(value) or not constants.clean(constant) or not (_plain(value) and _flat(value, constants)):
        return None
    relative = constants.take(named["rel_tol"]) if "rel_tol" in named else 1e-9
    absolute = constants.take(named["abs_tol"]) if "abs_tol" in named else 0.0
    return Split("value", (value,), Expectation("close", constants.take(constant), (relative, absolute)))


def _instance(test: ast.Call, constants: Constants) -> Split | None:
    """`isinstance(value, a built-in type or several)`: by what the value is, not by what it says it is."""
    if not _is_call(test, {"isinstance"}) or len(test.args) != 2:  # noqa: PLR2004 - value and type
        return None
    value, kinds = test.args
    names = [n.id if isinstance(n, ast.Name) else "" for n in (kinds.elts if isinstance(kinds, ast.Tuple) else [kinds])]
    if not names or not set(names) <= _FOR_NAMES or not (_plain(value) and _flat(value, constants)):
        return None
    return Split("value", (value,), Expectation("isinstance", tuple(names)))


def _is_call(node: ast.expr, names: set[str]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    return (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) in names


def _guessable(constant: object) -> bool:
    """Whether a program could guess a constant without knowing it: a truth value, None, a unit, an empty container."""
    if constant is None or isinstance(constant, bool):
        return True
    if isinstance(constant, int | float):
        return constant in (-1, 0, 1)
    return isinstance(constant, Deferred) or not constant


def _plain(node: ast.expr) -> bool:
    """Whether an expression holds nothing that decides: no comparison, no logic, no assignment."""
    never = (ast.Compare, ast.BoolOp, ast.IfExp, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return not any(
        isinstance(n, never) or (isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not)) for n in ast.walk(node)
    )


def _flat(node: ast.expr, constants: Constants) -> bool:
    """Whether an expression is one call of the program's, or a conversion of one: nothing done with its result."""
    if constants.clean(node) or isinstance(node, ast.Name):
        return True
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        return _flat(node.value, constants)
    if not isinstance(node, ast.Call):
        return False
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node.func, ast.Name) and node.func.id in _TRANSPARENT:
        return len(arguments) >= 1 and _flat(arguments[0], constants) and all(map(constants.clean, arguments[1:]))
    return _flat(node.func, constants) and all(_inert(argument, constants) for argument in arguments)


def _inert(node: ast.expr, constants: Constants) -> bool:
    """Whether an argument is made without calling the program: constants, names, containers of them, lambdas."""
    return all(not isinstance(n, ast.Call | ast.BinOp) or constants.clean(n) for n in ast.walk(node))
