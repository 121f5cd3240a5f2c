"""Unit tests out of a corpus's rows, and the prompts that go with them.

A prompt must say what the function is called: LeetCode's statements do not, so that the signature of the solution is
put at their end; asserts are put there where the recipe says `shown`.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson
import polars as pl

from fusedata.collect.leetcode import read_statement
from fusedata.corpus import Corpus, UnitTests
from fusedata.schema import digest
from fusedata.snippets import python_blocks

_ANNOUNCED: Final = re.compile(
    r"your (?:code|function|solution|implementation) should pass the following", re.IGNORECASE
)

Row = Mapping[str, object]


class Problem(NamedTuple):
    """A prompt and what programs that answer it are judged by; None: nothing was found."""

    prompt: str
    spec: Mapping[str, object] | None


def problems(rows: pl.DataFrame, corpus: Corpus, tests: UnitTests) -> pl.DataFrame:
    """Give for each row its `text` (the prompt), `tests` (JSON), `answer` (their digest) and `solution`, with `row`.

    `tests` and `answer` are null where the row has none, `solution` where the corpus has none.
    """
    found = [_problem(row, corpus, tests) for row in rows.iter_rows(named=True)]
    specs = [_json(problem.spec) for problem in found]
    solutions = rows[tests.solution].cast(pl.String).fill_null("") if tests.solution else [None] * rows.height
    return pl.DataFrame(
        {
            "row": rows["row"],
            "text": [problem.prompt for problem in found],
            "tests": specs,
            "answer": [digest(spec) if spec else None for spec in specs],
            "solution": solutions,
        },
        schema={"row": pl.Int64, **dict.fromkeys(("text", "tests", "answer", "solution"), pl.String)},
    )


def _json(spec: Mapping[str, object] | None) -> str | None:
    return orjson.dumps(spec, option=orjson.OPT_SORT_KEYS).decode() if spec else None


def _problem(row: Row, corpus: Corpus, tests: UnitTests) -> Problem:
    prompt, held = str(row[corpus.prompt] or "").strip(), row[tests.column]
    if tests.form == "leetcode":
        statement = read_statement(_text(held), _text(row[tests.solution or ""]))
        return Problem(statement.prompt(prompt), statement.spec()) if statement else Problem(prompt, None)
    found: object = None
    if tests.form == "instruction":
        found = announced_asserts(_text(held))
    elif isinstance(held, list):
        found = [test for test in held if isinstance(test, str) and test.strip()]
    else:
        found = _text(held)
    if not found:
        return Problem(prompt, None)
    key = "check" if tests.form == "check" else "tests"
    beside = {name: getattr(tests, name) for name in ("entry_point", "setup", "preamble")}
    extra = {name: _text(row[column]) for name, column in beside.items() if column}
    return Problem(
        _shown(prompt, found) if tests.shown else prompt,
        {key: found, **{name: text for name, text in extra.items() if text.strip()}},
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def announced_asserts(instruction: str) -> str:
    """Give the asserts that an instruction ends with, as in self-oss-instruct; empty where it has none."""
    announcements = list(_ANNOUNCED.finditer(instruction))
    found = python_blocks(instruction[announcements[-1].end() :]) if announcements else []
    text = found[-1].text if found else ""
    return text if re.search(r"^\s*assert\b", text, re.MULTILINE) else ""


def _shown(prompt: str, tests: object) -> str:
    lines = tests if isinstance(tests, list) else [str(tests)]
    return "\n".join([prompt, "", "Your code should pass the following assertions:", "```python", *lines, "```"])
