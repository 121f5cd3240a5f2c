"""What a published checkpoint says of itself: its config.json, and single tensors of its safetensors files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusedata.errors import RewardError
from fusedata.weights import Weights

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"


def read_config(weights: Weights) -> dict[str, Any]:
    """Give config.json as it was published; nothing that it names is run. Empty for a GGUF file. Raises RewardError."""
    if "gguf_file" in weights.arguments:
        return {}
    return _read_json(weights, "config.json")


def read_tensors(weights: Weights, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Read the tensors whose names are `wanted`, in the precision they were stored in. Raises RewardError, OSError."""
    from safetensors import safe_open  # noqa: PLC0415 - comes with the extra

    found: dict[str, Any] = {}
    for name in _shards(weights, wanted):
        with safe_open(_path(weights, name), framework="pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118 - it is no dict
    return found


def _shards(weights: Weights, wanted: Callable[[str], bool]) -> list[str]:
    """Give the files that hold wanted tensors."""
    if _path(weights, WHOLE, missing_ok=True):
        return [WHOLE]
    places = _read_json(weights, INDEX).get("weight_map", {})
    return sorted({file for tensor, file in places.items() if wanted(tensor)})


def _read_json(weights: Weights, name: str) -> dict[str, Any]:
    path = _path(weights, name)
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a path of the hub's client
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise RewardError(f"{path}: it cannot be read ({error}): fetch the model again.") from error
    if not isinstance(data, dict):
        raise RewardError(f"{path}: it holds no table: fetch the model again.")
    return data


def _path(weights: Weights, name: str, *, missing_ok: bool = False) -> str:
    """Find a file of the model in its folder, or on the hub at the pinned commit."""
    folder = Path(weights.source)
    if folder.is_dir():
        path = folder / name
        if path.is_file() or missing_ok:
            return str(path) if path.is_file() else ""
        raise RewardError(f"{weights.source}: there is no {name} in it: name a folder that holds a whole model.")
    return _fetched(weights, name, missing_ok=missing_ok)


def _fetched(weights: Weights, name: str, *, missing_ok: bool) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return hf_hub_download(weights.source, name, revision=weights.revision)
    except EntryNotFoundError as error:
        if missing_ok:
            return ""
        raise RewardError(f"{weights.source}: Hugging Face has no {name} of it: check the id.") from error
    except Exception as error:  # the client's own and those of the HTTP library under it
        what = f"{weights.source}: {name} could not be fetched from Hugging Face ({type(error).__name__})"
        raise RewardError(f"{what}: check the network, or name a folder in the profile's reward table.") from error
