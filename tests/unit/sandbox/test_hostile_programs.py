"""Hostile programs in every sandbox of this machine: none passes, none harms, each ends within its limit.

The names of the tests say which sandbox was used; one that this machine does not allow is skipped with the reason.
"""

import os
import time
from pathlib import Path

import pytest

from helpers.hostile_programs import PROGRAMS, RIGHT, text_of
from unmask.sandbox.backends import make
from unmask.sandbox.cases import CallCase, CheckCase
from unmask.sandbox.choice import refusal
from unmask.sandbox.limits import STARTUP, Limits
from unmask.sandbox.verdicts import run_cases

CASES = (CallCase("f(1)", 2), CallCase("f(2)", 3), CallCase("f(10)", 11))
CHECKS = (CheckCase("assert f(1) == 2 and f(2) == 3 and f(10) == 11", ("f",)),)
IDS = range(60_000, 65_000)  # users of root's sandboxes (inside/isolation.py)
LIMITS = Limits(cpu_seconds=1, wall_seconds=4.0, memory=256 << 20)


@pytest.fixture(params=["unshare", "bwrap", "rlimits"], scope="module")
def backend(request):
    """A sandbox that holds: nothing hostile is started in one that a fork would leave."""
    made = make(request.param)
    if reason := refusal(made):
        pytest.skip(f"{request.param} is not possible here: {reason}")
    return made


@pytest.fixture
def goals(tmp_path):
    """A file with the answers, a path to write, and the parent."""
    secret = tmp_path / "answers.txt"
    secret.write_text("{1: 2, 2: 3, 10: 11}")
    tmp_path.chmod(0o755)  # not hidden by its permissions alone
    return {"secret": secret, "outside": tmp_path / "outside", "parent": os.getpid()}


def surroundings(folder):
    """What a program could leave behind: processes, mounts, temporary files, environment, descriptors."""
    folders = [Path(place) for place in ("/tmp", "/dev/shm", "/var/tmp", "/", ".", folder)]
    return {
        "processes": [entry for entry in os.listdir("/proc") if entry.isdigit() and started_here(entry)],
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "files": [path for one in folders for path in one.iterdir() if path.name == "big" or is_of_a_sandbox(path)],
        "goals": sorted(path.name for path in folder.iterdir()),
        "environment": dict(os.environ),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "folder": os.getcwd(),
    }


def is_of_a_sandbox(path):
    """Whether a file has an owner that only sandboxed processes are."""
    return path.is_file() and path.stat().st_uid in IDS


def started_here(pid):
    """Whether a process is a sandboxed one."""
    try:
        return b"sandbox/inside" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_there_are_at_least_forty_programs():
    assert len(PROGRAMS) >= 40


def test_a_solution_passes(backend):
    for cases in (CASES, CHECKS):
        result = run_cases(backend, RIGHT, cases, limits=LIMITS)
        assert (result.solved, result.tried, result.note) == (True, (), "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_hostile_program_passes_or_harms(name, backend, goals):
    before = surroundings(goals["outside"].parent)
    began = time.monotonic()
    result = run_cases(backend, text_of(name, **goals), CASES, limits=LIMITS)
    assert time.monotonic() - began < LIMITS.wall_seconds + STARTUP

    assert not result.solved, result
    counted = PROGRAMS[name][1]
    assert counted in result.tried if counted else not result.tried, result
    if counted:
        assert not any(result.passed)
    assert surroundings(goals["outside"].parent) == before
    assert not goals["outside"].exists()
    assert goals["secret"].read_text() == "{1: 2, 2: 3, 10: 11}"


CHEATS = ["equal_to_everything", "replace_builtins", "search_the_frames", "print_passed", "says_that_the_tests_passed",
          "os_exit_in_the_function", "infinite_loop"]  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_none_passes_a_test_that_runs_in_a_process_of_its_own(name, backend, goals):
    result = run_cases(backend, text_of(name, **goals), CHECKS, limits=LIMITS)
    assert not result.solved, result
