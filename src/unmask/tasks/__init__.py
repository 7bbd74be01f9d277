"""Tasks, one file each: examples, prompt, reward and grade, shared by training and evaluation.

To add a task, write tasks/<name>.py with one class that derives from Task, and add its block to config.yaml. A corpus
for SFT derives from Corpus instead. Tasks must not import torch.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from unmask.common.checksums import sha256
from unmask.common.errors import InputError
from unmask.config.specs import DataSpec
from unmask.scoring import Verdict

Example = dict[str, Any]  # a row of the prepared data; has at least `question`, `answer` and `difficulty`
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Grade:
    """Grade of one response under both scoring protocols."""

    answer: str | None  # the extracted answer, None if there is none
    published: float  # share of the answer that is correct, in [0, 1], under the papers' scoring rules
    strict: float  # 1.0 if the whole answer is correct to a careful reader, else 0.0
    note: str = ""  # remark of the strict protocol
    points: int = 1  # weight of `published` in an accuracy: the papers pool the blank cells of all Sudoku boards
    columns: Mapping[str, float | str] = field(default_factory=dict)  # further columns of the task's samples

    @classmethod
    def of(cls, published: Verdict, strict: Verdict, **columns: float | str) -> Grade:
        """Combine the verdicts of the two protocols; a task gives all its samples the same further columns."""
        return cls(
            answer=published.answer,
            published=published.share,
            strict=strict.share,
            note=strict.note,
            points=published.total,
            columns=columns,
        )


@dataclass(frozen=True)
class Task:
    """Set of problems with the rules to pose, reward and grade them. The fields of a subclass are its settings."""

    question_fields: ClassVar[tuple[str, ...]] = ("question",)  # columns that a prompt file may show
    prefill = "<reasoning>"  # start of every response; it is part of the prompt, so the policy does not generate it
    # Settings with a limited effect, so that changing one repeats fewer steps. These three tuples must be literals: the
    # workflow reads them from the source file without importing it (config/schema/introspection.py).
    test_only: ClassVar[tuple[str, ...]] = ()  # only affect the test examples
    training_only: ClassVar[tuple[str, ...]] = ()  # only affect the training and validation examples
    reward_only: ClassVar[tuple[str, ...]] = ()  # only affect the reward

    def splits(self) -> dict[str, list[Example]]:
        """Return examples by split; no problem is in two splits. Splits whose settings are None may be missing."""
        raise NotImplementedError

    def messages(self, example: Example) -> list[dict[str, str]]:
        """Return the conversation that poses the problem, in chat format."""
        raise NotImplementedError

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return the parts of the training reward by name; the reward is their sum."""
        raise NotImplementedError

    def grade(self, response: str, example: Example) -> Grade:
        """Extract and score the answer. The response may be any text."""
        raise NotImplementedError

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Return a response to learn from: correct if `right`, else the result of a plausible shortcut (tiny models).

        It has at most `length` tokens if the task generates it; stored solutions are returned at full length.
        """
        raise NotImplementedError

    def shortcut_grade(self, example: Example) -> float:
        """Return how far a problem invites the shortcut, on any scale; by default its difficulty.

        A tiny base model can be taught a habit that grows with the grade, so that RL undoes it problem by problem.
        """
        return float(example["difficulty"])


class Corpus(Task):
    """Conversations for SFT: a task with `splits`, `messages` and `demonstration` but no reward or grade."""

    prefill = ""


def load(name: str, settings: Mapping[str, Any]) -> Task:
    """Create the task of tasks/<name>.py. Settings in `test_only`, `training_only` or `reward_only` may be missing.

    Raises InputError if a prompt file changed since the spec was written.
    """
    found = task_class(name)
    # A spec only holds the settings that its step depends on, so the others are None.
    narrow = (*found.test_only, *found.training_only, *found.reward_only)
    values = dict.fromkeys(narrow)
    for key, value in settings.items():
        values[key] = _plain(value)
    return found(**values)


def task_class(name: str) -> type[Task]:
    """Return the class defined in tasks/<name>.py."""
    module = importlib.import_module(f"unmask.tasks.{name}")
    classes = []
    for value in vars(module).values():
        is_task = isinstance(value, type) and issubclass(value, Task)
        # Task and Corpus themselves are imported there, hence the check of the defining module.
        if is_task and value.__module__ == module.__name__:
            classes.append(value)
    (found,) = classes
    return found


def load_for_test(name: str, spec: DataSpec) -> Task:
    """Create a task from the spec of its test data, so that problems are posed by the prompt file for evaluations.

    Raises InputError if the spec is not of test data, or of another task.
    """
    if not spec.test or spec.task != name:
        kind = "test" if spec.test else "training"
        raise InputError(f"--test-spec: need test data of the task; got {kind} data of {spec.task} for {name}")
    settings = dict(spec.settings)
    file = settings.get("evaluation_prompt_file")
    if file is not None:
        settings["prompt_file"] = file
    return load(name, settings)


def _plain(value: Any) -> Any:
    """Convert a setting of a spec, where a prompt file is a path with a hash, to the plain path that tasks expect."""
    match value:
        case {"path": path, "sha256": digest, **others} if not others:
            if sha256(Path(path)) != digest:
                raise InputError(f"{path}: changed since the spec was written. Run snakemake again.")
            return path
        case _:
            return value


def without_prefill(task: Task) -> Task:
    """Return a copy of the task whose prompt has no prefill, so that the policy generates the whole response."""
    same = copy.copy(task)
    object.__setattr__(same, "prefill", "")  # tasks are frozen
    return same


def name_of(task: Task) -> str:
    """Return the name of a task in config.yaml, which is that of its file."""
    _, _, file = type(task).__module__.rpartition(".")
    return file


def question_of(example: Example) -> str:
    """Return the question of an example, which also identifies it."""
    return str(example["question"])


def total_reward(task: Task, response: str, example: Example) -> float:
    """Return the training reward. Raises InputError if the task raises or if the reward is not finite."""
    with blaming(task, response, example):
        parts = task.reward(response, example)
        total = float(sum(parts.values()))
        if not math.isfinite(total):
            raise ValueError(f"the reward is {total}")
        return total


def grade_response(task: Task, response: str, example: Example) -> Grade:
    """Return the grade of a response. Raises InputError if the task raises."""
    with blaming(task, response, example):
        return task.grade(response, example)


def stored_solution(task: Task, example: Example, right: bool) -> str:
    """Return the worked solution in the data. Raises InputError if there is none, or if not `right`."""
    if not right:
        raise InputError(f"methods.sft.right_share: {name_of(task)} only has correct solutions; set it to 1.0")
    if not example.get("solution"):
        beginning = question_of(example)[:200]
        raise InputError(
            f"tasks.{name_of(task)}.train_source: no solution to {beginning!r}; use data with a "
            "column `solution`, or train on a corpus (methods.sft.corpus)"
        )
    return str(example["solution"])


@contextlib.contextmanager
def blaming(task: Task, response: str, example: Example) -> Iterator[None]:
    """Turn any error of a task's code into an InputError that names the line, the example and the response."""
    try:
        yield
    except Exception as error:
        # The innermost frame is the line that raised; the message replaces the traceback that the user will not see.
        line = traceback.extract_tb(error.__traceback__)[-1]
        file = Path(line.filename).name
        name = name_of(task)
        raise InputError(
            f"tasks.{name}: {type(error).__name__}: {error} ({file}, line {line.lineno}) "
            f"on the example {question_of(example)!r} and the response {response!r}. "
            f"Fix src/unmask/tasks/{name}.py and run again; training resumes from its checkpoint."
        ) from error


def distinct(
    make: Callable[[random.Random], Example | None],
    train: int,
    validation: int,
    test: int | None,
    rng: random.Random,
) -> dict[str, list[Example]]:
    """Draw splits without repeated questions. `make` may return None to reject a draw.

    With `test` None there is no test split. Raises ValueError if there are too few different questions.
    """
    # 200 draws per example bound the search when the settings allow fewer questions than were asked for.
    found: dict[str, Example] = {}
    total = train + validation + (test or 0)
    for _ in range(200 * total):
        if len(found) == total:
            break
        example = make(rng)
        if example:
            found.setdefault(question_of(example), example)
    if len(found) < total:
        raise ValueError(f"only {len(found)} of {total} distinct problems found; ask for fewer or for harder ones")

    # The test split comes last, so that its size (or absence) leaves the other splits unchanged.
    drawn = list(found.values())
    not_test = train + validation
    splits = {"train": drawn[:train], "validation": drawn[train:not_test]}
    if test is not None:
        splits["test"] = drawn[not_test:]
    return splits
