"""Method blocks: settings declared in the method's own file, plus a few keys that are not settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from unmask.config.schema.types import Name

# Keys of a method's block that are not settings of a run: the file it runs, the method it starts from, the corpus that
# replaces the tasks, overrides by task, and the reward of each task.
NOT_SETTINGS = ("algorithm", "start_from", "corpus", "by_task", "task_settings")


class ByTask(TypedDict, total=False):
    """Method block in a fidelity or scale: overrides of the general block, some of them by task."""

    # A TypedDict with extra keys, not a Section: which settings exist depends on the method (validation/layers.py).
    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    corpus: Annotated[Name, Field(description="a corpus task: one run per seed trains on it, for all tasks")]
    by_task: Annotated[dict[Name, dict[str, Any]], Field(description="task -> overrides of this block")]
    task_settings: Annotated[
        dict[Name, dict[str, Any]], Field(description="task -> overrides of `tasks` for this method; only the reward")
    ]


class MethodBlock(ByTask, total=False):
    """General block of a method; all further keys are settings declared in its file."""

    __pydantic_config__ = ByTask.__pydantic_config__  # type: ignore[misc]
    algorithm: Annotated[Name, Field(description="file in `src/unmask/methods/`; default: the name of the block")]
    start_from: Annotated[Name, Field(description="method whose trained adapter is the starting point")]
