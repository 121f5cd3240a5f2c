"""The program of a response: in fenced blocks, in several of them, without a fence, indented, or cut off.

Of several blocks the last that defines what the tests use is the program, with the blocks before it that define names
it needs: models show a first try before the final one, and usage, output or tests after it.
"""

import ast
import builtins
import re
import symtable
from collections.abc import Collection, Iterator, Sequence
from textwrap import dedent
from typing import Final, NamedTuple

from fusedata.snippets import parsed, python_blocks

_START: Final = re.compile(
    r"[ \t]*(?:(?:async[ ]+)?def\s+\w|class\s+\w|import\s+\w|from\s+[\w.]+\s+import\s|@\w|[A-Z][A-Z0-9_]*\s*=[^=])"
)
_TRIES: Final = 60
"""How often prose is cut off before a response is given up: each try parses once."""
_BUILTINS: Final = frozenset(dir(builtins))
_TOO_DEEP: Final = (RecursionError, MemoryError)


class _Part(NamedTuple):
    """A piece of Python: its text, the names that it binds at its top level, and those that it must find there."""

    text: str
    binds: frozenset[str]
    reads: frozenset[str]


def extract_program(response: str, names: Collection[str] = ()) -> str | None:
    """Find the program that defines `names` (what its tests use); None where the response holds no program.

    Where no piece defines them all, gives the likeliest piece: the first that mentions one, else the longest.
    """
    fenced = [block.text if block.closed else _whole_or_prefix(block.text) for block in python_blocks(response)]
    texts = [dedent(text) for text in fenced if text.strip()]
    parts = [part for text in texts if (part := _part(text))]
    program = _chosen(parts, names)
    if program is None and (not texts or names):
        unfenced = [part for text in _unfenced(response) if (part := _part(text))]
        program = _chosen(unfenced, names)
        texts = texts or [part.text for part in unfenced]
    return program or _likeliest(texts, names)


def _chosen(parts: Sequence[_Part], names: Collection[str]) -> str | None:
    """Take the last part that defines all names; where none does, all of them together if they do."""
    if not parts:
        return None
    if not names:
        return max(parts, key=lambda part: len(part.text)).text
    for number in range(len(parts) - 1, -1, -1):
        if parts[number].binds.issuperset(names):
            return _completed(parts, number, names)
    if frozenset[str]().union(*(part.binds for part in parts)).issuperset(names):
        return "\n\n".join(part.text for part in parts if part.binds)
    return None


def _completed(parts: Sequence[_Part], number: int, names: Collection[str]) -> str:
    """Put the parts that define what the chosen one needs before it."""
    chosen = parts[number]
    needed = chosen.reads - chosen.binds - _BUILTINS
    others = [p for p in parts if p is not chosen and p.binds & needed and (p.binds | p.reads).isdisjoint(names)]
    return "\n\n".join(part.text for part in [*others, chosen])


def _likeliest(texts: Sequence[str], names: Collection[str]) -> str | None:
    mentions = [text for text in texts if any(re.search(rf"\b(?:def|class)\s+{re.escape(n)}\b", text) for n in names)]
    return mentions[0] if mentions else max(texts, key=len, default=None)


def _part(text: str) -> _Part | None:
    """Read what a text defines; None where it is no Python or defines and does nothing."""
    try:
        tree = parsed(text)
    except (SyntaxError, *_TOO_DEEP):
        return None
    if not tree.body:
        return None
    return _Part(text, frozenset(_bound(tree.body)), frozenset(_global_reads(text)))


def _global_reads(text: str) -> Iterator[str]:
    """Give the names that a program reads from its top level, in whatever scope; none where it does not compile."""
    try:
        scopes = [symtable.symtable(text, "program", "exec")]
    except (SyntaxError, ValueError, *_TOO_DEEP):
        return
    while scopes:
        scope = scopes.pop()
        top = scope.get_type() == "module"
        yield from (s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global()))
        scopes += scope.get_children()


def _bound(body: Sequence[ast.AST]) -> Iterator[str]:
    """Give the names that statements bind, those within branches and loops too, those within functions not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, ast.Lambda):
            yield from _bound(list(ast.iter_child_nodes(node)))


def _whole_or_prefix(text: str) -> str:
    """Of a block whose fence never closes give what is Python, where prose or an unfinished statement follows it."""
    code, _ = _longest(text.splitlines(), _TRIES)
    return code or text


def _unfenced(response: str) -> list[str]:
    """Find the pieces of a response without fences that parse and begin like a program; or all of it, if it parses."""
    whole = _part(dedent(response))
    if whole and not all(_is_word(node) for node in parsed(whole.text).body):
        return [whole.text]
    lines, at, found, tries = response.splitlines(), 0, list[str](), _TRIES
    while tries > 0 and (start := next((i for i in range(at, len(lines)) if _START.match(lines[i])), None)) is not None:
        indent = len(lines[start]) - len(lines[start].lstrip())
        own = [line[indent:] for line in _indented(lines[start:], indent)]
        code, used = _longest(own, tries)
        tries -= used
        if code:
            found.append(code)
        at = start + max(1, code.count("\n") + 1 if code else 0)
    return found


def _indented(lines: Sequence[str], indent: int) -> Iterator[str]:
    """Give the lines up to the first that stands further left than `indent`."""
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            return
        yield line


def _longest(lines: list[str], tries: int) -> tuple[str, int]:
    """Give the longest beginning of `lines`, cut between statements, that parses, and how many tries it took.

    A statement that does not parse is prose or was cut off: it goes with all that follows it.
    """
    for used in range(1, tries + 1):
        text = "\n".join(lines)
        try:
            tree = parsed(text)
        except SyntaxError as error:
            bad = min(error.lineno or len(lines), len(lines)) - 1
            tops = (number for number in range(bad, -1, -1) if lines[number] and not lines[number][0].isspace())
            lines = lines[: next(tops, 0)]
        except _TOO_DEEP:
            return "", used
        else:
            return _without_words(lines, tree), used
        if not lines:
            return "", used
    return "", tries


def _without_words(lines: list[str], tree: ast.Module) -> str:
    """Leave out words of prose at the end that happen to be Python: `Explanation`, `Note: this`."""
    body = tree.body
    while body and (_is_word(body[-1])):
        body = body[:-1]
    return "\n".join(lines[: body[-1].end_lineno]) if body else ""


def _is_word(node: ast.stmt) -> bool:
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Name | ast.Tuple | ast.Attribute)
