"""The tests of a program as steps: what the child is asked, and what is expected of its answer.

Tests are untrusted: they are parsed here, never evaluated. Of `assert CALL == CONSTANT` the child gets CALL alone; a
constant that is no literal is evaluated in a child of its own. What cannot be split runs in the child as it stands, and
the plan says so: its isolation is "shared".
"""

import ast
from functools import lru_cache
from typing import Final, NamedTuple

from fusedata.snippets import parsed
from fusedata.verify.sandbox.expect import Expectation
from fusedata.verify.sandbox.programs import Program
from fusedata.verify.sandbox.splitting import Constants, Split, split_assert

MOST_TESTS_TEXT: Final = 4 << 20
"""Characters of tests; a program with more is not judged."""
MOST_ASSERTS: Final = 2000
"""Asserts of one program that are looked at, the first ones: the others add time, hardly any judgement."""


class Step(NamedTuple):
    """One thing asked of the child: `kind` value, truth (of a value) or run (statements).

    `expectation` is None where it is enough that nothing was raised. `shared` marks statements that decide a verdict.
    """

    kind: str
    source: str
    expectation: Expectation | None
    line: str
    shared: bool = False


class Plan(NamedTuple):
    """All steps in order, the expression that `candidate` stands for, and sources of constants that are no literals.

    `imports` are the import statements of the tests: constants are evaluated after them.
    """

    steps: tuple[Step, ...]
    candidate: str | None
    constants: tuple[str, ...]
    imports: str
    isolation: str


class UnusableTestsError(ValueError):
    """Tests that cannot be read as Python, or that hold nothing to judge by."""


def plan_of(program: Program) -> Plan:
    """The plan of a program's tests. Raises UnusableTestsError."""
    return _planned(program.tests, program.check, program.entry_point)


def plan_in_child(program: Program) -> Plan:
    """The same tests, all of them left to the child."""
    return _planned(program.tests, program.check, program.entry_point, splits=False)


@lru_cache(maxsize=4096)
def _planned(tests: tuple[str, ...], check: str | None, entry_point: str | None, *, splits: bool = True) -> Plan:
    if sum(map(len, tests)) + len(check or "") > MOST_TESTS_TEXT:
        raise UnusableTestsError(f"the tests are longer than {MOST_TESTS_TEXT:,} characters")
    try:
        planner = _Planner(splits=splits)
        planner.module("\n".join(tests))
        if check is not None:
            planner.check(check, entry_point)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableTestsError(f"the tests cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    return planner.plan(entry_point if check is not None else None)


_STRAIGHT: Final = (ast.Assert, ast.Assign, ast.Expr, ast.Import, ast.ImportFrom, ast.Pass)


class _Source:
    """A parsed text that gives the exact text of each node."""

    def __init__(self, text: str) -> None:
        self.tree = parsed(text)
        self.lines = text.encode().splitlines(keepends=True) if "\f" not in text else []
        self.text = text

    def segment(self, node: ast.expr | ast.stmt) -> str:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        start, end = node.col_offset, node.end_col_offset
        lines = self.lines
        if not lines or (isinstance(node, ast.stmt) and first != last):
            return ast.unparse(node)
        if first == last:
            return lines[first][start:end].decode()
        return b"".join([lines[first][start:], *lines[first + 1 : last], lines[last][:end]]).decode()


class _Planner:
    def __init__(self, *, splits: bool) -> None:
        self.splits = splits
        self.steps: list[Step] = []
        self.constants = Constants()
        self.imports: list[str] = []
        self.asserts = 0
        self.untold: dict[str, str] = {}
        self.told: set[str] = set()

    def add(self, step: Step, *nodes: ast.AST) -> None:
        """Add a step; before it, what it needs of the constants that the tests bound to names."""
        used = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)} & self.untold.keys()
        for name in sorted(used):
            self.steps.append(Step("run", self.untold.pop(name), None, ""))
        self.told |= used
        self.steps.append(step)

    def plan(self, candidate: str | None) -> Plan:
        if not any(step.expectation or step.shared for step in self.steps):
            raise UnusableTestsError("the tests assert nothing")
        told = self.told & self.constants.expected
        isolation = "shared" if told or any(step.shared for step in self.steps) else "split"
        return Plan(tuple(self.steps), candidate, tuple(self.constants.sources), "\n".join(self.imports), isolation)

    def module(self, text: str) -> None:
        """Plan statements that stand at the top level."""
        source = _Source(text)
        self.body(source, source.tree.body)

    def check(self, text: str, entry_point: str | None) -> None:
        """Plan the source of `check(candidate)`: split where its body is straight, otherwise called as it stands."""
        source = _Source(text)
        body = [node for node in source.tree.body if not _calls(node, "check")]
        found = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
        if found is None or not entry_point or len(found.args.args) != 1:
            raise UnusableTestsError("the check needs def check(candidate) and an entry point")
        around = [node for node in body if node is not found]
        straight = all(isinstance(node, _STRAIGHT) for node in found.body)
        if straight and self.splits:
            self.body(source, around)
            name = found.args.args[0].arg
            if name != "candidate":
                self.steps.append(Step("run", f"{name} = candidate", None, ""))
            self.body(source, found.body)
        else:
            self.steps.append(Step("run", f"{text}\ncheck(candidate)", None, "check(candidate)", shared=True))

    def body(self, source: _Source, body: list[ast.stmt]) -> None:
        for node in body:
            self.statement(source, node)

    def statement(self, source: _Source, node: ast.stmt) -> None:
        """Plan one statement."""
        if isinstance(node, ast.Assert):
            self.asserts += 1
            if self.asserts <= MOST_ASSERTS:
                self.assertion(source, node)
            return
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return
        text = source.segment(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.append(text)
            self.constants.know(node)
        elif self.splits and self.constants.bind(node):
            assert isinstance(node, ast.Assign)
            assert isinstance(node.targets[0], ast.Name)
            self.untold[node.targets[0].id] = text
            return
        else:
            self.constants.define(node)
        self.add(Step("run", text, None, _short(text), shared=_decides(node)), node)

    def assertion(self, source: _Source, node: ast.Assert) -> None:
        """Plan one assert: in parts that are compared on the host, or as it stands."""
        line = _short(source.segment(node))
        found = split_assert(node.test, self.constants) if self.splits else None
        if found is None:
            self.add(Step("run", source.segment(node), None, line, shared=True), node)
        for split in found or ():
            self.add(Step(split.kind, _expression(source, split), split.expectation, line), *split.values)


def _expression(source: _Source, split: Split) -> str:
    texts = [source.segment(value) for value in split.values]
    return "(" + "\n,\n".join(texts) + "\n)"


def _calls(node: ast.stmt, name: str) -> bool:
    """Whether a statement is a bare call of a name."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name


def _decides(node: ast.stmt) -> bool:
    """Whether a statement other than an assert may hold what decides a verdict: an assert, a raise, a comparison."""
    return any(isinstance(inner, ast.Assert | ast.Raise | ast.Compare | ast.Try | ast.With) for inner in ast.walk(node))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"  # noqa: PLR2004 - what fits a detail
