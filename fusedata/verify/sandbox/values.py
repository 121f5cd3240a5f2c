"""Values as they come back from a container: a strict decoder into built-in types.

What is decoded was written by an untrusted program, and so may be any bytes. Nothing is evaluated or unpickled; sizes
are capped by the runner and here, and what does not fit the encoding is Forged.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

MOST_HASHED: Final = 5000
"""Elements of sets and keys of mappings other than texts and small integers, in one message. Hash collisions of numbers
and tuples can be made on purpose: with so many, the worst costs half a second."""
_SMALL: Final = 2**53
_MOST_DIGITS: Final = 1000


class Forged(ValueError):  # noqa: N818 - named for what was received
    """Bytes that no encoder of ours wrote."""


class TooLargeError(ValueError):
    """A value with more elements than are compared."""


class Opaque:
    """A value that is of no built-in type, known by the name of its type only; equal to nothing but itself."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    def __repr__(self) -> str:
        return f"<a {self.type_name}>"


class Derived(NamedTuple):
    """A value of a subclass that kept the equality of its built-in base: equal to it, but of another type."""

    value: Any


def parse_line(line: bytes) -> list[Any]:
    """One line of a report. Raises Forged."""
    try:
        words = json.loads(line, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Forged(str(error)) from None
    if not isinstance(words, list) or not words or not isinstance(words[0], str):
        raise Forged("no list of words")
    return words


def _no_number(text: str) -> None:
    raise Forged(f"{text[:20]} is not how numbers are sent")


def decode(tree: object) -> object:
    """The value that a tree stands for; a Derived or an Opaque at the top where it was none of a built-in type.

    Raises Forged, or TooLargeError where sets and mappings hold more than MOST_HASHED.
    """
    if isinstance(tree, dict) and len(tree) == 1 and "u" in tree:
        return Derived(_Decoder().decode(tree["u"]))
    return _Decoder().decode(tree)


class _Decoder:
    def __init__(self) -> None:
        self.hashed = 0

    def decode(self, tree: object) -> object:
        if tree is None or isinstance(tree, bool | int | str):
            return tree
        if isinstance(tree, list):
            return [self.decode(item) for item in tree]
        if not isinstance(tree, dict) or len(tree) != 1:
            raise Forged("neither a value nor a tag")
        [(tag, body)] = tree.items()
        if tag in _TEXTS and isinstance(body, str):
            return _guarded(_TEXTS[tag], body)
        if tag in _LISTS and isinstance(body, list):
            return _guarded(_LISTS[tag], self, body)
        if tag == "u":
            return self.decode(body)
        raise Forged(f"unknown tag {tag[:20]!r}")

    def keys(self, items: list[Any]) -> list[Any]:
        """Decode what will be hashed, and count what could collide."""
        values = [self.decode(item) for item in items]
        self.hashed += sum(
            not (isinstance(v, str) or v is None or (isinstance(v, int) and -_SMALL < v < _SMALL)) for v in values
        )
        if self.hashed > MOST_HASHED:
            raise TooLargeError("more elements of sets and mappings than are compared")
        return values

    def mapping(self, items: list[Any]) -> dict[Any, Any]:
        if not all(isinstance(item, list) and len(item) == 2 for item in items):  # noqa: PLR2004 - key and value
            raise Forged("no pairs")
        return dict(zip(self.keys([key for key, _ in items]), [self.decode(v) for _, v in items], strict=True))


def _guarded(function: Callable[..., object], *arguments: object) -> object:
    try:
        return function(*arguments)
    except (TooLargeError, Forged):
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Forged(str(error)) from None


def _decimal(text: str) -> Decimal:
    number = Decimal(text) if len(text) <= _MOST_DIGITS else Decimal("NaN")
    return number if not number.is_finite() or abs(number.adjusted()) <= _MOST_DIGITS else Decimal("NaN")


def _fraction(parts: list[Any]) -> Fraction:
    over, under = parts
    return Fraction(int(over, 16), int(under, 16))


_TEXTS: Final[dict[str, Callable[[str], object]]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "b": bytes.fromhex,
    "y": bytearray.fromhex,
    "n": _decimal,
    "o": Opaque,
}
_LISTS: Final[dict[str, Callable[[_Decoder, list[Any]], object]]] = {
    "t": lambda decoder, items: tuple(decoder.decode(item) for item in items),
    "s": lambda decoder, items: set(decoder.keys(items)),
    "z": lambda decoder, items: frozenset(decoder.keys(items)),
    "d": lambda decoder, items: decoder.mapping(items),
    "c": lambda _, items: complex(*map(float.fromhex, items)),
    "q": lambda _, items: _fraction(items),
}
