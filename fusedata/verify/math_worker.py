"""The worker process of the verifier: reads a question, answers it, and ends with its parent.

Frames are four bytes of length (big-endian) and JSON in ASCII, both ways. The first argument is the memory limit
in MiB, the second the seconds after which a question kills the process by an alarm of its own: the parent kills
earlier, and the alarm is for when the parent is gone. End of file on standard input ends the process.
"""

import json
import logging
import math
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")


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
    logging.disable(logging.CRITICAL)
    sys.set_int_max_str_digits(0)
    from fusedata.verify import math_symbolic  # noqa: PLC0415 - under the limits

    math_symbolic.warm_up()
    output = sys.stdout.buffer
    sys.stdout = sys.stderr
    _say(output, {"ready": True})
    while (question := read_frame(sys.stdin.buffer)) is not None:
        signal.alarm(math.ceil(2 * seconds) + 2)
        try:
            verdict, detail = math_symbolic.decide(question["gold"], question["answer"])
        except (MemoryError, RecursionError) as error:
            verdict, detail = None, f"gave up: {type(error).__name__} in symbolic comparison"
        signal.alarm(0)
        _say(output, {"verdict": verdict, "detail": detail})


def _say(output: BinaryIO, message: object) -> None:
    output.write(frame(message))
    output.flush()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), float(sys.argv[2]))
    except BrokenPipeError:
        sys.exit(0)
