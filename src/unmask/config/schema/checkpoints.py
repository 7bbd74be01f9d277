"""Released checkpoints: where each is, what it was trained from, and the numbers that its paper prints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from unmask.config.schema.types import Name, Names, Section, Values

Percent = Annotated[float, Field(ge=0, le=100)]
UNCONFIRMED = "to be confirmed"  # in place of a subfolder whose name is not known yet


class Printed(Section):
    """Numbers that a paper or a model card prints for a checkpoint; they are shown, never used."""

    source: str = Field(description="paper and table, model card or issue")
    steps: Literal["L", "L/2"] | None = Field(
        default=None, description="denoising steps of a response of L tokens; None: not stated"
    )
    selection: str = Field(default="not stated", description="how the printed checkpoint was chosen")
    note: str = Field(default="", description="what else is not as in our evaluation, such as the prompt")
    accuracy: dict[Name, dict[Name, Percent]] = Field(
        min_length=1, description="task → generation length or `unstated` → percent"
    )


class Released(Section):
    """What a released checkpoint is, wherever it is stored."""

    base: Name = Field(description="a published model under `models`, from which it was trained")
    kind: Literal["adapter", "full"] = Field(description="a LoRA adapter in PEFT's format, or all weights")
    method: str = Field(description="the method, as its paper writes it")
    tasks: Names = Field(description="tasks on which it is evaluated")
    evaluation: Name = Field(default="papers", description="a name under `evaluations`")
    apart: bool = Field(
        default=False, description="evaluate only when requested by name, not by the target `checkpoints`"
    )
    printed: list[Printed] = Field(default=[], description="published numbers to show next to ours")


class HubCheckpoint(Released):
    """Released checkpoint on the Hugging Face hub at a pinned revision."""

    source: Literal["hub"]
    repository: str = Field(description="owner/name on the hub")
    revision: str = Field(description="commit, 40 hexadecimal digits")
    subfolder: str = Field(default="", description="folder inside the repository that has the files")


class LocalCheckpoint(Released):
    """Released checkpoint in a local folder."""

    source: Literal["local"]
    path: str = Field(description="folder with adapter_config.json or config.json, and the safetensors weights")


Checkpoint = Annotated[HubCheckpoint | LocalCheckpoint, Field(discriminator="source")]


class HubPlace(Section):
    """The part of a checkpoint on the hub that decides its weights."""

    source: Literal["hub"]
    repository: str
    revision: str
    subfolder: str = ""


class LocalPlace(Section):
    """The part of a local checkpoint that decides its weights."""

    source: Literal["local"]
    path: str


Place = Annotated[HubPlace | LocalPlace, Field(discriminator="source")]
_PLACE: TypeAdapter[Place] = TypeAdapter(Place)


def place_from(values: Values) -> Place:
    """Return the place of a checkpoint, as config.yaml or a spec has it."""
    return _PLACE.validate_python(values)


def place_of(checkpoint: HubCheckpoint | LocalCheckpoint) -> Place:
    """Return where a checkpoint is stored, without its printed numbers and the tasks that it is evaluated on."""
    kind = HubPlace if isinstance(checkpoint, HubCheckpoint) else LocalPlace
    return kind(**{key: getattr(checkpoint, key) for key in kind.model_fields})
