# ruff: noqa: INP001 - no package: it runs in the container
"""What a forked child does: run a program, evaluate the expressions of its tests, report values.

Nothing here can be trusted once the program runs, for the program shares this process. What protects a verdict is
that the values a test expects are not here: expressions come in, values go out in an encoding of exact built-in
types, and they are compared on the host.
"""

import builtins
import collections
import contextlib
import decimal
import fractions
import gc
import importlib
import json
import os
import random
import resource
import sys
import types

STARS = ("typing", "functools", "collections", "itertools", "heapq", "bisect", "string", "operator", "math")
MODULES = (*STARS, "re", "datetime", "copy", "random", "statistics", "json", "sys")
FROM_SORTED = ("SortedList", "SortedDict", "SortedSet")
"""Names that LeetCode gives every program: all of STARS, then the modules, then those of sortedcontainers."""
WARM = (
    "abc cmath contextlib ctypes dataclasses decimal enum fractions hashlib inspect io itertools numbers pickle queue"
    " secrets shutil socket struct subprocess tempfile textwrap threading time traceback unittest uuid"
)
"""Modules that cost a fork nothing, and an import in each program much."""

MOST_NODES = 200_000
MOST_DEPTH = 100
MOST_TEXT = 2 << 20
KEPT_MESSAGE = 500
_EXACT = 2**53


