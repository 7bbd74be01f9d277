"""Tuning: the candidates that a scale compares for each method, in one or more sweeps, with one budget for all."""

from __future__ import annotations

from typing import Annotated, NamedTuple

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


class Block(NamedTuple):
    """Candidates of one method in a sweep."""

    sweep: str  # empty for the target `tune`
    place: str  # below `tuning`
    method: str
    candidates: Candidates


class Tuning(Section):
    """Search for the settings of each method: candidates are compared by their mean accuracy on validation problems.

    The seeds are used by no result, and every method has the same number of candidates.
    """

    seeds: Annotated[list[Whole], Field(min_length=1), Distinct] = Field(
        description="of the candidates' runs; none may be a seed of results"
    )
    candidates: dict[Name, Candidates] = Field(
        min_length=1, description="method -> settings to choose from, of the target `tune`"
    )
    sweeps: dict[Name, dict[Name, Candidates]] = Field(
        default={}, description="name -> candidates of further methods or tasks, each a target `tune_NAME` of its own"
    )

    @property
    def blocks(self) -> list[Block]:
        """Candidates of every method in every sweep, those of the target `tune` first."""
        found = [Block("", f"candidates.{method}", method, one) for method, one in self.candidates.items()]
        for name, candidates in self.sweeps.items():
            found += [Block(name, f"sweeps.{name}.{method}", method, one) for method, one in candidates.items()]
        return found

    @model_validator(mode="after")
    def _same_budget(self) -> Tuning:
        counts = {one.place.removeprefix("candidates."): len(one.candidates.settings) for one in self.blocks}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{method} {count}" for method, count in counts.items())
            raise refuse(f"methods have different numbers of candidates ({listed}); give each the same number")
        return self
