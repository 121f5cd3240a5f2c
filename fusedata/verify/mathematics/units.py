"""Units: which words name the same one, and when two answers with units cannot be the same."""

from typing import Final

from fusedata.verify.mathematics.tokens import Node

_DIMENSIONS: Final[dict[str, str]] = {
    "length": "mm|millimeter cm|centimeter|centimetre dm m|meter|metre km|kilometer|kilometre"
    " in|inch|inche ft|foot|feet yd|yard mi|mile",
    "money": "¤|dollar|usd|buck cent|ct|penny|pennie",
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
_POWERS: Final = {"^2": 2, "square": 2, "squared": 2, "sq": 2, "^3": 3, "cubic": 3, "cubed": 3, "cu": 3}


def unit_of(node: Node) -> tuple[str, str, int] | None:
    """The dimension, the unit and its power (2 in square metres), where the unit of an answer is one that is known."""
    if node[0] != "unit":
        return None
    words = str(node[2]).replace(".", "").split()
    power = next((_POWERS[word] for word in words if word in _POWERS), 1)
    names = [word for word in words if word not in _POWERS]
    known = (_UNITS.get(names[0]) or _UNITS.get(names[0].removesuffix("s"))) if len(names) == 1 else None
    return (*known, power) if known else None


def clash(left: Node, right: Node) -> bool:
    """Whether both answers have known units that are not the same: 5 cents are not 5 dollars."""
    units = unit_of(left), unit_of(right)
    return None not in units and units[0] != units[1]
