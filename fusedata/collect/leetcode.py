"""LeetCode's statements: the examples as asserts, and the signature that a prompt must tell.

The solution says what is called and how. Its parameters are matched with the inputs by name, linked lists and trees
are built from their lists. A statement that accepts several answers ("return any of them") gives no tests: an example
shows only one.
"""

import ast
import re
from typing import Final, NamedTuple

from fusedata.snippets import LEETCODE_PREAMBLE, parsed, python_blocks

_FIELD: Final = re.compile(r"[* ]*(Input|Output)\b[*: ]*(.*)", re.IGNORECASE)
_END: Final = re.compile(r"[* ]*(?:Explanation|Example|Constraints|Note|Follow[ -]?up)\b|\s*$", re.IGNORECASE)
_SEVERAL: Final = re.compile(r"\b(?:return|find|output) any\b|any (?:one )?of (?:them|these)", re.IGNORECASE)
_ANY_ORDER: Final = re.compile(r"in any order", re.IGNORECASE)
_JSON: Final = {"null": None, "true": True, "false": False}
_NODES: Final = {"ListNode": ("list_node", "is_same_list"), "TreeNode": ("tree_node", "is_same_tree")}
_DEFINITIONS: Final = {
    "ListNode": "# class ListNode:\n#     def __init__(self, val=0, next=None): ...",
    "TreeNode": "# class TreeNode:\n#     def __init__(self, val=0, left=None, right=None): ...",
}
_TOLERANCE: Final = 1e-5


class Statement(NamedTuple):
    """What a statement and its solution give: asserts, what they call, and the signature to fill in."""

    tests: list[str]
    entry_point: str
    starter: str

    def prompt(self, content: str) -> str:
        """Ask for the function by its signature."""
        return f"{content}\n\nComplete this Python code:\n```python\n{self.starter}\n```"

    def spec(self) -> dict[str, object]:
        """Give what programs are judged by; methods of Solution get LeetCode's preamble without being told."""
        method = self.entry_point.startswith("Solution()")
        return {
            "tests": self.tests,
            "entry_point": self.entry_point,
            **({} if method else {"preamble": LEETCODE_PREAMBLE}),
        }


class _Entry(NamedTuple):
    """The function that a solution defines for LeetCode to call."""

    function: ast.FunctionDef
    owner: str | None

    @property
    def parameters(self) -> list[ast.arg]:
        arguments = [*self.function.args.posonlyargs, *self.function.args.args]
        return arguments[1:] if self.owner or (arguments[:1] and arguments[0].arg == "self") else arguments

    @property
    def name(self) -> str:
        return f"{self.owner}().{self.function.name}" if self.owner else self.function.name


def read_statement(content: str, solution: str) -> Statement | None:
    """Read a problem; None where no example of it can be judged."""
    read = ((_call(given), _value(output)) for given, output in _examples(content))
    examples = [(call, value) for call, value in read if call and value]
    entry = _entry(solution, examples[0][0]) if examples else None
    if entry is None or _SEVERAL.search(content):
        return None
    any_order = bool(_ANY_ORDER.search(content))
    tests = [_assert(entry, call, value, any_order=any_order) for call, value in examples]
    found = list(dict.fromkeys(test for test in tests if test))
    return Statement(found, entry.name, _starter(entry)) if found else None


def _examples(content: str) -> list[tuple[str, str]]:
    """Find the inputs and outputs of a statement, each from its word to the next one or a blank line."""
    found: list[dict[str, str]] = []
    field = ""
    for line in content.splitlines():
        start = _FIELD.fullmatch(line)
        if start:
            field = start[1].lower()
            if field == "input":
                found.append({})
            if found:
                found[-1][field] = start[2]
        elif _END.match(line):
            field = ""
        elif field and found:
            found[-1][field] += f"\n{line}"
    return [(example["input"], example["output"]) for example in found if len(example) > 1]


def _call(text: str) -> ast.Call | None:
    """Read `nums = [2,7], target = 9` as the arguments of a call."""
    node = _value(f"f({text.strip()})")
    return node if isinstance(node, ast.Call) else None


def _value(text: str) -> ast.expr | None:
    try:
        (statement,) = parsed(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _JsonNames().visit(statement.value) if isinstance(statement, ast.Expr) else None


class _JsonNames(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_JSON[node.id]) if node.id in _JSON else node


def _entry(solution: str, call: ast.Call) -> _Entry | None:
    """Find the function that takes these inputs: by the parameters' names, else the only one there is."""
    try:
        tree = parsed(next((block.text for block in python_blocks(solution)), solution))
    except (SyntaxError, RecursionError, MemoryError):
        return None
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Solution"}
    owner, body = next(iter(bodies.items()), (None, tree.body))
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    entries = [_Entry(function, owner) for function in functions]
    named = {keyword.arg for keyword in call.keywords}
    fitting = [entry for entry in entries if {p.arg for p in entry.parameters} == named]
    return fitting[0] if fitting else entries[0] if len(entries) == 1 else None


def _assert(entry: _Entry, call: ast.Call, expected: ast.expr, *, any_order: bool) -> str | None:
    """Write an example as an assert; None where inputs do not fit the parameters, or a value is no literal."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    names = [parameter.arg for parameter in entry.parameters]
    values = [given[name] for name in names] if set(given) == set(names) else [*call.args, *given.values()]
    if len(values) != len(names):
        return None
    try:
        wanted = ast.literal_eval(expected)
        arguments = [_built(ast.literal_eval(v), p.annotation) for v, p in zip(values, entry.parameters, strict=True)]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return _compared(
        f"{entry.name}({', '.join(arguments)})", wanted, _node(entry.function.returns), any_order=any_order
    )


def _built(value: object, annotation: ast.expr | None) -> str:
    kind = _node(annotation)
    if kind is None or not isinstance(value, list):
        return repr(value)
    builder = _NODES[kind][0]
    several = annotation is not None and re.match(r"(?i)list\[", ast.unparse(annotation))
    return f"[{', '.join(f'{builder}({one!r})' for one in value)}]" if several else f"{builder}({value!r})"


def _node(annotation: ast.expr | None) -> str | None:
    """Say which kind of node an annotation speaks of."""
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} if annotation else set()
    return next((kind for kind in _NODES if kind in names), None)


def _compared(call: str, wanted: object, kind: str | None, *, any_order: bool) -> str:
    if kind and isinstance(wanted, list):
        builder, same = _NODES[kind]
        return f"assert {same}({call}, {builder}({wanted!r}))"
    if isinstance(wanted, float):
        return f"assert abs({call} - {wanted!r}) <= {_TOLERANCE}"
    if any_order and isinstance(wanted, list):
        try:
            return f"assert sorted({call}) == {sorted(wanted)!r}"
        except TypeError:
            pass
    return f"assert {call} == {wanted!r}"


def _starter(entry: _Entry) -> str:
    """Write the signature, with the nodes that it speaks of as LeetCode shows them."""
    function = entry.function
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    line = f"def {function.name}({ast.unparse(function.args)}){returns}:"
    shown = [text for kind, text in _DEFINITIONS.items() if kind in line]
    return "\n".join([*shown, f"class Solution:\n    {line}" if entry.owner else line])
