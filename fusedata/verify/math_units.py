"""Units: which words name the same one, and when two answers with units cannot be the same."""

from typing import Final

from fusedata.verify.math_tokens import Node

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


def unit_of(node: Node) -> tuple[str, str] | None:
    """The dimension and the unit of an answer, where its unit is one word that is known."""
    if node[0] != "unit":
        return None
    word = str(node[2]).replace(".", "")
    return _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))


def clash(left: Node, right: Node) -> bool:
    """Whether both answers have known units that are not the same: 5 cents are not 5 dollars."""
    units = unit_of(left), unit_of(right)
    return None not in units and units[0] != units[1]
