"""What was in force: the record beside a model, and the folder that it claims for one training."""

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fusedata.errors import ConfigError
from fusedata.store import writing
from fusedata.train.checks import Checked
from fusedata.train.settings import Settings, Stage

RECORD = "train.json"
_LIBRARIES = ("torch", "transformers", "trl", "accelerate", "datasets")
_MAY_CHANGE = {"model", "base", "dataset", "versions", "devices", "arguments"}
"""What may differ where a training goes on: `weights` and `files` know content by digest, and the settings the rest."""
_OF_THIS_MACHINE = ("output_dir", "logging_dir", "run_name", "hub_", "push_to_hub", "local_rank", "disable_tqdm")


def devices() -> int:
    """Count the processes of this training, one a device."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def recorded(
    stage: Stage, facts: Mapping[str, Any], settings: Settings, rows: Checked, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Tell all that is in force; `arguments` are those of TRL, its defaults among them."""
    return {
        "stage": stage,
        **facts,
        "settings": settings.model_dump(),
        "rows": {"train": rows.train.height, "test": rows.test.height, **rows.counts},
        "devices": devices(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "arguments": {
            name: value
            for name, value in arguments.items()
            if value not in (None, "", []) and not name.startswith(_OF_THIS_MACHINE) and "token" not in name
        },
    }


def claim(out: Path, record: Mapping[str, Any]) -> None:
    """Write what is in force to the folder `out`; one that holds anything else is refused. Raises ConfigError."""
    path = out / RECORD
    if path.exists():
        _compare(out, json.loads(path.read_bytes()), record)
    elif out.exists() and (not out.is_dir() or any(not file.name.startswith(".") for file in out.iterdir())):
        raise ConfigError(f"--out {out}: holds something else than a training: name a folder that is not there yet.")
    write(path, record)


def _compare(out: Path, before: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    names = [name for name in record if before.get(name) != record[name] and name not in _MAY_CHANGE]
    if names:
        found = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(record[name])}" for name in names)
        raise ConfigError(f"{out}: holds another training ({found}): name another --out, or remove the folder.")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record. Raises RunError."""
    with writing(path) as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False).encode())
