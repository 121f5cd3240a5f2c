"""The worker process of the verifier: reads a question, answers it, and ends with its parent.

Frames are four bytes of length (big-endian) and JSON in ASCII, both ways. The first argument is the memory limit in
MiB, the second the seconds that a question may take. math-verify takes longer to import than that: the worker says
`{"state": "loading"}` before and `{"state": "ready"}` after it (and at its start), and the time between does not count.

The parent kills a worker that is late. Where the parent is gone, an idle worker sees the end of its input, a busy one
is ended by a thread that looks for the parent, and one stuck in a single long operation by an alarm.
"""

import functools
import json
import logging
import math
import os
import resource
import signal
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")
LOOK_SECONDS = 0.5


def read_frame(stream: BinaryIO) -> Any | None:  # noqa: ANN401 - whatever JSON holds
    """The next frame, or None at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    body = stream.read(HEADER.unpack(header)[0])
    return json.loads(body)


def frame(message: object) -> bytes:
    """A message as bytes to write."""
    body = json.dumps(message).encode("ascii")
    return HEADER.pack(len(body)) + body


def main(memory_mb: int, seconds: float) -> None:
    """Answer questions until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logging.disable(logging.CRITICAL)
    sys.set_int_max_str_digits(0)
    from fusedata.verify.mathematics import symbolic  # noqa: PLC0415 - under the limits

    symbolic.load_numbers()
    output = sys.stdout.buffer
    sys.stdout = sys.stderr

    @functools.cache
    def load_library() -> None:
        signal.alarm(0)
        _say(output, {"state": "loading"})
        symbolic.load_library()
        _say(output, {"state": "ready"})
        signal.alarm(_alarm(seconds))

    _say(output, {"state": "ready"})
    while (question := read_frame(sys.stdin.buffer)) is not None:
        signal.alarm(_alarm(seconds))
        try:
            verdict, detail = symbolic.decide(question["gold"], question["answer"], load_library)
        except (MemoryError, RecursionError) as error:
            verdict, detail = None, f"could not be judged: {type(error).__name__} in a worker process"
        signal.alarm(0)
        _say(output, {"verdict": verdict, "detail": detail})


def _end_with(parent: int) -> None:
    """End this process when the parent is another than at its start."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(0)


def _alarm(seconds: float) -> int:
    """Later than the parent is patient (pool.PATIENCE): it is for a parent that is gone."""
    return math.ceil(12 * seconds) + 2


def _say(output: BinaryIO, message: object) -> None:
    output.write(frame(message))
    output.flush()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), float(sys.argv[2]))
    except BrokenPipeError:
        sys.exit(0)