def warm_up() -> None:
    """Import what programs import, and put the names of LeetCode's preamble where a program's own names win."""
    for name in (*MODULES, *WARM.split(), *os.environ.pop("SANDBOX_ALSO_WARM", "").split()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    names = {}
    for name in STARS:
        module = sys.modules[name]
        public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        names.update(
            {key: getattr(module, key) for key in public if key not in {"Counter", "OrderedDict"} or name != "typing"}
        )
    names.update({name: sys.modules[name] for name in MODULES})
    with contextlib.suppress(ImportError):
        import sortedcontainers  # noqa: PLC0415 - not in every image

        names.update({name: getattr(sortedcontainers, name) for name in FROM_SORTED})
    for name, value in names.items():
        builtins.__dict__.setdefault(name, value)


class Refused(Exception):  # noqa: N818 - a value, not a mistake, is refused
    """A value that is too large to send."""


class Encoder:
    """Values of exact built-in types as what JSON can say; everything else by the name of its type only."""

    def __init__(self) -> None:
        self.nodes = self.text = 0

    def encode(self, value: object, depth: int = 0) -> object:  # noqa: PLR0911 - a table of types
        """One value. Raises Refused past MOST_NODES, MOST_DEPTH or MOST_TEXT."""
        kind = type(value)
        self.nodes += 1
        if self.nodes > MOST_NODES or depth > MOST_DEPTH:
            raise Refused
        if value is None or kind is bool:
            return value
        if kind is int:
            if -_EXACT < value < _EXACT:
                return value
            self.spend(value.bit_length() // 4)
            return {"i": hex(value)}
        if kind is str:
            self.spend(len(value))
            return value
        if kind is float:
            return {"f": value.hex()}
        if kind is list:
            return [self.encode(item, depth + 1) for item in value]
        return self.rarer(kind, value, depth)

    def spend(self, size: int) -> None:
        """Count the length of a text. Raises Refused."""
        self.text += size
        if self.text > MOST_TEXT:
            raise Refused

    def many(self, values: object, depth: int) -> list[object]:
        """The items of an iterable."""
        return [self.encode(item, depth + 1) for item in values]

    def rarer(self, kind: type, value: object, depth: int) -> object:  # noqa: PLR0911 - a table of types
        """Values of types other than the commonest."""
        if kind is tuple:
            return {"t": self.many(value, depth)}
        if kind is set or kind is frozenset:
            return {"s" if kind is set else "z": self.many(value, depth)}
        if kind is dict:
            return {"d": [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()]}
        if kind is bytes or kind is bytearray:
            self.spend(2 * len(value))
            return {"b" if kind is bytes else "y": value.hex()}
        if kind is complex:
            return {"c": [value.real.hex(), value.imag.hex()]}
        if kind is fractions.Fraction:
            return {"q": [hex(value._numerator), hex(value._denominator)]}  # noqa: SLF001 - what no subclass replaced
        if kind is decimal.Decimal:
            return {"n": str(value)}
        if kind in (types.MappingProxyType({}).keys().__class__, {}.keys().__class__, {}.items().__class__):
            return {"u": {"s": self.many(value, depth)}}
        return self.derived(kind, value, depth)

    def derived(self, kind: type, value: object, depth: int) -> object:
        """Values of subclasses that kept the equality of their built-in base, by what the base holds."""
        numpy = sys.modules.get("numpy")
        if numpy and kind in numpy.sctypeDict.values() and type(plain := value.item()) in (bool, int, float, complex):
            return {"u": self.encode(plain, depth)}
        line = type.__dict__["__mro__"].__get__(kind)
        for base in (int, float, str, list, tuple, set, frozenset, dict, bytes):
            if base not in line:
                continue
            between = line[: line.index(base)]
            if all(
                c in _TRUSTED or not {"__eq__", "__ne__"} & set(type.__dict__["__dict__"].__get__(c)) for c in between
            ):
                return {"u": self.encode(_PLAIN[base](value), depth)}
        return {"o": type.__dict__["__name__"].__get__(kind)[:80]}


_TRUSTED = frozenset({collections.Counter, collections.OrderedDict, collections.defaultdict})
_PLAIN = {
    int: int.__index__,
    float: lambda v: float.__add__(v, 0.0) if v else float.fromhex(float.hex(v)),
    str: lambda v: str.__str__(v)[:] if type(str.__str__(v)) is str else str.join("", [*str.__iter__(v)]),
    list: lambda v: [*list.__iter__(v)],
    tuple: lambda v: (*tuple.__iter__(v),),
    set: lambda v: {*set.__iter__(v)},
    frozenset: lambda v: frozenset([*frozenset.__iter__(v)]),
    dict: lambda v: dict(dict.items(v)),
    bytes: lambda v: bytes([*bytes.__iter__(v)]),
}


class Report:
    """Lines of JSON to the runner."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.write, self.dumps = descriptor, os.write, json.dumps
        self.own, self.getpid, self.leave = os.getpid(), os.getpid, os._exit

    def say(self, *words: object) -> None:
        """Write one line. A process that the program forked, and that came back here, has nothing to say."""
        if self.getpid() != self.own:
            self.leave(0)
        rest = memoryview(self.dumps(words).encode() + b"\n")
        while rest:
            rest = rest[self.write(self.descriptor, rest) :]

    def error(self, phase: str, step: int, error: BaseException) -> None:
        """Say that an exception ended a phase: the names of its classes and its message."""
        names = [c.__name__ for c in type.__dict__["__mro__"].__get__(type(error))][:20]
        number = getattr(error, "errno", None)
        self.say("error", phase, step, names, number if type(number) is int else None, "")
        self.say("message", str(error)[:KEPT_MESSAGE])


def main(job: int, result: int) -> None:
    """Read the task, run the program, then what the tests ask for. Never returns."""
    report = Report(result)
    payload = read_payload(job)
    resource.setrlimit(resource.RLIMIT_CPU, (payload["cpu"], payload["cpu"]))
    set_stdin(payload.get("stdin"))
    random.seed(0)
    gc.enable()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    finished = run_all(report, payload, module.__dict__)
    if payload.get("prints") and finished:
        settle(report)
    report.say("end")
    os._exit(0)


def read_payload(job: int) -> dict:
    """All that the host sent for this child."""
    pieces = []
    while piece := os.read(job, 1 << 20):
        pieces.append(piece)
    os.close(job)
    return json.loads(b"".join(pieces))


def set_stdin(text: str | None) -> None:
    """Put a text where the program reads its input."""
    if text:
        file = os.memfd_create("stdin")
        with open(file, "wb", closefd=False) as target:
            target.write(text.encode("utf-8", "surrogatepass"))
        os.lseek(file, 0, os.SEEK_SET)
        os.dup2(file, 0)
        os.close(file)


def run_all(report: Report, payload: dict, names: dict) -> bool:
    """Run program, setup and steps in order, up to the first exception; whether all ran."""
    phase, step = "compile", -1
    try:
        code = compile(payload["code"], "program.py", "exec", dont_inherit=True)
        phase = "program"
        exec(code, names)  # noqa: S102 - what all this is for
        phase = "setup"
        if payload.get("setup"):
            exec(compile(payload["setup"], "setup.py", "exec", dont_inherit=True), names)  # noqa: S102
        if payload.get("candidate"):
            names["candidate"] = eval(payload["candidate"], names)  # noqa: S307
        phase = "test"
        for step, (kind, source, secret) in enumerate(payload.get("steps", ())):
            run_step(report, names, step, kind, source, secret)
    except SystemExit as error:
        if payload.get("prints") and phase == "program":
            return (error.code or 0) == 0 or report.error(phase, step, error)
        report.error(phase, step, error)
    except BaseException as error:  # noqa: BLE001 - anything may come out of a program
        report.error(phase, step, error)
    else:
        return True
    return False


def run_step(report: Report, names: dict, step: int, kind: str, source: str, secret: str) -> None:
    """One step of the tests: a value to send, the truth of one, or statements to run."""
    if kind == "run":
        exec(compile(source, "test.py", "exec", dont_inherit=True), names)  # noqa: S102
        report.say("ran", step, secret)
        return
    value = eval(compile(source, "test.py", "eval", dont_inherit=True), names)  # noqa: S307
    if kind == "truth":
        value = bool(value)
    try:
        tree = Encoder().encode(value)
    except (Refused, RecursionError):
        report.say("large", step)
        return
    report.say("value", step, tree)


def settle(report: Report) -> None:
    """End a program that prints as the interpreter would: wait for its threads, run atexit, flush."""
    import atexit  # noqa: PLC0415
    import threading  # noqa: PLC0415

    try:
        threading._shutdown()  # noqa: SLF001 - what the interpreter itself calls at its end
        atexit._run_exitfuncs()  # noqa: SLF001
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001
        report.error("program", -1, error)
