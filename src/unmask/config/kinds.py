"""The kinds of values that settings have: numbers in a range, names, sources of data; and what a block of them is.

Annotations in the files of methods and tasks are made of these words, `ANNOTATIONS`. Torch-free, as all of this
folder, because the workflow's controller reads it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


def refuse(message: str) -> PydanticCustomError:
    """An error that a validator raises, said as it is."""
    return PydanticCustomError("refused", message.replace("{", "{{").replace("}", "}}"))


def _distinct(values: list[Any]) -> list[Any]:
    """Values of which no two are equal; 1 and 1.0 are."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise refuse(f"{value!r} stands there twice; remove one")
    return values


Distinct = AfterValidator(_distinct)
Count = Annotated[int, Field(ge=1)]
Pairs = Annotated[int, Field(ge=2, multiple_of=2)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
# Part of paths and commands: nothing that a shell or a file system reads in a way of its own, and not too long for one.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Names = Annotated[list[Name], Field(min_length=1), Distinct]


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class HubData(Block):
    """A split of a data set on the Hugging Face hub, at a pinned commit."""

    source: Literal["hub"]
    repository: str
    subset: str = Field(description="the data set's configuration; `default` where it has only one")
    split: str
    revision: str = Field(description="commit, 40 hexadecimal digits")


class LocalData(Block):
    """A file of examples: JSON lines, CSV or parquet."""

    source: Literal["local"]
    path: str = Field(description="the file, or a folder with one train.* or test.* in it")


class GeneratedData(Block):
    """Examples made by the task itself."""

    source: Literal["generated"]


class FirstRows(Block):
    """The first rows of a test file."""

    rule: Literal["first"]


class NumpyChoice(Block):
    """The rows that NumPy's `random.seed(seed); random.choice(rows, test, replace=False)` chooses, in its order."""

    rule: Literal["numpy_choice"]
    seed: Whole


Subset = Annotated[FirstRows | NumpyChoice, Field(discriminator="rule")]
Stored = Annotated[HubData | LocalData, Field(discriminator="source")]
Source = Annotated[HubData | LocalData | GeneratedData, Field(discriminator="source")]
Rewards = Literal["corrected", "released_d1", "released_dmpo"]  # whose reward function: ours, or one of a released code

# The words an annotation in a method's or task's file may use.
ANNOTATIONS = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "Literal": Literal,
    "Count": Count, "Pairs": Pairs, "Whole": Whole, "Positive": Positive, "NonNegative": NonNegative, "Share": Share,
    "Stored": Stored, "Source": Source, "Subset": Subset, "Rewards": Rewards,
}  # fmt: skip
