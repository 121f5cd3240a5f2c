"""What a test expects of a value, and whether a value that came back is it. Pure: no program is near."""

import math
import operator
import reprlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from fusedata.verify.sandbox.values import Derived, Opaque


class Deferred(NamedTuple):
    """A constant that is no literal, such as `[0] * 5`: evaluated in a child of its own; its number among those."""

    number: int


class Expectation(NamedTuple):
    """`relation` between the value and `constant`: see RELATIONS. Pairs are compared with each other.

    `tolerances` are those of a comparison of floats: absolute, or relative and absolute; may hold Deferred.
    """

    relation: str
    constant: Any = None
    tolerances: tuple[Any, ...] = ()


def holds(expectation: Expectation, value: object) -> bool:
    """Whether a decoded value is what is expected, by the rules of Python for values of built-in types."""
    if expectation.relation.startswith("pair "):
        if type(value) is not tuple or len(value) != 2:  # noqa: PLR2004 - a pair
            return False
        left, right = value
        return _related(expectation.relation.removeprefix("pair "), left, right, ())
    return _related(expectation.relation, value, expectation.constant, expectation.tolerances)


def _related(relation: str, value: object, constant: object, tolerances: tuple[Any, ...]) -> bool:
    plain = value.value if isinstance(value, Derived) else value
    try:
        if relation in _IDENTITIES:
            return _IDENTITIES[relation](value, constant)
        if isinstance(plain, Opaque):
            return relation == "!="
        return bool(RELATIONS[relation](plain, constant, *tolerances))
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        return False


def _near(value: Any, constant: Any, tolerance: Any) -> bool:  # noqa: ANN401
    return bool(abs(value - constant) < tolerance)


def _near_or_at(value: Any, constant: Any, tolerance: Any) -> bool:  # noqa: ANN401
    return bool(abs(value - constant) <= tolerance)


def _close(value: Any, constant: Any, relative: float, absolute: float) -> bool:  # noqa: ANN401
    return math.isclose(value, constant, rel_tol=relative, abs_tol=absolute)


def _of_type(value: object, names: tuple[str, ...]) -> bool:
    kind = type(value.value if isinstance(value, Derived) else value)
    return kind.__name__ in names or (kind is bool and "int" in names)


_IDENTITIES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "is": lambda value, constant: value is constant,
    "is not": lambda value, constant: value is not constant,
    "isinstance": _of_type,
}
RELATIONS: Final[dict[str, Callable[..., Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, constant: value in constant,
    "not in": lambda value, constant: value not in constant,
    "contains": lambda value, constant: constant in value,
    "lacks": lambda value, constant: constant not in value,
    "near": _near,
    "near or at": _near_or_at,
    "close": _close,
}


def show(value: object) -> str:
    """A value in short, for the detail of a verdict."""
    if isinstance(value, Opaque):
        return f"a value of the type {value.type_name}"
    try:
        return _SHORT.repr(value.value if isinstance(value, Derived) else value)
    except (ValueError, RecursionError):  # an integer of too many digits
        return f"a large {type(value).__name__}"


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
