"""TOML into frozen pydantic models, every mistake of a file at once."""

import json
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fusedata.errors import ConfigError

ModelT = TypeVar("ModelT", bound="Model")


class Model(BaseModel):
    """A frozen, closed table of a TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def load(model: type[ModelT], path: Path, defaults: dict[str, object]) -> ModelT:
    """Read `path` as `model`; `defaults` fill keys that are absent. Raises ConfigError with every mistake found."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}.") from error
    return validate(model, {**defaults, **data}, str(path))


def validate(model: type[ModelT], data: dict[str, object], origin: str) -> ModelT:
    """Check `data`, as read from TOML, against `model`. Raises ConfigError with one line a mistake."""
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        lines = [f"{origin}: {_key(e['loc'])}: {_reason(e)}" for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error


def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key.removeprefix(".") or "the whole file"


def _reason(error: object) -> str:
    assert isinstance(error, dict)
    if error["type"] == "extra_forbidden":
        return "unknown key: check its spelling, or take it out."
    if error["type"] == "missing":
        return "is missing."
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    found = "" if error["type"] == "value_error" else f" (found {str(error['input'])[:80]!r})"
    return f"{message}{found}."
