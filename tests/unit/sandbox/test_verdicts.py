"""Plain values, tests as cases, verdicts by hand, and what is said where no sandbox works."""

import collections
import math

import pytest

from unmask.common.errors import InputError
from unmask.sandbox import choice
from unmask.sandbox.backends import make
from unmask.sandbox.cases import CallCase, CheckCase, Tests
from unmask.sandbox.inside.straight_line import parse, run
from unmask.sandbox.inside.values import NotPlainError, decode, encode
from unmask.sandbox.verdicts import run_cases, run_tests

VALUES = [None, True, 0, -(2**53), 10**400, 1.5, math.inf, "é\ud800", "", b"\x00", 1j, [], [1, [2]], (), (1,), {1, "a"},
          frozenset({2}), {}, {(1, 2): [3]}, {"tuple": [1]}, {"int": "0x1"}, range(3)]  # fmt: skip


@pytest.fixture(scope="module")
def backend():
    """The first sandbox with namespaces that this machine has."""
    try:
        return choice.find_backend("namespaces")
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_come_back_as_they_were(value):
    back = decode(encode(value))
    assert (back, type(back)) == (value, type(value))


def test_contents_of_the_standard_librarys_containers_are_plain():
    assert decode(encode(collections.Counter("aab"))) == {"a": 2, "b": 1}
    assert decode(encode(collections.namedtuple("Pair", "a b")(1, 2))) == (1, 2)
    assert list(decode(encode(x * x for x in range(3)))) == [0, 1, 4]


class Liar(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    ("value", "overrides"), [(Liar(1), True), ([Liar(1)], True), (object(), False), (len, False), (1 + 0j, None)]
)
def test_other_classes_do_not_pass(value, overrides):
    if overrides is None:
        assert decode(encode(value)) == value
        return
    with pytest.raises(NotPlainError) as caught:
        encode(value)
    assert caught.value.overrides == overrides


@pytest.mark.parametrize("found", [{"tuple": 1}, {"int": 3}, {"int": "0x1", "x": 1}, {"other": []}, {}, {"float": "1"}])
def test_other_forms_are_refused(found):
    with pytest.raises(ValueError, match="no plain value"):
        decode(found)


def test_asserts_become_calls_and_checks():
    tests = Tests("asserts", ("assert f(1, [2]) == {3}", "assert 4 == f(*(1,))", "assert sorted(f(1)) == [1]",
                              "assert abs(f(2) - .5) < 1e-3"))  # fmt: skip
    first, second, *others = tests.cases
    assert (first, second) == (CallCase("f(1, [2])", {3}), CallCase("f(*(1,))", 4))
    assert others == [CheckCase("assert sorted(f(1)) == [1]", ("f",)),
                      CheckCase("assert abs(f(2) - 0.5) < 0.001", ("f",))]  # fmt: skip


def test_names_of_a_setup_do_not_reach_the_program():
    (case,) = Tests("asserts", ("assert f(math.pi) == 3",), setup="import math").cases
    assert case == CheckCase("import math\nassert f(math.pi) == 3", ("f",))


def test_a_check_function_becomes_a_case_for_each_statement_that_tests_the_program():
    text = (
        "def check(candidate):\n    assert True\n    assert candidate(1) == 2, 'no'\n    n = 3\n"
        "    for i in range(n):\n        assert candidate(i) == i + 1\n    assert candidate(n) > n\n"
    )
    first, loop, last = Tests("check", (text,), "f").cases
    assert first == CallCase("f(1)", 2)
    assert "for i in range(n)" in loop.code
    assert "candidate(n) > n" not in loop.code
    assert "n = 3" in last.code
    assert "for i" not in last.code


@pytest.mark.parametrize("tests", [Tests("asserts", ()), Tests("asserts", ("f(1)",)), Tests("asserts", ("assert (",)),
                                   Tests("check", ("x = 1",), "f"), Tests("module", ("def f(): pass",))])  # fmt: skip
def test_texts_without_a_test_are_refused(tests):
    with pytest.raises(ValueError, match=r"no test|no assert|no Python|no function check"):
        _ = tests.cases


