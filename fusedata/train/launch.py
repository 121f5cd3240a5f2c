"""Training on several devices: the same command again, in processes that accelerate starts."""

import subprocess
import sys
from pathlib import Path

from fusedata.assets import asset
from fusedata.errors import ConfigError


def configurations() -> dict[str, Path]:
    """Name and path of the configurations of accelerate that ship with fusedata."""
    return {path.stem: path for path in sorted(asset("recipes", "accelerate").glob("*.yaml"))}


def launched(name: str) -> int:
    """Run this command line under `accelerate launch`, with a shipped configuration or a file; give its exit status.

    Raises ConfigError.
    """
    shipped = configurations()
    path = shipped.get(name, Path(name))
    if not path.is_file():
        known = ", ".join(shipped)
        raise ConfigError(f"--launch {name}: there is no such configuration; there are {known}, or give a YAML file.")
    rest = _without_launch(sys.argv[1:])
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    return subprocess.run([*start, "-m", "fusedata", *rest], check=False).returncode  # noqa: S603 - our own command


def _without_launch(arguments: list[str]) -> list[str]:
    kept = [argument for argument in arguments if not argument.startswith("--launch=")]
    if "--launch" in kept:
        place = kept.index("--launch")
        del kept[place : place + 2]
    return kept
