"""`fusedata verify`."""

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:
    from fusedata.verify.math_answer import MathVerdict
    from fusedata.verify.sandbox import Outcome, Program

_NO_OBJECT = "could not be judged: the row is no JSON object"
_UNUSABLE = 'could not be judged: the row needs the texts "gold" and "response"'


@click.group("verify")
def verify_command() -> None:
    """Judge rows of a JSON-lines file, one JSON line each, in order."""


@verify_command.command("math")
@click.argument("file")
@click.option("--workers", type=click.IntRange(min=1), help="Processes for symbolic mathematics (default: one a core).")
@click.option(
    "--timeout", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Seconds a pair may take."
)
def math_command(file: str, workers: int | None, timeout: float) -> None:
    """Judge rows {"gold", "response"} of FILE (`-`: standard input); other keys are ignored.

    Prints for each row {"passed": true|false|null, "extracted", "method", "detail"}; null: could not be judged.
    """
    from fusedata.errors import ConfigError
    from fusedata.verify.math_answer import MathVerifier

    broken: list[str] = []
    unusable: deque[str] = deque()
    with MathVerifier(workers=workers, timeout=timeout) as verifier, _opened(file) as lines:
        for verdict in verifier.verify_many(_pairs(_rows(file, lines, broken), unusable)):
            why = unusable.popleft()
            _print(verdict._replace(detail=why) if why else verdict)
    sys.stdout.buffer.flush()
    if broken:
        raise ConfigError(broken[0])


@verify_command.command("code")
@click.argument("file")
@click.option("--workers", type=click.IntRange(min=1), help="Sandbox containers (default: one a core).")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds of the processor a program may take.",
)
@click.option(
    "--memory", type=click.IntRange(min=64), default=512, show_default=True, help="Megabytes a program may use."
)
@click.option("--runtime", type=click.Choice(["runc", "runsc"]), default="runc", show_default=True)
@click.option("--image", default="fusedata-sandbox", show_default=True)
def code_command(file: str, workers: int | None, timeout: float, memory: int, runtime: str, image: str) -> None:
    """Run the programs of FILE (`-`: standard input) in the sandbox, each with its tests.

    A row holds "response" (a model's text with the program in it) or "code", and "tests" (assert lines), "check"
    (source of check(candidate)) with "entry_point", or "stdin" and "stdout". "setup" runs after the program, other
    keys are ignored. Prints for each row {"passed": true|false|null, "status", "detail", "seconds", "isolation"}; null:
    could not be judged; isolation: "split" where values were compared outside the sandbox, "shared" where the verdict
    rests on asserts in the program's own process, "none" where nothing was run.
    """
    from fusedata.errors import ConfigError
    from fusedata.verify.sandbox import Sandbox

    broken: list[str] = []
    ready: deque[Outcome | None] = deque()
    sandbox = Sandbox(image=image, runtime=runtime, workers=workers, timeout=timeout, memory_mb=memory)
    with _opened(file) as lines, sandbox:
        for outcome in sandbox.run(_programs(_rows(file, lines, broken), ready)):
            while (first := ready.popleft()) is not None:
                _print(first)
            _print(outcome)
        for left in ready:
            assert left
            _print(left)
    sys.stdout.buffer.flush()
    if broken:
        raise ConfigError(broken[0])


def _programs(rows: Iterable[object], ready: "deque[Outcome | None]") -> "Iterator[Program]":
    """Give the programs of rows that are to be run; to `ready`, None for each of them, or the outcome of the others."""
    from fusedata.verify.code.prepare import prepare
    from fusedata.verify.sandbox import Outcome, Program

    for row in rows:
        what = prepare(row) if isinstance(row, dict) else Outcome(None, "unavailable", _NO_OBJECT, 0.0, "none")
        ready.append(None if isinstance(what, Program) else what)
        if isinstance(what, Program):
            yield what


def _print(verdict: "MathVerdict | Outcome") -> None:
    line = json.dumps(verdict._asdict(), ensure_ascii=False).encode("utf-8", "replace")
    sys.stdout.buffer.write(line + b"\n")


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """Open FILE, or standard input for `-`. Raises ConfigError."""
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


def _rows(file: str, lines: Iterable[bytes], broken: list[str]) -> Iterator[object]:
    """Parse line by line; at one that is no JSON, stop and leave a sentence in `broken`."""
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            yield json.loads(line, parse_int=str, parse_float=str, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            name = "standard input" if file == "-" else file
            broken.append(f"{name}, line {number}: is no JSON ({error}); the lines before it were judged.")
            return


def _pairs(rows: Iterable[object], unusable: "deque[str]") -> Iterator[tuple[str, str]]:
    """Give gold and response of each row, and to `unusable` why it cannot be judged, or an empty string."""
    for row in rows:
        gold, response = (_text(row, "gold"), _text(row, "response")) if isinstance(row, dict) else (None, None)
        usable = gold is not None and response is not None
        unusable.append("" if usable else _UNUSABLE)
        yield (gold or "", response or "") if usable else ("", "")


def _text(row: dict[str, object], key: str) -> str | None:
    """Give a value as text; numbers were read as they are written."""
    value = row.get(key)
    return value if isinstance(value, str) else None


def _no_constant(name: str) -> str:
    raise ValueError(f"{name} is no JSON value")
