"""Training on several devices: the same command again, in processes that accelerate starts."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from fusedata.assets import asset
from fusedata.errors import ConfigError


def configurations() -> dict[str, Path]:
    """Name and path of the configurations of accelerate that ship with fusedata."""
    return {path.stem: path for path in sorted(asset("recipes", "accelerate").glob("*.yaml"))}


def launched(name: str) -> int:
    """Run this command line under `accelerate launch`, with a shipped configuration or a file; give its exit status.

    A shipped configuration runs a process on every GPU. Raises ConfigError.
    """
    shipped = configurations()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        known = ", ".join(shipped)
        raise ConfigError(f"--launch {name}: there is no such configuration; there are {known}, or give a YAML file.")
    options = ["--config_file", str(path)]
    if name in shipped:
        options += ["--num_processes", str(_gpus(name))]
    start = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "fusedata"]
    return subprocess.run([*start, *_without_launch(sys.argv[1:])], check=False).returncode  # noqa: S603 - our own command


def _gpus(name: str) -> int:
    """Count the GPUs of this machine. Raises ConfigError where a shipped configuration cannot run."""
    import torch

    if name == "zero3" and find_spec("deepspeed") is None:
        raise ConfigError("--launch zero3: DeepSpeed is not installed: pip install deepspeed.")
    if not torch.cuda.is_available():
        raise ConfigError(f"--launch {name}: there is no GPU here: leave it out, or give a YAML file of accelerate's.")
    return int(torch.cuda.device_count())


def _without_launch(arguments: list[str]) -> list[str]:
    kept = [argument for argument in arguments if not argument.startswith("--launch=")]
    if "--launch" in kept:
        place = kept.index("--launch")
        del kept[place : place + 2]
    return kept
