r"""Compare values to many digits at several points: the judge of what exact arithmetic leaves open.

Runs in a worker process, where a hard time limit and a memory limit hold. Two values count as different where
they differ at a point, and as equal where they agree at every point to the working precision, which is doubled
to tell a zero from a small number. `1/2004!` and `1/2006!` differ: only relative differences count.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from fusedata.verify.mathematics.judge import ExactJudge
from fusedata.verify.mathematics.rational import MAX_FACTORIAL, UndecidedError, decimal, rounds
from fusedata.verify.mathematics.shape import symbols
from fusedata.verify.mathematics.tokens import Node

DIGITS: Final = 60
POINTS: Final = 6
MIN_POINTS: Final = 3
MAX_LOG: Final = 1e6
_SLACK: Final = 15

Values = list[tuple[Any, Any] | None]


class NumericJudge(ExactJudge):
    """Exact where that decides, else numeric to `DIGITS` digits and more."""

    def same(self, left: Node, right: Node) -> bool | None:
        """Whether two values are equal."""
        verdict = super().same(left, right)
        if verdict is not None:
            return verdict
        if decimal(left) or decimal(right):
            return _agree(_pairs(left, right), lambda pair: _close(*pair)) or _rounded(left, right)
        return _agree(_pairs(left, right), lambda pair: _close(*pair))

    def proportion(self, left: Node, right: Node) -> int | None:
        """The sign of c where left = c * right, 0 where no c can be, None where that is not known."""
        sign = super().proportion(left, right)
        if sign is not None:
            return sign
        pairs = [pair for pair in _pairs(left, right) if pair is not None]
        ratios = [(a[0] / b[0], a[1] / b[1]) for a, b in pairs if b[0] and b[1]]
        if len(ratios) < MIN_POINTS or len(ratios) < len(pairs):
            return None
        if not all(_close(ratios[0], ratio) for ratio in ratios) or ratios[0][1].imag or not ratios[0][1]:
            return 0
        return 1 if ratios[0][1].real > 0 else -1


def _rounded(left: Node, right: Node) -> bool | None:
    """Whether a decimal literal is the other, irrational value rounded to its own digits."""
    literal, other = (left, right) if decimal(left) else (right, left)
    if symbols(other):
        return False
    value: Any = _at(other, 0, 2 * DIGITS)
    if value is None:
        return None
    if value.imag:
        return False
    whole = int(value.real * 10**DIGITS)
    found = decimal(literal)
    if found is None or found[1] > DIGITS // 2:
        return None
    return rounds(literal, other, Fraction(3 * whole + 1, 3 * 10**DIGITS))


def _agree(pairs: Values, close: Callable[[Any], bool]) -> bool | None:
    known = [pair for pair in pairs if pair is not None]
    if any(not close(pair) for pair in known):
        return False
    return True if len(known) >= MIN_POINTS else None


def _pairs(left: Node, right: Node) -> Values:
    """Both values at several points, each at two precisions; None where one is not defined, or only one is real."""
    names = symbols(left) | symbols(right)
    pairs: Values = []
    for point in range(POINTS if names else MIN_POINTS):
        values = [tuple(_at(node, point, digits) for digits in (DIGITS, 2 * DIGITS)) for node in (left, right)]
        if any(value is None for pair in values for value in pair):
            pairs.append(None)
            continue
        real = [not value[1].imag for value in values]
        pairs.append((values[0], values[1]) if real[0] == real[1] or not names else None)
    return pairs


def _close(left: tuple[Any, Any], right: tuple[Any, Any]) -> bool:
    """Whether two values, each at two precisions, are the same number."""
    zero = _vanishes(left), _vanishes(right)
    if any(zero):
        return all(zero)
    scale = max(abs(left[1]), abs(right[1]))
    return bool(abs(left[1] - right[1]) <= scale * _ten(-(2 * DIGITS - 3 * _SLACK)))


def _vanishes(value: tuple[Any, Any]) -> bool:
    """Whether a value shrinks with the precision, so that it is a zero in disguise."""
    if not value[0]:
        return bool(abs(value[1]) < _ten(-DIGITS))
    return bool(abs(value[1]) < abs(value[0]) * _ten(-DIGITS // 2))


def _ten(exponent: int) -> Any:  # noqa: ANN401 - an mpmath number
    import mpmath  # type: ignore[import-untyped]  # noqa: PLC0415

    return mpmath.mpf(10) ** exponent


def _at(node: Node, point: int, digits: int) -> Any:  # noqa: ANN401
    """The value of a node at a point as an mpmath complex number with no imaginary dust; None where undefined."""
    import mpmath  # noqa: PLC0415

    with mpmath.workdps(digits):
        try:
            value = mpmath.mpmathify(_Evaluator(mpmath, point).value(node))
        except (ArithmeticError, ValueError, TypeError, mpmath.libmp.libhyper.NoConvergence):
            return None
        if not mpmath.isfinite(value):
            return None
        value = mpmath.mpc(value)
        return mpmath.mpc(value.real, 0) if abs(value.imag) <= abs(value) * _ten(-(digits - _SLACK)) else value


class _Evaluator:
    """Evaluates a tree at one point. Symbols stand for fixed numbers drawn from a hash of their names."""

    def __init__(self, mpmath: Any, point: int) -> None:  # noqa: ANN401
        self.m = mpmath
        self.point = point

    def value(self, node: Node) -> Any:  # noqa: ANN401
        kind = node[0]
        if kind in {"num", "dec"}:
            return self.m.mpf(node[1].numerator) / node[1].denominator
        if kind == "sym":
            return self.symbol(node[1])
        if kind == "const":
            return self.constant(node[1])
        if kind == "fn":
            return self.function(node)
        rule = getattr(self, "_" + kind, None)
        if rule is None:
            raise UndecidedError(kind)
        return rule(*(self.value(part) for part in node[1:]))

    def symbol(self, name: str) -> Any:  # noqa: ANN401
        if name == "...":
            raise UndecidedError(name)
        drawn = int.from_bytes(hashlib.sha256(f"{name}/{self.point}".encode()).digest()[:8], "big")
        value = self.m.mpf(drawn % 10**12 + 10**11) / (4 * 10**11)
        return -value if self.point % 3 == 2 else value  # noqa: PLR2004 - every third point is negative

    def constant(self, name: str) -> Any:  # noqa: ANN401
        if name == "inf":
            raise UndecidedError(name)
        return {"pi": +self.m.pi, "e": +self.m.e, "i": self.m.mpc(0, 1)}[name]

    def _neg(self, value: Any) -> Any:  # noqa: ANN401
        return -value

    def _add(self, *values: Any) -> Any:  # noqa: ANN401
        return self.m.fsum(values)

    def _mul(self, *values: Any) -> Any:  # noqa: ANN401
        return self.m.fprod(values)

    def _div(self, over: Any, under: Any) -> Any:  # noqa: ANN401
        return over / under

    def _pow(self, base: Any, exponent: Any) -> Any:  # noqa: ANN401
        if base and abs(exponent) * (1 + abs(self.m.log(abs(base)))) > MAX_LOG:
            raise UndecidedError("a power is too big")
        return self.m.power(base, exponent)

    def _abs(self, value: Any) -> Any:  # noqa: ANN401
        return abs(value)

    def _pct(self, value: Any) -> Any:  # noqa: ANN401
        return value / 100

    def _deg(self, value: Any) -> Any:  # noqa: ANN401
        return value * self.m.pi / 180

    def _fact(self, value: Any) -> Any:  # noqa: ANN401
        if abs(value) > MAX_FACTORIAL:
            raise UndecidedError("a factorial is too big")
        return self.m.factorial(value)

    def function(self, node: Node) -> Any:  # noqa: ANN401
        name = _MPMATH_NAMES.get(node[1], node[1])
        values = [self.value(part) for part in node[2:]]
        if name == "log" and node[1] == "log" and len(values) == 1:
            raise UndecidedError("a logarithm of unsaid base")
        if name in _ONE_ARGUMENT and len(values) == 1:
            if any(abs(value) > MAX_LOG for value in values) and name in {"sinh", "cosh", "tanh"}:
                raise UndecidedError(name)
            return getattr(self.m, name)(values[0])
        if name == "log" and len(values) == 2:  # noqa: PLR2004 - an argument and a base
            return self.m.log(values[0]) / self.m.log(values[1])
        if name == "binom" and all(abs(value) <= MAX_FACTORIAL for value in values):
            return self.m.binomial(*values)
        raise UndecidedError(name)


_MPMATH_NAMES: Final = {
    "ln": "log",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arccot": "acot",
    "lg": "log10",
}
_ONE_ARGUMENT: Final = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "asin",
        "acos",
        "atan",
        "acot",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "log10",
        "floor",
        "ceil",
    ]
)
