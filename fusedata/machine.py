"""What this machine has: cores and memory within the limits of its control groups, GPUs, space on disks."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_ABSURD = 1 << 60
"""Control groups of version 1 write no limit as a number near 2**63."""


class Limits(NamedTuple):
    """What control groups (containers, systemd) allow this process; None: no limit."""

    cores: float | None
    memory: int | None
    """Bytes."""


def limits(own: Path = _OWN, root: Path = _CGROUPS) -> Limits:
    """Read the tightest limits of the groups that this process is in, version 1 or 2, and of those above them."""
    cores: list[float] = []
    memory: list[int] = []
    for folder in _folders(own, root):
        cores += _cores_v2(folder / "cpu.max") or _cores_v1(folder)
        memory += _numbers(folder / "memory.max") or _numbers(folder / "memory.limit_in_bytes")
    bounds = [number for number in memory if 0 < number < _ABSURD]
    return Limits(min(cores, default=None), min(bounds, default=None))


def _folders(own: Path, root: Path) -> Iterator[Path]:
    """Give the folders of all groups that this process is in: within a container, their paths may be the host's."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        base = root / controllers if controllers else root
        place = Path(path.lstrip("/"))
        yield from (base / part for part in (place, *place.parents))


def _cores_v2(path: Path) -> list[float]:
    words = _text(path).split()
    return [int(words[0]) / int(words[1])] if len(words) > 1 and words[0].isdigit() else []


def _cores_v1(folder: Path) -> list[float]:
    quota, period = _numbers(folder / "cpu.cfs_quota_us"), _numbers(folder / "cpu.cfs_period_us")
    return [quota[0] / period[0]] if quota and period and quota[0] > 0 else []


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in _text(path).split() if word.lstrip("-").isdigit()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def cores(within: Limits) -> float:
    """How many cores this process may keep busy."""
    allowed = len(os.sched_getaffinity(0))
    return allowed if within.cores is None else min(allowed, within.cores)


def memory(within: Limits) -> tuple[int, int]:
    """Bytes that are available, and bytes in all."""
    page = os.sysconf("SC_PAGE_SIZE")
    told = {line.split(":")[0]: line.split()[1] for line in _text(Path("/proc/meminfo")).splitlines()}
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = int(told["MemAvailable"]) * 1024 if "MemAvailable" in told else os.sysconf("SC_AVPHYS_PAGES") * page
    total = min(total, within.memory or total)
    return min(free, total), total


def free_space(folder: Path) -> tuple[Path, int, bool]:
    """Where `folder` is or would be made, the bytes free there, and whether this user may write there."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return place, shutil.disk_usage(place).free, os.access(place, os.W_OK | os.X_OK)


class Gpus(NamedTuple):
    """The GPUs that nvidia-smi lists, by name with their memory in MiB; `error` is its first line where it failed."""

    found: list[tuple[str, int]]
    error: str = ""


def gpus(seconds: float) -> Gpus:
    """Ask nvidia-smi; nothing is loaded into this process."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Gpus([])
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Gpus([], f"did not answer within {seconds:g} s")
    except OSError as error:
        return Gpus([], error.strerror or type(error).__name__)
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip().splitlines() or [f"ended with {answer.returncode}"]
        return Gpus([], said[0])
    rows = [line.rsplit(",", 1) for line in answer.stdout.splitlines() if "," in line]
    return Gpus([(name.strip(), int(size) if size.strip().isdigit() else 0) for name, size in rows])
