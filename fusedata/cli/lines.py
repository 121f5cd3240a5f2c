"""JSON lines into and out of the commands that judge row by row."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`. Raises ConfigError."""
    from fusedata.errors import ConfigError

    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        lines = Path(file).open("rb")  # noqa: SIM115 - what is written meanwhile may fail too, and is another matter
        lines.peek()
    except OSError as error:
        remedy = "name a JSON-lines file, or - for standard input"
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); {remedy}.") from error
    with lines:
        yield lines


def parsed(file: str, lines: Iterable[bytes], broken: list[str]) -> Iterator[object]:
    """Parse line by line, blank ones passed over; at one that is no JSON, stop and leave a sentence in `broken`."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield json.loads(line, parse_int=str, parse_float=str, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            name = "standard input" if file == "-" else file
            broken.append(f"{name}, line {number}: is no JSON ({error}); the lines before it were judged.")
            return


def put(row: dict[str, object]) -> None:
    """Print one JSON line; a lone surrogate, which UTF-8 cannot say, as a question mark."""
    line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
    sys.stdout.buffer.write(line + b"\n")


def _no_constant(name: str) -> str:
    raise ValueError(f"{name} is no JSON value")
