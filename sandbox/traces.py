# ruff: noqa: INP001, PTH104, PTH106, PTH108, PTH112, PTH118, PTH123 - no package, and paths that are bytes
"""What a program leaves behind: files, and the kernel's note that it was killed for memory."""

import contextlib
import os

WIPED = ("/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108 - the only folders that a program can write
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")  # cgroup version 2, 1


def out_of_memory() -> int:
    """How many processes of this container the kernel has killed for memory; 0 where it does not say."""
    for path in OOM_COUNTERS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                key, _, count = line.partition(" ")
                if key == "oom_kill":
                    return int(count)
    return 0


def wipe(folder: str) -> None:
    """Empty a folder, however deep: what lies in a folder's folders is moved up, so no path ever grows."""
    if not os.path.isdir(folder):
        return
    while entries := list(os.scandir(os.fsencode(folder))):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.rename(inner.path, os.path.join(os.fsencode(folder), os.urandom(16).hex().encode()))
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
