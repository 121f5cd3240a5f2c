"""TOML into frozen pydantic models, every mistake of a file at once."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fusedata.errors import ConfigError

ModelT = TypeVar("ModelT", bound="Model")
Location = tuple[int | str, ...]
Mistake = Mapping[str, Any]

_REASONS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "extra_forbidden": "unknown key: check its spelling, or take it out",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "must be a table",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a string, in quotes",
    "too_long": "must hold at most {max_length} entries",
    "too_short": "must not be empty",
    "tuple_type": "must be an array, in square brackets",
    "union_tag_invalid": "must be one of {expected_tags} (found '{tag}')",
    "union_tag_not_found": "is missing",
    "value_error": "{error}",
}
_TELL_NOTHING = {"extra_forbidden", "missing", "string_too_short", "too_short", "value_error"}
_TELL_NOTHING |= {"union_tag_invalid", "union_tag_not_found"}


class Model(BaseModel):
    """A frozen, closed table of a TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def find(kind: str, name: str, shipped: Mapping[str, Path]) -> Path:
    """Path of a recipe or profile (`kind`), given a shipped name or the path of a TOML file. Raises ConfigError."""
    if name in shipped:
        return shipped[name]
    if not name.endswith(".toml"):
        known = ", ".join(shipped)
        raise ConfigError(f"{name}: unknown {kind}; there are {known}, or give the path of a .toml file.")
    if not os.path.exists(name):  # noqa: PTH110 - false where Path.exists raises: a name too long, a folder closed to us
        raise ConfigError(f"{name}: no such {kind} file.")
    return Path(name)


def load(model: type[ModelT], path: Path, defaults: dict[str, object]) -> ModelT:
    """Read `path` as `model`; `defaults` fill keys that are absent. Raises ConfigError with every mistake found."""
    try:
        return validate(model, {**defaults, **tomllib.loads(_text(path))}, str(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be read.") from error


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8: save the file in that encoding.") from error


def validate(model: type[ModelT], data: dict[str, object], origin: str) -> ModelT:
    """Check `data`, as read from TOML, against `model`. Raises ConfigError with one line a mistake."""
    frozen = _frozen(data)
    try:
        return model.model_validate(frozen)
    except ValidationError as error:
        lines = [f"{origin}: {_key(m['loc'])}: {_reason(m)}." for m in _mistakes(frozen, error)]
        raise ConfigError("\n".join(lines)) from error


def _frozen(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _frozen(entry) for key, entry in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _mistakes(data: dict[str, object], error: ValidationError) -> list[Mistake]:
    """List the mistakes in order of the file, but not that an array is empty because its entries are wrong."""
    found: list[Mistake] = [{**m, "loc": _in_file(data, _told(m))} for m in error.errors(include_url=False)]
    within = {m["loc"][:length] for m in found for length in range(len(m["loc"]))}
    told = [m for m in found if m["type"] != "too_short" or m["loc"] not in within]
    return sorted(told, key=lambda mistake: _position(data, mistake["loc"]))


def _told(mistake: Mistake) -> Location:
    """Where a mistake is; a table whose kind is wrong or not told: at the key that tells it."""
    key = mistake.get("ctx", {}).get("discriminator", "").strip("'")
    location: Location = mistake["loc"]
    return (*location, key) if key else location


def _in_file(data: Any, location: Location) -> Location:  # noqa: ANN401
    """Drop from a location the names of variants, which stand in no file."""
    kept: Location = ()
    for part in location[:-1]:
        if isinstance(part, int) or part in data:
            kept, data = (*kept, part), data[part]
    return (*kept, location[-1])


def _position(data: Any, location: Location) -> tuple[int, ...]:  # noqa: ANN401
    """Where a key stands in its file; a missing one at the end of its table."""
    position = []
    for part in location:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        position.append(keys.index(part) if part in keys else len(keys))
        data = data[part] if part in keys else ()
    return tuple(position)


def _key(location: Location) -> str:
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{part if re.fullmatch('[A-Za-z0-9_-]+', part) else json.dumps(part, ensure_ascii=False)}"
    return key.removeprefix(".")


def _reason(mistake: Mistake) -> str:
    kind, value = mistake["type"], mistake["input"]
    reason = _REASONS.get(kind, "{message}").format(message=mistake["msg"], **mistake.get("ctx", {}))
    if kind == "tuple_type" and isinstance(value, dict):
        reason = "must be an array of tables: write its name in double brackets, [[…]]"
    return reason if kind in _TELL_NOTHING else f"{reason} (found {_found(value)})"


def _found(value: object) -> str:
    """Show a value as TOML spells it, on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, tuple):
        return f"an array of {len(value)}"
    if isinstance(value, str | bool):
        value = json.dumps(value, ensure_ascii=False)
    shown = str(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"  # noqa: PLR2004
