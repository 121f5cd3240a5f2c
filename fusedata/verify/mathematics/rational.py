r"""Rational arithmetic on answers, within fixed limits, and the rule for rounded decimals."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from fusedata.verify.mathematics.tokens import Node

MAX_BITS: Final = 200_000
MAX_FACTORIAL: Final = 3000
MIN_ROUNDED_DIGITS: Final = 5


class UndecidedError(ValueError):
    """The value is outside what is computed exactly here."""


class TooBigError(UndecidedError):
    """The value is a whole number with more than `MAX_BITS` bits."""


def rational(node: Node) -> Fraction:
    """The value of a node that is a rational number by arithmetic alone; else raise `UndecidedError`."""
    kind = node[0]
    if kind in {"num", "dec"}:
        return node[1]  # type: ignore[no-any-return]
    rule = _RULES.get(kind)
    if rule is None:
        raise UndecidedError(kind)
    return bounded(rule(node))


def bounded(value: Fraction) -> Fraction:
    """The value itself; raise `UndecidedError` past `MAX_BITS`."""
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise UndecidedError("a number is too big")
    return value


def _rational_add(node: Node) -> Fraction:
    total = Fraction(0)
    for part in node[1:]:
        total = bounded(total + rational(part))
    return total


def _rational_mul(node: Node) -> Fraction:
    total = Fraction(1)
    for part in node[1:]:
        total = bounded(total * rational(part))
    return total


def _rational_div(node: Node) -> Fraction:
    under = rational(node[2])
    if not under:
        raise UndecidedError("a division by zero")
    return rational(node[1]) / under


def _rational_pow(node: Node) -> Fraction:
    base = rational(node[1])
    try:
        exponent = rational(node[2])
    except TooBigError:
        if base.denominator == 1 and abs(base) > 1:
            raise
        raise UndecidedError("a power is too big") from None
    if exponent.denominator != 1:
        raise UndecidedError("a root")
    return power(base, exponent.numerator)


def power(base: Fraction, exponent: int) -> Fraction:
    """`base ** exponent` within `MAX_BITS`; `TooBigError` where the result is certainly a larger whole number."""
    if base in {0, 1, -1}:
        if not base and exponent <= 0:
            raise UndecidedError("a power of zero")
        return base ** (exponent % 2 + 2) if base else base
    bits = max(abs(base.numerator), base.denominator).bit_length()
    if (bits - 1) * abs(exponent) > MAX_BITS:
        if base.denominator == 1 and exponent > 0:
            raise TooBigError("a power is too big")
        raise UndecidedError("a power is too big")
    return bounded(base**exponent)


def _rational_fact(node: Node) -> Fraction:
    value = rational(node[1])
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise UndecidedError("a factorial")
    return Fraction(math.factorial(value.numerator))


def _rational_fn(node: Node) -> Fraction:
    name = node[1]
    if name not in {"binom", "floor", "ceil", "gcd", "lcm", "max", "min"}:
        raise UndecidedError(name)
    values = [rational(part) for part in node[2:]]
    if name in {"floor", "ceil"} and len(values) == 1:
        return Fraction(math.floor(values[0]) if name == "floor" else math.ceil(values[0]))
    if name in {"max", "min"} and values:
        return max(values) if name == "max" else min(values)
    if not values or any(value.denominator != 1 or not 0 <= value <= 10**18 for value in values):
        raise UndecidedError(name)
    whole = [value.numerator for value in values]
    if name == "binom":
        if len(whole) != 2 or whole[0] > MAX_FACTORIAL:  # noqa: PLR2004 - n over k
            raise UndecidedError(name)
        return Fraction(math.comb(*whole))
    return Fraction(math.gcd(*whole) if name == "gcd" else math.lcm(*whole[:8]))


_RULES: Final[dict[str, Callable[[Node], Fraction]]] = {
    "neg": lambda node: -rational(node[1]),
    "add": _rational_add,
    "mul": _rational_mul,
    "div": _rational_div,
    "pow": _rational_pow,
    "fact": _rational_fact,
    "abs": lambda node: abs(rational(node[1])),
    "pct": lambda node: rational(node[1]) / 100,
    "fn": _rational_fn,
}


def rational_or_none(node: Node) -> Fraction | None:
    """The value of a node that is a rational number, or None."""
    try:
        return rational(node)
    except UndecidedError:
        return None


def is_too_big(node: Node) -> bool:
    """Whether a node is surely a larger whole number than any that is computed."""
    try:
        rational(node)
    except UndecidedError as error:
        return isinstance(error, TooBigError)
    return False


# -- rounded decimals ----------------------------------------------------------------------------------------------


def decimal(node: Node) -> tuple[Fraction, int, int] | None:
    """A decimal literal as value, significant digits and places; None for anything else."""
    sign = 1
    while node[0] == "neg":
        sign, node = -sign, node[1]
    return (sign * node[1], node[2], node[3]) if node[0] == "dec" else None


def rounds(literal: Node, other: Node, value: Fraction) -> bool:
    """Whether a decimal literal of at least `MIN_ROUNDED_DIGITS` digits is `value` rounded or cut off.

    Only where `value` has no finite decimal expansion of its own: 5.001 is not 5, and 0.12346 is not 0.123456.
    """
    found = decimal(literal)
    if not found or found[1] < MIN_ROUNDED_DIGITS or decimal(other) or _terminates(value):
        return False
    shifted = abs(value) * Fraction(10) ** found[2]
    wanted = abs(found[0]) * Fraction(10) ** found[2]
    return (found[0] > 0) == (value > 0) and wanted in {math.floor(shifted), math.floor(shifted + Fraction(1, 2))}


def _terminates(value: Fraction) -> bool:
    under = value.denominator
    under >>= (under & -under).bit_length() - 1
    while under % 5 == 0:
        under //= 5
    return under == 1
