"""What of a test goes into the sandbox, what comes back, and how it is compared. No container is near."""

import contextlib
import importlib.util
import json
import math
import sys
from decimal import Decimal
from fractions import Fraction
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedata.assets import asset
from fusedata.verify.sandbox.attacks import read_attacks
from fusedata.verify.sandbox.container import Ending, Kind
from fusedata.verify.sandbox.expect import Expectation, holds
from fusedata.verify.sandbox.hearing import Hearing
from fusedata.verify.sandbox.plan import MOST_ASSERTS, Plan, UnusableTestsError, plan_in_child, plan_of
from fusedata.verify.sandbox.programs import Outcome, Program
from fusedata.verify.sandbox.values import MOST_HASHED, Derived, Forged, Opaque, TooLargeError, decode, parse_line

OVER = Ending("exited", 0, 0.01, 0.01, 0)


@pytest.fixture(scope="module")
def child() -> ModuleType:
    """sandbox/child.py, which has the encoder; importing it runs nothing."""
    spec = importlib.util.spec_from_file_location("sandbox_child", asset("sandbox", "child.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def planned(*tests: str) -> Plan:
    return plan_of(Program("", tests))


def heard(program: Program, *lines: object, ending: Ending = OVER, printed: bytes = b"") -> Outcome:
    plan = Plan((), None, (), "", "split") if program.stdout is not None else plan_of(program)
    hearing = Hearing(program, plan, [], 2.0)
    hearing.hear(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return hearing.outcome(ending, printed)


@pytest.mark.parametrize(
    ("test", "source", "expectation"),
    [
        ("assert f(3) == 9", "f(3)", Expectation("==", 9)),
        ("assert 9 == f(3)", "f(3)", Expectation("==", 9)),
        ("assert f(3) == 9, 'nine'", "f(3)", Expectation("==", 9)),
        ("assert (f(3)) != (1, [2])", "f(3)", Expectation("!=", (1, [2]))),
        ("assert 5 > f(3)", "f(3)", Expectation("<", 5)),
        ("assert f(3) in (1, 2)", "f(3)", Expectation("in", (1, 2))),
        ("assert 'x' in f(3)", "f(3)", Expectation("contains", "x")),
        ("assert f(3) is None", "f(3)", Expectation("is", None)),
        ("assert not f(3) == 9", "f(3)", Expectation("!=", 9)),
        ("assert abs(f(3) - 9.5) < 1e-6", "f(3)", Expectation("near", 9.5, (1e-6,))),
        ("assert abs(9.5 - f(3)) <= 0.1", "f(3)", Expectation("near or at", 9.5, (0.1,))),
        ("assert math.isclose(f(3), 9.5, rel_tol=0.1)", "f(3)", Expectation("close", 9.5, (0.1, 0.0))),
        ("assert isinstance(f(3), (int, str))", "f(3)", Expectation("isinstance", ("int", "str"))),
        ("assert f(3)", "f(3)", Expectation("==", True)),
        ("assert not f(3)", "f(3)", Expectation("==", False)),
        ("assert sorted(f(3)) == [1, 2]", "sorted(f(3))", Expectation("==", [1, 2])),
        ("assert f(3) + f(4) == 25", "f(3) + f(4)", Expectation("==", 25)),
    ],
)
def test_an_assert_is_split_into_a_value_and_what_is_expected_of_it(test, source, expectation):
    [step] = planned(test).steps
    assert step.source.strip("()\n ") == source.strip("()")
    assert step.expectation == expectation
    assert planned(test).isolation == "split"


@pytest.mark.parametrize(
    "test",
    [
        "assert f(3) - 9 == 0",
        "assert (f(3) == 9) is True",
        "assert same(f(3), 9)",
        "assert same(f(3), 9) == True",
        "assert compare(f(3), [1, 2]) == 0",
        "assert all(f(x) == y for x, y in [(1, 2)])",
        "assert f(3) == 9 or f(3) == 8",
        "assert abs(g(f(3), 9) - 0.5) < 1",
        "assert f(3) == expected",
        "assert [x for x in [f(3)] if x == 9] == [9]",
        "assert 1 < f(3) < 9",
        "for x in [1]:\n    assert f(x) == 1",
        "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass",
    ],
)
def test_what_would_carry_the_answer_into_the_child_is_not_split(test):
    assert planned(test).isolation == "shared"


def test_expected_values_are_not_in_what_the_child_gets():
    program = Program("", ("want = 987654321", "assert f(1) == want", "assert f(2) == [987654321] * 2"))
    plan = plan_of(program)
    assert plan.isolation == "split"
    assert b"987654321" not in Hearing(program, plan, [[987654321] * 2], 2.0).trial(Kind(0, numpy=False), 2).task


def test_a_constant_that_the_child_needs_too_makes_a_plan_shared():
    assert planned("want = 3", "assert f(want) == want").isolation == "shared"
    assert planned("n = 3", "assert f(n) == 9").isolation == "split"


def test_a_helper_of_the_tests_is_no_secret_from_the_program():
    assert planned("def twice(x):\n    return 2 * x", "assert f(3) == twice(3)").isolation == "shared"


def test_constants_that_are_no_literals_are_left_to_a_child_of_their_own():
    plan = planned("import string", "assert f(3) == [0] * 10**9", "assert f() == string.digits")
    assert [source.strip("()\n") for source in plan.constants] == ["[0] * 10 ** 9", "string.digits"]
    assert plan.imports == "import string"
    assert plan.isolation == "split"


def test_a_straight_check_is_split_and_another_is_not():
    straight = Program("", check="def check(candidate):\n    assert candidate(1) == 2\n", entry_point="f")
    loop = straight._replace(check="def check(c):\n    for i in range(3):\n        assert c(i) == i\n")
    assert plan_of(straight).isolation == "split"
    assert plan_of(loop).isolation == "shared"
    assert plan_in_child(straight).isolation == "shared"


@pytest.mark.parametrize(
    "program",
    [
        Program("", ("assert f(",)),
        Program("", ("x = 1",)),
        Program("", ("assert f(1) == " + "[" * 5000,)),
        Program("", check="def other(): pass", entry_point="f"),
        Program("", check="def check(candidate):\n    pass", entry_point="f"),
        Program("", ("assert f() == " + "9" * 5_000_000,)),
    ],
)
def test_tests_that_judge_nothing_are_refused(program):
    with pytest.raises(UnusableTestsError):
        plan_of(program)


def test_asserts_beyond_the_cap_are_left_out():
    assert len(planned(*["assert f(1) == 1"] * (MOST_ASSERTS + 5)).steps) == MOST_ASSERTS


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers() | st.text() | st.tuples(st.integers(), st.text()))
        | st.frozensets(st.integers())
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=300, deadline=None)
def test_a_value_comes_back_as_it_went(value):
    module = sys.modules.get("sandbox_child_property") or load("sandbox_child_property")
    tree = json.loads(json.dumps(module.Encoder().encode(value)))
    back = decode(parse_line(json.dumps(["value", 0, tree]).encode())[2])
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, asset("sandbox", "child.py"))
    assert spec
    assert spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Agreeable:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


class AgreeableInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class PlainInt(int):
    pass


def test_objects_with_an_equality_of_their_own_come_back_opaque(child):
    for value in (Agreeable(), AgreeableInt(3), object, len):
        assert isinstance(decode(child.Encoder().encode(value)), Opaque)
    [inner] = decode(child.Encoder().encode([Agreeable()]))
    assert not holds(Expectation("==", [6]), [inner])


def test_a_subclass_that_kept_its_equality_is_its_base_but_not_identical(child):
    value = decode(child.Encoder().encode(PlainInt(3)))
    assert isinstance(value, Derived)
    assert holds(Expectation("==", 3), value)
    assert not holds(Expectation("is", True), decode(child.Encoder().encode(PlainInt(1))))


def test_exact_numbers_of_the_library_compare_as_python_does(child):
    assert holds(Expectation("==", 0.5), decode(child.Encoder().encode(Fraction(1, 2))))
    assert holds(Expectation("==", 1.5), decode(child.Encoder().encode(Decimal("1.50"))))


def test_values_that_are_too_deep_or_too_large_are_not_sent(child):
    deep: list[object] = []
    for _ in range(child.MOST_DEPTH + 2):
        deep = [deep]
    for value in (deep, [0] * (child.MOST_NODES + 1), "x" * (child.MOST_TEXT + 1), 1 << (child.MOST_TEXT * 4 + 4)):
        with pytest.raises(child.Refused):
            child.Encoder().encode(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["i", "f", "t", "s", "z", "d", "c", "q", "n", "b", "y", "u", "o", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=500, deadline=None)
def test_whatever_json_arrives_is_decoded_or_refused(tree):
    with contextlib.suppress(Forged, TooLargeError):
        decode(tree)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b"[1]", b'["value", 0, NaN]', b'["value", 0, 1e9]', b"\xff", b"[" * 100_000, b"null"]
)
def test_lines_that_no_runner_writes_are_refused(line):
    with pytest.raises(Forged):
        parse_line(line)


