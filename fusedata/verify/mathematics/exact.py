r"""Exact arithmetic on answers: rational numbers first, then quotients of polynomials with radicals.

A value is a quotient of two polynomials over the rationals in atoms: the prime numbers with exponents in [0, 1)
(`sqrt(12)` is `2 * 3^(1/2)`), pi, e, i and the symbols. Products of such radicals are linearly independent over
the rationals, so that two values without opaque atoms (`sin(x)`, `2^n`) are equal exactly when their cross
products have the same terms, and "different" is as sure as "equal". Anything else raises `UndecidedError`.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from fusedata.verify.mathematics.rational import (
    UndecidedError,
    bounded,
    power,
    rational,
)
from fusedata.verify.mathematics.tokens import Node

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]
Quotient = tuple[Polynomial, Polynomial]

MAX_TERMS: Final = 200
MAX_POWER: Final = 64
MAX_ROOT: Final = 24
_TRIAL_LIMIT: Final = 2000
_ONE: Final[Polynomial] = {(): Fraction(1)}


# -- polynomials with radicals -------------------------------------------------------------------------------------


def quotient(node: Node) -> Quotient:  # noqa: PLR0911 - one for each kind of node
    """The value of a node as a quotient of polynomials; else raise `UndecidedError`."""
    kind = node[0]
    if kind in {"num", "dec"}:
        return {(): node[1]} if node[1] else {}, _ONE
    if kind == "sym":
        return _atom(node[1])
    if kind == "const":
        return _atom("@" + node[1])
    if kind == "neg":
        over, under = quotient(node[1])
        return {mono: -value for mono, value in over.items()}, under
    if kind == "add":
        return _folded(node[1:], _plus)
    if kind == "mul":
        return _folded(node[1:], _times)
    if kind == "div":
        return _times(quotient(node[1]), _inverse(quotient(node[2])))
    if kind == "pow":
        return _power(node)
    if kind == "pct":
        return _times(quotient(node[1]), ({(): Fraction(1, 100)}, _ONE))
    return _opaque(node)


def _atom(name: str) -> Quotient:
    return {((name, Fraction(1)),): Fraction(1)}, _ONE


def _folded(nodes: tuple[Node, ...], combine: Callable[[Quotient, Quotient], Quotient]) -> Quotient:
    return functools.reduce(combine, map(quotient, nodes))


def _opaque(node: Node) -> Quotient:
    """A value that is only known to equal itself: a function of exact arguments, say."""
    try:
        value = rational(node)
    except UndecidedError:
        if node[0] not in {"fn", "abs", "fact", "deg"}:
            raise UndecidedError(node[0]) from None
        name = node[1] if node[0] == "fn" else node[0]
        arguments = [_key(quotient(part)) for part in node[1:] if isinstance(part, tuple)]
        return _atom(f"?{name}({';'.join(arguments)})")
    return {(): value} if value else {}, _ONE


def _key(value: Quotient) -> str:
    """A short text that is the same for the same value."""
    text = "/".join(repr(sorted((mono, _hex(number)) for mono, number in side.items())) for side in _reduced(value))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _hex(number: Fraction) -> str:
    return f"{number.numerator:x}/{number.denominator:x}"  # decimal digits are limited by the interpreter


def _reduced(value: Quotient) -> Quotient:
    """The quotient scaled so that its denominator leads with 1."""
    over, under = value
    lead = under[min(under)]
    return {m: v / lead for m, v in over.items()}, {m: v / lead for m, v in under.items()}


def _plus(left: Quotient, right: Quotient) -> Quotient:
    if left[1] == right[1]:
        return _sum(left[0], right[0]), left[1]
    return _sum(product(left[0], right[1]), product(right[0], left[1])), product(left[1], right[1])


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for mono, value in right.items():
        new = total.get(mono, Fraction(0)) + value
        if new:
            total[mono] = bounded(new)
        else:
            total.pop(mono, None)
    return total


def _times(left: Quotient, right: Quotient) -> Quotient:
    return product(left[0], right[0]), product(left[1], right[1])


def product(left: Polynomial, right: Polynomial) -> Polynomial:
    """The product of two polynomials; raise `UndecidedError` past `MAX_TERMS`."""
    if left == _ONE:
        return right
    if right == _ONE:
        return left
    if len(left) * len(right) > MAX_TERMS**2 // 4:
        raise UndecidedError("too many terms")
    total: Polynomial = {}
    for left_mono, left_value in left.items():
        for right_mono, right_value in right.items():
            mono, factor = _mono_product(left_mono, right_mono)
            total[mono] = bounded(total.get(mono, Fraction(0)) + left_value * right_value * factor)
        if len(total) > MAX_TERMS:
            raise UndecidedError("too many terms")
    return {mono: value for mono, value in total.items() if value}


def _mono_product(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, and the rational factor that radicals and `i` leave behind."""
    if not left or not right:
        return left or right, Fraction(1)
    exponents = dict(left)
    for atom, exponent in right:
        exponents[atom] = exponents.get(atom, Fraction(0)) + exponent
    return _settled(exponents)


