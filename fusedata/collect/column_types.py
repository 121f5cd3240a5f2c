"""One type a column: what JSON values are, and the type that two parts of a corpus have in common."""

from collections.abc import Iterable, Sequence
from itertools import chain

import polars as pl

Types = dict[str, pl.DataType]
"""The one type of each column of a corpus, in the order they were asked for."""

_LARGEST = 2**63 - 1
_MOST_KEYS = 1000


class MixedTypesError(Exception):
    """Two values of one column have no type in common. Private to `collect`: its callers name file and row."""


def infer(values: Sequence[object]) -> pl.DataType:
    """The polars type of JSON values: None, str, bool, int, float, list, dict.

    Whole numbers beside decimals are decimals; objects get every key that any of them has.
    Raises MixedTypesError when no type fits all.
    """
    kinds = set(map(type, values)) - {type(None)}
    present = [value for value in values if value is not None]
    if not kinds:
        return pl.Null()
    if kinds <= {int, float}:
        return _number(present)
    if len(kinds) > 1:
        raise MixedTypesError
    kind = kinds.pop()
    if kind is list:
        return pl.List(infer(list(chain.from_iterable(present))))  # type: ignore[arg-type]
    if kind is dict:
        return _struct(present)  # type: ignore[arg-type]
    return pl.Boolean() if kind is bool else pl.String()


def common(first: pl.DataType, second: pl.DataType) -> pl.DataType:
    """The type that holds both: null gives way, whole numbers become decimals, structs take both sides' fields.

    Raises MixedTypesError when there is none.
    """
    if second in (first, pl.Null()):
        return first
    if first == pl.Null:
        return second
    if first.is_numeric() and second.is_numeric() and not (first.is_decimal() or second.is_decimal()):
        return pl.Int64() if first.is_integer() and second.is_integer() else pl.Float64()
    if isinstance(first, pl.List) and isinstance(second, pl.List):
        return pl.List(common(_inner(first.inner), _inner(second.inner)))
    if isinstance(first, pl.Struct) and isinstance(second, pl.Struct):
        fields = {field.name: _inner(field.dtype) for field in first.fields}
        for field in second.fields:
            fields[field.name] = common(fields.get(field.name, pl.Null()), _inner(field.dtype))
        if len(fields) > _MOST_KEYS:
            raise MixedTypesError
        return pl.Struct(fields)
    raise MixedTypesError


def same_fields(first: pl.DataType, second: pl.DataType) -> bool:
    """Whether structs have the same fields in the same order at every depth; polars cannot cast others."""
    if isinstance(first, pl.List) and isinstance(second, pl.List):
        return same_fields(_inner(first.inner), _inner(second.inner))
    if isinstance(first, pl.Struct) and isinstance(second, pl.Struct):
        if [field.name for field in first.fields] != [field.name for field in second.fields]:
            return False
        pairs = zip(first.fields, second.fields, strict=True)
        return all(same_fields(_inner(one.dtype), _inner(other.dtype)) for one, other in pairs)
    return True


def plain(dtype: pl.DataType) -> pl.DataType:
    """The type with dictionary encodings undone: categories are text again, at any depth."""
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(plain(_inner(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: plain(_inner(field.dtype)) for field in dtype.fields})
    return dtype


def words(dtype: pl.DataType) -> str:
    """The type as a message says it: "text", "whole numbers", "lists of text"."""
    if isinstance(dtype, pl.List):
        return f"lists of {words(_inner(dtype.inner))}"
    if isinstance(dtype, pl.Struct):
        return f"objects with the keys {', '.join(field.name for field in dtype.fields)}"
    names: Iterable[tuple[pl.DataType, str]] = (
        (pl.String(), "text"),
        (pl.Boolean(), "true or false"),
        (pl.Int64(), "whole numbers"),
        (pl.Float64(), "numbers"),
        (pl.Null(), "nothing but null"),
    )
    return next((name for known, name in names if known == dtype), str(dtype))


def _number(values: Sequence[object]) -> pl.DataType:
    whole = [value for value in values if isinstance(value, int)]
    if any(not -_LARGEST <= value <= _LARGEST for value in whole):
        raise MixedTypesError
    return pl.Int64() if len(whole) == len(values) else pl.Float64()


def _struct(values: Sequence[dict[str, object]]) -> pl.DataType:
    keys = dict.fromkeys(chain.from_iterable(values))
    if len(keys) > _MOST_KEYS:  # a mapping by name or id, not a record: its type would grow with the corpus
        raise MixedTypesError
    return pl.Struct({key: infer([value.get(key) for value in values]) for key in keys})


def _inner(dtype: object) -> pl.DataType:
    """A nested type as an instance: polars lets classes stand for types without parameters."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[return-value]
