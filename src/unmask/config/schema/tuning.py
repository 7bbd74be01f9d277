"""Tuning: the candidates that a scale compares for each method, with the same budget for all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from unmask.config.schema.types import Distinct, Name, Names, Section, Values, Whole, refuse


class Candidates(Section):
    """Settings to choose from for one method."""

    tasks: Names | None = Field(default=None, description="tasks to tune on; default: those of the scale")
    settings: list[Values] = Field(min_length=1, description="one block per candidate, all with the same keys")

    @model_validator(mode="after")
    def _comparable(self) -> Candidates:
        first, *others = self.settings
        if not first:
            raise refuse("a candidate without settings; name the settings to choose")
        if any(other.keys() != first.keys() for other in others):
            raise refuse("candidates set different keys; give each candidate the same ones")
        if any(one in self.settings[:place] for place, one in enumerate(self.settings)):
            raise refuse("two candidates are equal; change one")
        return self


class Tuning(Section):
    """Search for the settings of each method: candidates are compared by their mean accuracy on validation problems.

    The seeds are used by no result, and every method has the same number of candidates.
    """

    seeds: Annotated[list[Whole], Field(min_length=1), Distinct] = Field(
        description="of the candidates' runs; none may be a seed of results"
    )
    candidates: dict[Name, Candidates] = Field(min_length=1, description="method -> settings to choose from")

    @model_validator(mode="after")
    def _same_budget(self) -> Tuning:
        counts = {method: len(one.settings) for method, one in self.candidates.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{method} {count}" for method, count in counts.items())
            raise refuse(f"methods have different numbers of candidates ({listed}); give each the same number")
        return self
