"""Method blocks: settings declared in the method's own file, plus a few keys that are not settings."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from unmask.config.schema.types import Name, Section, Values


class ByTask(Section):
    """Method block in a fidelity or scale: overrides of the general block, some of them by task."""

    # Further keys are settings. Which there are depends on the method, so they are checked in validation/layers.py.
    model_config = ConfigDict(extra="allow")

    corpus: Name = Field(default="", description="a corpus task: one run per seed trains on it, for all tasks")
    by_task: dict[Name, Values] = Field(default={}, description="task -> overrides of this block")
    task_settings: dict[Name, Values] = Field(
        default={}, description="task -> overrides of `tasks` for this method; only the reward"
    )

    @property
    def settings(self) -> Values:
        """Settings that the block gives, for all tasks."""
        return self.model_extra or {}


class MethodBlock(ByTask):
    """General block of a method; all further keys are settings declared in its file."""

    algorithm: Name = Field(default="", description="file in `src/unmask/methods/`; default: the name of the block")
    start_from: Name = Field(default="", description="method whose trained adapter is the starting point")
