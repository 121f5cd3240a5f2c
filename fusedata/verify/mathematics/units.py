"""Units: which words name the same one, and when two answers with units cannot be the same."""

import re
from typing import Final

from fusedata.verify.mathematics.tokens import Node

_DIMENSIONS: Final[dict[str, str]] = {
    "length": "mm|millimeter cm|centimeter|centimetre dm m|meter|metre km|kilometer|kilometre"
    " in|inch|inche ft|foot|feet yd|yard mi|mile",
    "money": "¤|dollar|usd|buck cent|ct|penny|pennie euro yen yuan rupee peso",
    "time": "second|sec minute|min hour|hr day week month year|yr",
    "mass": "mg|milligram g|gram kg|kilogram lb|pound oz|ounce ton",
    "volume": "ml|milliliter|millilitre l|liter|litre gallon quart pint cup",
    "half of the day": "am pm",
}
_UNITS: Final[dict[str, tuple[str, str]]] = {
    name: (dimension, names.split("|")[0])
    for dimension, units in _DIMENSIONS.items()
    for names in units.split()
    for name in names.split("|")
}
FOREIGN: Final = frozenset(("euro", "yen", "yuan", "rupee", "peso"))
_PER: Final = re.compile(r"\s*/\s*|\s+per\s+")
_POWER: Final = re.compile(r"(?<=\w)\s*(\^[23])")
_RATES: Final = {"mph": "mi/hr", **dict.fromkeys(("kph", "kmh", "kmph"), "km/hr")}
_LETTERS: Final = {"m": "meter", "s": "sec", "h": "hr", "g": "gram", "l": "liter"}
_POWERS: Final = {"^2": 2, "square": 2, "squared": 2, "sq": 2, "^3": 3, "cubic": 3, "cubed": 3, "cu": 3}


def unit_of(node: Node) -> tuple[str, str, int] | None:
    """The dimension, the unit and its power (2 in square metres), where the unit of an answer is one that is known."""
    if node[0] in {"pct", "deg"}:
        return node[0], node[0], 1
    if node[0] != "unit":
        return None
    phrase = str(node[2]).replace(".", "")
    parts = _PER.split(_RATES.get(phrase, phrase))
    units = [_single(part, in_rate=len(parts) > 1) for part in parts]
    if len(units) == 1 or None in units:
        return None if None in units else units[0]
    known = [unit for unit in units if unit]
    return "/".join(unit[0] for unit in known), "/".join(f"{unit[1]}{unit[2]}" for unit in known), 1


def _single(phrase: str, *, in_rate: bool) -> tuple[str, str, int] | None:
    """A unit that is no quotient; letters alone are units only in a quotient (`m/s`)."""
    words = [_LETTERS.get(word, word) if in_rate else word for word in _POWER.sub(r" \1", phrase).split()]
    power = next((_POWERS[word] for word in words if word in _POWERS), 1)
    names = [word for word in words if word not in _POWERS]
    known = (_UNITS.get(names[0]) or _UNITS.get(names[0].removesuffix("s"))) if len(names) == 1 else None
    return (*known, power) if known else None


def clash(left: Node, right: Node) -> bool:
    """Whether both answers have known units that are not the same: 5 cents are not 5 dollars."""
    units = unit_of(left), unit_of(right)
    return None not in units and units[0] != units[1]