def test_a_set_made_to_collide_is_not_built():
    with pytest.raises(TooLargeError):
        decode({"s": [{"i": hex(n * (2**61 - 1))} for n in range(2, MOST_HASHED + 3)]})


def test_verdicts_by_what_is_reported():
    program = Program("", ("assert f(1) == 2", "assert f(2) == 4"))
    assert heard(program, ["value", 0, 2], ["value", 1, 4], ["end"]).passed
    assert heard(program, ["value", 0, 2], ["value", 1, 5], ["end"]).status == "failed"
    assert heard(program, ["value", 0, 2], ["end"]).status == "error"
    assert heard(program, ["value", 1, 4], ["value", 0, 2]).status == "error"
    assert heard(program, ["ran", 0, ""], ["ran", 1, ""]).status == "error"
    assert heard(program, ["value", 0, 3], ["value", 0, 2], ["value", 1, 4]).status == "failed"
    assert heard(program, ["large", 0]).status == "failed"
    assert heard(program, ["value", True, 2]).status == "error"


def test_statements_count_only_with_their_secret():
    program = Program("", ("for x in [1]:\n    assert f(x) == 2",))
    assert heard(program, ["ran", 0, ""], ["end"]).status == "error"
    hearing = Hearing(program, plan_of(program), [], 2.0)
    [secret] = hearing.secrets
    hearing.hear(json.dumps(["ran", 0, secret]).encode() + b"\n")
    assert hearing.outcome(OVER, b"") == Outcome(True, "passed", "", 0.01, "shared")


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (Ending("late", 0, 2.0, 7.0, 0), "timeout"),
        (Ending("signalled", 9, 2.0, 2.0, 0), "timeout"),
        (Ending("signalled", 9, 0.1, 0.1, 0), "killed"),
        (Ending("signalled", 11, 0.1, 0.1, 0), "killed"),
        (Ending("signalled", 9, 0.1, 0.1, 1), "memory"),
        (Ending("flooded", 0, 0.1, 0.1, 0), "output"),
        (Ending("exited", 0, 0.1, 0.1, 0), "error"),
    ],
)
def test_a_program_without_a_report_is_judged_by_its_end(ending, status):
    assert heard(Program("", ("assert f(1) == 2",)), ending=ending).status == status


@pytest.mark.parametrize(
    ("names", "number", "phase", "status"),
    [
        (["AssertionError", "Exception"], None, "test", "failed"),
        (["AssertionError", "Exception"], None, "program", "error"),
        (["KeyError", "Exception"], None, "test", "error"),
        (["SyntaxError"], None, "compile", "syntax_error"),
        (["MemoryError"], None, "test", "memory"),
        (["PermissionError", "OSError"], 1, "test", "forbidden"),
        (["FileNotFoundError", "OSError"], 2, "test", "error"),
    ],
)
def test_an_exception_has_the_status_of_its_kind(names, number, phase, status):
    program = Program("", ("assert f(1) == 2",))
    assert heard(program, ["error", phase, 0, names, number, ""], ["message", "m"], ["end"]).status == status


def test_output_is_compared_without_trailing_blanks():
    program = Program("", stdin="", stdout="6\n7")
    assert heard(program, ["end"], printed=b"6  \n7\n\n").passed
    assert not heard(program, ["end"], printed=b"6\n").passed
    assert not heard(program, ["end"], printed=b"6\n\n7").passed
    assert not heard(program, printed=b"6\n7", ending=Ending("exited", 3, 0, 0, 0)).passed
    assert heard(program, printed=b"6\n7").passed


def test_nan_equals_nothing():
    assert not holds(Expectation("==", math.nan), math.nan)
    assert holds(Expectation("pair !="), (math.nan, math.nan))


def test_the_suite_is_large_and_its_ids_are_unique():
    attacks = read_attacks()
    assert len(attacks) >= 200
    assert len({attack.id for attack in attacks}) == len(attacks)
    assert sum("passed" in attack.accept for attack in attacks) >= 90
