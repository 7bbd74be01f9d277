"""Blocks of methods: settings that the method's own file declares, and a few keys that are none."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from unmask.config.kinds import Name

# Keys of a method's block that are not settings: the file it runs, the method it starts from, the corpus that it learns
# in place of each task, values by task, whose reward each task has.
NOT_SETTINGS = ("algorithm", "start_from", "corpus", "by_task", "task_settings")


class ByTask(TypedDict, total=False):
    """A method's block where it replaces the general one: settings of its file, and some of them by task."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    corpus: Name  # a task that is a corpus: one run a seed learns it, and all tasks share that run
    by_task: dict[Name, dict[str, Any]]
    task_settings: dict[Name, dict[str, Any]]  # of tasks, for the runs of this method: those that decide the reward


class MethodBlock(ByTask, total=False):
    """A method's general block; what else it holds are settings of its file."""

    __pydantic_config__ = ByTask.__pydantic_config__  # type: ignore[misc]
    algorithm: Name  # the file in methods/, where it is not the name of the block
    start_from: Name  # the method whose adapter it goes on training
