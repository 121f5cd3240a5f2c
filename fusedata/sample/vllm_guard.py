"""The guard of vLLM's processes: they end with the process that holds the engine, however that dies.

vLLM ends them itself where their holder ends in order. One that is killed leaves them alive, with the memory of its
GPUs, so that neither the next build nor the actor that Ray puts in its place can load. The guard is a small process
beside the holder. It asks who its parent is, as a pipe tells nothing here: a forked engine holds its other end, too.

This file is run by its path, and so imports nothing of ours.
"""

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import Any

LOOK_SECONDS = 0.5


class Guard:
    """Watches over all that this process begins until `loaded`, as the engine's, and over what that begins."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own file under our own interpreter
            [sys.executable, "-P", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends the holder's group ends not the guard
            bufsize=0,
        )

    def loaded(self) -> None:
        """Say that the engine has all its processes: what this process begins from now on is not the engine's."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")

    def close(self) -> None:
        """End the guard, not what it guards."""
        assert self._process.stdin
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def main(holder: int) -> None:
    """Wait for the end of the holder, and kill what the engine has left."""
    import psutil  # noqa: PLC0415 - it comes with vLLM

    began = psutil.Process().create_time()
    guarded: set[psutil.Process] = set()
    loading = True
    while os.getppid() == holder:
        if not loading:
            time.sleep(LOOK_SECONDS)
            continue
        loading = not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]
        with contextlib.suppress(psutil.NoSuchProcess):
            guarded |= {p for p in psutil.Process(holder).children(recursive=True) if p.create_time() > began}
    for process in guarded:
        _kill(process)


def _kill(process: Any) -> None:  # noqa: ANN401
    """Kill a process and its descendants, unless its number is another's by now.

    Python's tracker of shared memory is left: it clears away what they held of that, and ends by itself.
    """
    import psutil  # noqa: PLC0415

    with contextlib.suppress(psutil.Error):
        for found in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                if "multiprocessing.resource_tracker" not in " ".join(found.cmdline()):
                    found.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]))
