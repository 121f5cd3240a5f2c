"""`fusedata verify`."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator

import click

from fusedata.cli.lines import opened, parsed, put

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
    with MathVerifier(workers=workers, timeout=timeout) as verifier, opened(file) as lines:
        for verdict in verifier.verify_many(_pairs(parsed(file, lines, broken), unusable)):
            why = unusable.popleft()
            put((verdict._replace(detail=why) if why else verdict)._asdict())
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
    from fusedata.verify.code.judge import judged
    from fusedata.verify.sandbox import Sandbox

    broken: list[str] = []
    sandbox = Sandbox(image=image, runtime=runtime, workers=workers, timeout=timeout, memory_mb=memory)
    with opened(file) as lines, sandbox:
        for outcome in judged(parsed(file, lines, broken), sandbox):
            put(outcome._asdict())
    sys.stdout.buffer.flush()
    if broken:
        raise ConfigError(broken[0])


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