MODULE = """
import pytest
from solution import total

@pytest.mark.parametrize("values, wanted", [([1], 1), ([1, 2], 3)])
def test_some(values, wanted):
    assert total(values) == wanted

def test_an_error():
    with pytest.raises(TypeError):
        total(3)

def test_a_float():
    assert total([0.1, 0.2]) == pytest.approx(0.3)
"""


@pytest.mark.parametrize(
    ("program", "passed"),
    [
        ("def total(x):\n    return sum(x)", (True, True, True)),
        ("def total(x):\n    return sum(x) + 1e-3", (False, True, False)),
        ("def total(x):\n    return 0.3", (False, False, True)),
        ("def total(x:\n", (False, False, False)),
        ("total = 3", (False, True, False)),  # calling a number is a TypeError, too
    ],
)
def test_a_module_of_tests_runs_in_a_process_of_its_own(backend, program, passed):
    result = run_cases(backend, program, Tests("module", (MODULE,)).cases)
    assert (result.passed, result.parses, result.tried) == (passed, "x:" not in program, ())


def test_a_program_fails_some_tests_and_goes_on(backend):
    tests = Tests("asserts", ("assert f(0) == 1", "assert f(1) == 1", "assert f(2) == .5"))
    result = run_cases(backend, "def f(x):\n    return 1 / x", tests.cases)
    assert (result.passed, result.share) == ((False, True, True), pytest.approx(2 / 3))
    assert "ZeroDivisionError" in result.note


def test_a_test_that_ends_its_process_fails_alone(backend):
    cases = (CheckCase("import os; os._exit(0)", ("f",)), CheckCase("assert f(1) == 1", ("f",)))
    assert run_cases(backend, "def f(x):\n    return x", cases).passed == (False, True)


def test_verdicts_do_not_depend_on_luck(backend):
    program = "import random\ndef f():\n    return random.random(), list({'a', 'b', 'c', 'd'})"
    shown = CheckCase("assert f() == f()\nraise ValueError(f())", ("f",))
    first, second = (run_cases(backend, program, (shown,)).note for _ in range(2))
    assert first == second
    assert first.startswith("ValueError: (0.8")  # the first number of seed 0


@pytest.mark.parametrize(("text", "x", "value"), [("a=x+3;b=a*2;c=b-1", 2, 9), ("a=x*x", 5, 25), ("a=1-x;", 4, -3)])
def test_straight_line_programs_by_hand(text, x, value):
    assert run(parse(text), x) == value


@pytest.mark.parametrize("text", ["", "a=x", "a=b+1", "a=x+1;;", "x=1+1", "a=x/2", "a=x+1000", "a=x+1\nimport os"])
def test_texts_that_are_no_straight_line_programs(text):
    with pytest.raises(SyntaxError):
        parse(text)


def test_straight_line_programs_run_in_the_same_sandbox():
    tests = Tests("asserts", ("assert f(2) == 7", "assert f(0) == 3"))
    assert run_tests("a=x*2;b=a+3", tests, "straight_line").solved
    assert run_tests("a=x*3;b=a+3", tests, "straight_line").passed == (False, True)
    assert not run_tests("a=x*3;b=", tests, "straight_line").parses
    big = "a=x*999;" + ";".join("a=a*a" for _ in range(60))
    assert "OverflowError" in run_tests(big, tests, "straight_line").note


def test_without_a_sandbox_nothing_runs(monkeypatch):
    monkeypatch.setattr(choice, "probe", lambda backend: "network is True, not False")
    choice.find_backend.cache_clear()
    with pytest.raises(InputError, match=r"no sandbox .* network is True, .*runtime\.sandbox: rlimits"):
        choice.find_backend("namespaces")
    with pytest.raises(InputError, match="run as another user"):
        choice.find_backend("rlimits")
    with pytest.raises(InputError, match="'none' is neither"):
        choice.find_backend("none")
    choice.find_backend.cache_clear()


def test_limits_alone_are_chosen_only_where_the_settings_say_so():
    assert "rlimits" not in choice.modes("namespaces")
    assert choice.modes("rlimits") == ("rlimits",)


def test_a_backend_that_cannot_start_says_why():
    assert "No such file" in choice.refusal(make("unshare", interpreter="/nowhere/python"))
