"""`make mutants`: make one wrong change of the sources at a time and see that the test named for it fails.

python tests/mutants/run.py [--jobs 2] [--only WORD] [--why]

Each worker has a copy of the tree in a temporary folder; the working tree stays as it is. First the tests have to pass
on an unchanged copy. Exits with 1 if a mutant survives, or if its text is no longer there exactly once.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.yaml")
LONGEST = 300  # seconds of a test; a mutant that makes it run longer is killed as well
PASSED, FAILED, NO_TEST = 0, 1, 5  # of pytest's exit codes; all but the first two say that no test was run
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `test` has to fail then."""

    what: str
    file: str
    old: str
    new: str
    test: str  # one or more node ids, separated by spaces

    def mistakes(self, root: Path = ROOT) -> list[str]:
        """What is wrong with this entry."""
        file = root / self.file
        count = file.read_text(encoding="utf-8").count(self.old) if file.exists() else 0
        found = [] if count == 1 else [f"{self.what}: {self.old!r} is {count} times in {self.file}"]
        for node in self.test.split():
            path, _, name = node.partition("::")
            name = name.partition("[")[0].rpartition("::")[2]
            there = (root / path).read_text(encoding="utf-8") if (root / path).exists() else ""
            if f"def {name}(" not in there:
                found.append(f"{self.what}: there is no test {node}")
        return found


def load(file: Path = LIST) -> list[Mutant]:
    """The list of mutants."""
    return [Mutant(**entry) for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]


def copy_tree(target: Path) -> None:
    """Copy what git knows or would add, links as links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        source, copy = ROOT / name, target / name
        if not source.exists() and not source.is_symlink():
            continue  # deleted, and not yet committed
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)


def run_tests(folder: Path, tests: list[str], seconds: float) -> tuple[int | None, str]:
    """Pytest's exit code (None after so many seconds) and the end of what it said, from a process of its own."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        child = FORK.Process(target=_pytest, args=(folder, tests, log.name))
        child.start()
        child.join(seconds)
        if child.is_alive():
            child.kill()
            child.join()
            return None, ""
        return child.exitcode, log.read()[-3000:]


def _pytest(folder: Path, tests: list[str], log: str) -> None:
    """In a process that has loaded torch already: run the tests of a copy of the tree."""
    import pytest

    assert "unmask" not in sys.modules, "the sources of another folder are loaded already"
    out = os.open(log, os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(folder)
    sys.dont_write_bytecode = True  # a file that is changed twice in a second would be taken for its compiled form
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    code = pytest.main(["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "--rootdir", str(folder), *tests])
    os._exit(int(code))


@contextlib.contextmanager
def applied(mutant: Mutant, folder: Path):
    """Within the block, the copy holds the mutant."""
    file = folder / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(text, encoding="utf-8")


def verdict(code: int | None) -> str:
    """What an exit code of the tests says of the mutant."""
    if code is None:
        return "killed (time)"
    return {PASSED: "SURVIVED", FAILED: "killed"}.get(code, "NOT RUN")


def try_one(mutant: Mutant, folder: Path) -> tuple[str, float, str]:
    """Verdict, seconds, and what pytest said."""
    began = time.monotonic()
    if mistakes := mutant.mistakes(folder):  # the tree has changed since the list was read
        return verdict(NO_TEST), 0.0, "\n".join(mistakes)
    with applied(mutant, folder):
        code, said = run_tests(folder, mutant.test.split(), LONGEST)
    return verdict(code), time.monotonic() - began, said


def work(mutants: list[Mutant], numbers: "multiprocessing.Queue", reports: "multiprocessing.Queue") -> None:
    """A worker: take numbers of mutants until there is None, and try each in a copy of the tree of its own."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(Path(folder))
        while (number := numbers.get()) is not None:
            reports.put((number, *try_one(mutants[number], Path(folder))))


def reason(said: str) -> str:
    """The line in which pytest says what was wrong."""
    return next((line[1:].strip() for line in said.splitlines() if line.startswith("E  ")), "")


def try_all(mutants: list[Mutant], jobs: int, why: bool) -> list[tuple[str, float, str]]:
    """What became of each mutant, in the order of the list; a line is printed for each as it comes."""
    numbers, reports = FORK.Queue(), FORK.Queue()
    for number in [*range(len(mutants)), *[None] * jobs]:
        numbers.put(number)
    workers = [FORK.Process(target=work, args=(mutants, numbers, reports)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    found = {}
    for done in range(len(mutants)):
        number, *result = reports.get()
        found[number] = tuple(result)
        print(f"{done + 1}/{len(mutants)}  {result[0]:<13} {result[1]:5.1f} s  {mutants[number].what}", flush=True)
        if why:
            print(f"    {reason(result[2])}", flush=True)
    for worker in workers:
        worker.join()
    return [found[number] for number in range(len(mutants))]


def unchanged(mutants: list[Mutant]) -> str:
    """What pytest says of the named tests on an unchanged copy, if they do not pass; each mutant would be killed."""
    tests = sorted({node for mutant in mutants for node in mutant.test.split()})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(Path(folder))
        code, said = run_tests(Path(folder), tests, 4 * LONGEST)
    return "" if code == PASSED else f"the tests do not pass without a mutant (exit code {code}):\n{said}"


def warm_up() -> None:
    """Load once what nearly every test loads: the tests' processes are forked from this one."""
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Try all mutants, or those whose words hold --only, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at the same time")
    parser.add_argument("--only", default="", help="a part of what a mutant is called, or of its file")
    parser.add_argument("--why", action="store_true", help="say by which error each one was found")
    args = parser.parse_args()
    mutants = [mutant for mutant in load() if args.only in mutant.what or args.only in mutant.file]
    if mistakes := [line for mutant in mutants for line in mutant.mistakes()]:
        sys.exit("\n".join(["tests/mutants/mutants.yaml does not fit the sources any more:", *mistakes]))
    began = time.monotonic()
    warm_up()
    if said := unchanged(mutants):
        sys.exit(said)
    print(f"{len(mutants)} mutants; without any, the tests pass ({time.monotonic() - began:.0f} s)", flush=True)
    found = try_all(mutants, args.jobs, args.why)
    wrong = [(mutant, *one) for mutant, one in zip(mutants, found, strict=True) if not one[0].startswith("killed")]
    for mutant, result, _, said in wrong:
        print(f"\n{result}: {mutant.what}\n  {mutant.file}: {mutant.old!r} -> {mutant.new!r}\n  {mutant.test}")
        if result == "NOT RUN":
            print(said)
    print(f"{len(mutants) - len(wrong)} of {len(mutants)} killed in {(time.monotonic() - began) / 60:.1f} minutes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
