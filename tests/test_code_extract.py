"""Which part of a response is its program."""

import pytest

from fusedata.snippets import blocks
from fusedata.verify.code.extract import extract_program

ADD = "def add(a, b):\n    return a + b"


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


@pytest.mark.parametrize(
    "response",
    [
        fenced(ADD),
        fenced(ADD, ""),
        fenced(ADD, "Python3"),
        fenced(ADD).replace("```", "~~~"),
        f"Sure!\n\n{fenced(ADD)}\n\nThis adds `a` and `b`.",
        f"```python title=add.py\n{ADD}\n```",
        f"```python\n{ADD}",
        f"```python\n{ADD}\n\nThis function adds two numbers: it is simple.",
        f"```python\n{ADD}\n\nprint(add(1, 2",
        f"```python\r\n{ADD}\r\n```".replace("\n    ", "\r\n    "),
        "1. Write it:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n2. Done",
        f"    ```python\n{ADD}\n```\n    ",
        ADD,
        f"Here it is:\n\n{ADD}\n\nExplanation\nIt adds.",
        f"Here it is:\n\n{ADD}\n\nNote: fast",
        "Here it is:\n\n    def add(a, b):\n        return a + b\n\nIt adds.",
        f"import the following function into your code:\n\n{ADD}\n\nDone!",
        f"{fenced('pip install add', 'bash')}\n{fenced(ADD)}\n{fenced('3', 'text')}",
        f"{fenced(ADD)}\nUse it so:\n{fenced('print(add(1, 2))')}\nOutput:\n{fenced('3', '')}",
        f"First try:\n{fenced('def add(a, b):' + chr(10) + '    return a - b')}\nWrong. Better:\n{fenced(ADD)}",
        f"{fenced(ADD)}\nA test:\n{fenced('def test_add():' + chr(10) + '    assert add(1, 2) == 3')}",
    ],
)
def test_the_program_is_found(response: str):
    program = extract_program(response, {"add"})
    assert program is not None
    assert program.replace("\r", "").strip() == ADD


def test_blocks_before_the_program_that_define_what_it_needs_belong_to_it():
    helper, main = "import math", "def area(r):\n    return math.pi * r * r"
    unneeded = "import this"
    response = "\n".join(map(fenced, (helper, unneeded, main, "print(area(1))")))
    assert extract_program(response, {"area"}) == f"{helper}\n\n{main}"


def test_examples_of_use_do_not_belong_to_the_program_though_they_bind_the_names_of_its_parameters():
    code = "def squares(numbers):\n    return [n * n for n in numbers]"
    use = "numbers = [1, 2]\nn = 3\nprint(squares(numbers))"
    assert extract_program(f"{fenced(code)}\nUse it:\n{fenced(use)}", {"squares"}) == code
    assert extract_program(f"Use it:\n{fenced(use)}\n{fenced(code)}", {"squares"}) == code


def test_several_blocks_that_only_together_define_what_the_tests_use_are_one_program():
    first, second = "def f(x):\n    return x", "def g(x):\n    return f(x)"
    assert extract_program(f"{fenced(first)}\nand\n{fenced(second)}", {"f", "g"}) == f"{first}\n\n{second}"


def test_pieces_without_a_fence_are_taken_together_where_prose_parts_them():
    first, second = "def f(x):\n    return x", "def g(x):\n    return f(x)"
    assert extract_program(f"First:\n\n{first}\n\nand then we need\n\n{second}", {"g"}) == f"{first}\n\n{second}"


def test_a_program_without_definitions_is_taken_where_no_names_are_asked_for():
    assert extract_program(f"Read and print:\n{fenced('print(int(input()) * 2)')}") == "print(int(input()) * 2)"
    assert extract_program("print(int(input()) * 2)") == "print(int(input()) * 2)"


@pytest.mark.parametrize(
    "response", ["", "   \n", "I cannot do that.", "Sure", "42", "Use the sum function.", fenced("")]
)
def test_a_response_without_a_program_gives_none(response: str):
    assert extract_program(response, {"add"}) is None


def test_a_cut_off_function_is_not_taken_for_a_whole_one():
    response = "```python\ndef add(a, b):\n    total = a\n    if b ="
    assert extract_program(response, {"add"}) == response.removeprefix("```python\n")


def test_a_program_that_does_not_parse_is_given_as_it_stands_so_that_its_error_can_be_told():
    broken = "def add(a, b)\n    return a + b"
    assert extract_program(f"Here:\n{fenced(broken)}\n{fenced('print(1)', 'js')}", {"add"}) == broken


def test_a_constant_before_the_function_belongs_to_it():
    code = "LIMIT = 3\ndef small(n):\n    return n < LIMIT"
    assert extract_program(f"Here it is:\n{code}\nIt compares.", {"small"}) == code


def test_the_time_that_prose_takes_is_bounded():
    response = "\n".join(f"def this is prose number {n} (" for n in range(3000))
    assert extract_program(response, {"add"}) is None


@pytest.mark.parametrize("code", ["(" * 5000, "-" * 50_000 + "1", "f" + "()" * 30_000, "\x00", "\ud800", "x = '''"])
def test_what_no_parser_can_read_breaks_nothing(code: str):
    assert extract_program(fenced(code), {"add"}) in {code, None}
    extract_program(code, {"add"})


def test_a_fence_in_a_fence_of_more_ticks_is_text():
    (block,) = blocks("````markdown\n```python\nx\n```\n````")
    assert (block.language, block.text, block.closed) == ("markdown", "```python\nx\n```", True)
