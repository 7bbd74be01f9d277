"""One task a file: its examples, prompt, reward and grade, shared by training and evaluation.

To add one: write tasks/<name>.py with one class that derives from Task, and its block in config.yaml. Tasks are
torch-free. A corpus for SFT derives from Corpus.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unmask.files import InputError, sha256
from unmask.scoring import Verdict
from unmask.spec import DataSpec

Example = dict[str, Any]  # a row of the canonical files: at least `question`, `answer` and `difficulty`
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Grade:
    """What an examiner says of one response."""

    answer: str | None  # what was read as the answer, None if nothing was
    published: float  # share right in [0, 1] under the papers' scoring rules
    strict: float  # 1.0 if a careful reader would call the whole answer right
    note: str = ""  # what the careful reader remarks
    points: int = 1  # how much `published` counts in an accuracy: the papers pool the blank cells of all Sudoku boards

    @classmethod
    def of(cls, published: Verdict, strict: Verdict) -> Grade:
        """The grade that the two protocols' verdicts make."""
        return cls(published.answer, published.share, strict.share, strict.note, published.total)


@dataclass(frozen=True)
class Task:
    """A set of problems with the rules to pose, reward and grade them."""

    question_fields: ClassVar[tuple[str, ...]] = ("question",)  # columns that a prompt file may show
    prefill = "<reasoning>"  # how every response begins; part of the prompt, not of the response
    # Settings that decide less than the others, so that changing one repeats less. They are read from the file without
    # importing it.
    test_only: ClassVar[tuple[str, ...]] = ()  # the test examples alone
    training_only: ClassVar[tuple[str, ...]] = ()  # the training and validation examples alone
    reward_only: ClassVar[tuple[str, ...]] = ()  # the reward alone

    def splits(self) -> dict[str, list[Example]]:
        """Examples by split, no problem in two of them; those that lack their own settings (None) may be left out."""
        raise NotImplementedError

    def messages(self, example: Example) -> list[dict[str, str]]:
        """The conversation that poses the problem, in chat format."""
        raise NotImplementedError

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """The parts of the training reward; it is their sum."""
        raise NotImplementedError

    def grade(self, response: str, example: Example) -> Grade:
        """Read and judge the answer; the response may be any text."""
        raise NotImplementedError

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """A response to learn from: right, or by a plausible shortcut (for tiny models).

        Of at most `length` tokens if the task can choose; a stored solution is as long as it is.
        """
        raise NotImplementedError


class Corpus(Task):
    """Conversations to learn from by SFT: `splits`, `messages` and `demonstration`, and nothing to reward or grade."""

    prefill = ""


def load(name: str, settings: dict[str, Any]) -> Task:
    """The task in tasks/<name>.py with these settings; those that decide less than everything may be left out."""
    found = task_class(name)
    left_out = dict.fromkeys((*found.test_only, *found.training_only, *found.reward_only))
    return found(**left_out | {key: _plain(value) for key, value in settings.items()})


def task_class(name: str) -> type[Task]:
    """The class in tasks/<name>.py."""
    module = importlib.import_module(f"unmask.tasks.{name}")
    (found,) = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, Task) and v.__module__ == module.__name__
    ]
    return found


def load_for_test(name: str, spec: DataSpec) -> Task:
    """The task with the settings of its test data's spec: problems are posed by the prompt file of evaluations."""
    if not spec.test or spec.task != name:
        kind = "test" if spec.test else "training"
        raise InputError(f"--test-spec: it is of {kind} data of {spec.task}, and these are test problems of {name}")
    file = spec.settings.get("evaluation_prompt_file")
    return load(name, spec.settings if file is None else spec.settings | {"prompt_file": file})


def _plain(value: Any) -> Any:
    """A setting as its task knows it: in a spec, a prompt file has a path and the hash of its content."""
    if not isinstance(value, dict) or value.keys() != {"path", "sha256"}:
        return value
    if sha256(Path(value["path"])) != value["sha256"]:
        raise InputError(f"{value['path']}: changed since the spec was written. Run snakemake again.")
    return value["path"]


def without_prefill(task: Task) -> Task:
    """The same task with nothing of the response in its prompt: the policy writes the beginning itself."""
    same = copy.copy(task)
    object.__setattr__(same, "prefill", "")  # tasks are frozen
    return same


def name_of(task: Task) -> str:
    """As it is called in config.yaml: the name of its file."""
    return type(task).__module__.rpartition(".")[2]


def total_reward(task: Task, response: str, example: Example) -> float:
    """The training reward, the sum of its parts. Raises InputError if the task raises or the sum is not finite."""
    with blaming(task, response, example):
        total = float(sum(task.reward(response, example).values()))
        if not math.isfinite(total):
            raise ValueError(f"the reward is {total}")
        return total


def graded(task: Task, response: str, example: Example) -> Grade:
    """The task's grade. Raises InputError if the task raises."""
    with blaming(task, response, example):
        return task.grade(response, example)


def stored_solution(task: Task, example: Example, right: bool) -> str:
    """The worked solution among the data. Raises InputError if there is none, or if a wrong one is asked for."""
    if not right:
        raise InputError(f"methods.sft.right_share: {name_of(task)} has right solutions only; set it to 1.0")
    if not example.get("solution"):
        raise InputError(
            f"tasks.{name_of(task)}.train_source: no solution to {example['question'][:200]!r}; take data with the "
            "column `solution`, or let SFT learn a corpus (methods.sft.corpus)"
        )
    return str(example["solution"])


@contextlib.contextmanager
def blaming(task: Task, response: str, example: Example) -> Iterator[None]:
    """Whatever the code of a task raises becomes an InputError that names the line, the example and the response."""
    try:
        yield
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"tasks.{name_of(task)}: {type(error).__name__}: {error} ({Path(line.filename).name}, line {line.lineno}) "
            f"on the example {example['question']!r} and the response {response!r}. "
            f"Mend src/unmask/tasks/{name_of(task)}.py; training goes on from its checkpoint."
        ) from error


def distinct(
    make: Callable[[random.Random], Example | None], train: int, validation: int, test: int | None, rng: random.Random
) -> dict[str, list[Example]]:
    """Splits of examples that `make` draws, no question twice; it may draw None to try again.

    The test examples are drawn last, so their number changes no other split; with None there are none.
    """
    found: dict[str, Example] = {}
    total = train + validation + (test or 0)
    for _ in range(200 * total):
        example = make(rng) if len(found) < total else None
        if example:
            found.setdefault(example["question"], example)
    if len(found) < total:
        raise ValueError(f"only {len(found)} of {total} distinct problems found; ask for fewer or for harder ones")
    rest = list(found.values())
    splits = {"train": rest[:train], "validation": rest[train : train + validation]}
    return splits if test is None else splits | {"test": rest[train + validation :]}