def _settled(exponents: dict[str, Fraction]) -> tuple[Monomial, Fraction]:
    factor = Fraction(1)
    for atom, exponent in list(exponents.items()):
        if atom[0] == "#":
            whole = math.floor(exponent)
            factor *= power(Fraction(int(atom[1:])), whole)
            exponents[atom] = exponent - whole
        elif atom == "@i":
            if exponent.denominator != 1:
                raise UndecidedError("a root of i")
            turns = exponent.numerator % 4
            factor = -factor if turns > 1 else factor
            exponents[atom] = Fraction(turns % 2)
    return tuple(sorted((atom, exponent) for atom, exponent in exponents.items() if exponent)), factor


def _inverse(value: Quotient) -> Quotient:
    over, under = value
    if not over:
        raise UndecidedError("a division by zero")
    if len(over) == 1:
        ((mono, number),) = over.items()
        flipped, factor = _settled({atom: -exponent for atom, exponent in mono})
        return product(under, {flipped: factor / number}), _ONE
    return under, over


def _power(node: Node) -> Quotient:
    try:
        exponent = rational(node[2])
    except UndecidedError:
        return _symbolic_power(node)
    base = quotient(node[1])
    if exponent.denominator == 1:
        return _whole_power(base, exponent.numerator)
    over, under = base
    if under != _ONE or len(over) != 1 or exponent.denominator > MAX_ROOT:
        return _symbolic_power(node)
    ((mono, number),) = over.items()
    if len(mono) > 1 or (mono and (number != 1 or mono[0][1] != 1 or mono[0][0][0] in "#?" or mono[0][0] == "@i")):
        return _symbolic_power(node)
    if mono:
        return {((mono[0][0], exponent),): Fraction(1)}, _ONE
    return _root(number, exponent)


def _symbolic_power(node: Node) -> Quotient:
    return _atom(f"?pow({_key(quotient(node[1]))};{_key(quotient(node[2]))})")


def _whole_power(base: Quotient, exponent: int) -> Quotient:
    if exponent < 0:
        base, exponent = _inverse(base), -exponent
    over, under = base
    if under == _ONE and len(over) == 1:
        ((mono, number),) = over.items()
        raised, factor = _settled({atom: part * exponent for atom, part in mono})
        return {raised: bounded(power(number, exponent) * factor)}, _ONE
    if exponent > MAX_POWER:
        raise UndecidedError("a power is too big")
    total: Quotient = (_ONE, _ONE)
    for _ in range(exponent):
        total = _times(total, base)
    return total


def _root(number: Fraction, exponent: Fraction) -> Quotient:
    """A rational number to a broken power, as a rational times prime radicals."""
    if not number:
        if exponent < 0:
            raise UndecidedError("a division by zero")
        return {}, _ONE
    exponents: dict[str, Fraction] = {}
    if number < 0:
        if exponent.denominator != 2:  # noqa: PLR2004 - a square root
            raise UndecidedError("a root of a negative number")
        exponents["@i"] = Fraction(exponent.numerator)
    for prime, times in (*_factors(abs(number.numerator), 1), *_factors(number.denominator, -1)):
        exponents[f"#{prime}"] = exponents.get(f"#{prime}", Fraction(0)) + times * exponent
    mono, factor = _settled(exponents)
    return {mono: factor}, _ONE


def _factors(number: int, sign: int) -> list[tuple[int, int]]:
    """The prime factors of a whole number with their exponents times `sign`, by trial division."""
    if number.bit_length() > 4 * MAX_POWER:
        raise UndecidedError("a root of a big number")
    found = []
    for prime in (2, *range(3, _TRIAL_LIMIT, 2)):
        times = 0
        while number % prime == 0:
            number //= prime
            times += 1
        if times:
            found.append((prime, sign * times))
        if prime * prime > number:
            break
    if number == 1:
        return found
    if number >= _TRIAL_LIMIT**2:
        raise UndecidedError("a root of a number with large factors")
    return [*found, (number, sign)]


def is_transparent(*values: Quotient) -> bool:
    """Whether "different terms" means "different values": no opaque atom, and not both e and pi."""
    atoms = {atom for value in values for side in value for mono in side for atom, _ in mono}
    return not any(atom[0] == "?" or atom == "@inf" for atom in atoms) and not {"@e", "@pi"} <= atoms
