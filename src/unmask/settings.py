"""What config.yaml may say: every key, its type and what it means.

Torch-free, because the workflow's controller reads it. The settings of a method or task are declared once, as fields of
the class in its own file; `declared_settings` reads them from the source, so adding a method needs no change here.
"""

from __future__ import annotations

import ast
import copy
import difflib
import functools
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

LIBRARY = Path(__file__).parent

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]

# Keys of a method's block that are not settings: the file it runs, the method it starts from, values by task.
NOT_SETTINGS = ("algorithm", "start_from", "by_task")


class Block(BaseModel):
    """A block of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


Stored = Annotated[HubData | LocalData, Field(discriminator="source")]
Source = Annotated[HubData | LocalData | GeneratedData, Field(discriminator="source")]

# The words an annotation in a method's or task's file may use.
ANNOTATIONS = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "Literal": Literal,
    "Count": Count, "Whole": Whole, "Positive": Positive, "NonNegative": NonNegative, "Share": Share,
    "Stored": Stored, "Source": Source,
}  # fmt: skip


class Training(Block):
    """Settings that every trained run has, whatever its method."""

    buffers: Count = Field(description="rollout buffers filled in the whole run")
    updates_per_buffer: Count = Field(description="gradient steps on each buffer (F in DMPO, μ in d1)")
    prompts_per_buffer: Count = Field(description="prompts in a buffer, over all processes")
    group_size: Annotated[int, Field(ge=2)] = Field(description="responses per prompt (N in DMPO, G in d1)")
    generation_length: Count = Field(description="tokens of a response while training")
    sampler: Name = Field(description="a name under `samplers`: how rollouts are decoded")
    temperature: NonNegative = Field(description="sampling temperature of rollouts")
    learning_rate: Positive
    schedule: Literal["constant", "cosine"] = Field(description="of the learning rate; cosine ends at a tenth")
    warmup: Share = Field(description="share of the updates with a linearly growing learning rate")
    adam_beta1: Share
    adam_beta2: Share
    weight_decay: NonNegative
    gradient_clip: Positive = Field(description="largest norm of the gradient")
    lora_rank: Whole = Field(description="rank of the adapter; 0 trains every parameter")
    lora_alpha: Count
    lora_dropout: Share
    lora_targets: list[str] = Field(description="names of the projections that get an adapter")
    rollout_dropout: bool = Field(description="adapter dropout also while sampling, as in the released codes")
    mask_padding: bool = Field(description="hide left padding from attention; the released codes do not")
    resync_every: Whole = Field(description="buffers after which the reference becomes the current policy; 0 is never")
    rows_per_forward: Count = Field(description="responses in one forward and backward pass; memory, not result")
    checkpoint_every: Count = Field(description="updates between two checkpoints")


class TopK(Block):
    """Commit the k best-scored positions of the active block at every step."""

    rule: Literal["top_k"]
    tokens_per_step: Count = Field(description="k; 1 is steps = L, 2 is steps = L/2")
    score: Literal["confidence", "random"]


class RandomOrder(Block):
    """Commit one position of the active block at every step, in uniformly random order (ROAR in DMPO)."""

    rule: Literal["random_order"]


Sampler = Annotated[TopK | RandomOrder, Field(discriminator="rule")]


class Pretraining(Block):
    """How a model made here learns its language: masked denoising on a mixture of demonstrations."""

    right_first: Share = Field(description="share of the updates, at the beginning, with right demonstrations only")
    right_share: Share = Field(description="share of right demonstrations after that; the others take a shortcut")
    demonstrations: Count = Field(description="distinct demonstrations to train on")
    batch_size: Count
    learning_rate: Positive = Field(description="of AdamW, for embeddings, head and norms")
    muon_learning_rate: Positive = Field(description="of Muon, for the matrices of the body")
    adam_beta2: Share
    weight_decay: NonNegative
    updates: Count
    competence: Share = Field(description="lowest mean validation reward after the right demonstrations alone")
    gate: list[Share] = Field(
        min_length=2, max_length=2, description="lowest and highest mean validation reward of the finished base"
    )


class ScratchModel(Block):
    """A small model trained from scratch, one for each task and seed."""

    source: Literal["scratch"]
    hidden_size: Count
    layers: Count
    heads: Count
    mlp_size: Count
    rope_theta: Positive
    pretraining: dict[Name, Pretraining] = Field(description="by task")


class HubModel(Block):
    """A published checkpoint at a pinned revision."""

    source: Literal["hub"]
    repository: str
    revision: str


class LocalModel(Block):
    """A checkpoint in a folder, in the published layout."""

    source: Literal["local"]
    path: str


class Evaluation(Block):
    """How a policy is examined: greedy unless a temperature is given."""

    samplers: list[Name] = Field(min_length=1)
    temperature: NonNegative
    rows_per_batch: Count


class Overrides(Block):
    """Values that replace the general ones."""

    training: dict[str, Any] = Field(default={}, description="overrides of `training`")
    methods: dict[Name, dict[str, Any]] = Field(default={}, description="overrides of `methods`")
    task_settings: dict[Name, dict[str, Any]] = Field(default={}, description="overrides of `tasks`")


class Scale(Overrides):
    """The size at which all experiments run."""

    model: Name
    tasks: list[Name] = Field(min_length=1)
    seeds: list[Whole] = Field(min_length=1)
    block_length: Count = Field(description="tokens of a block of semi-autoregressive decoding")
    lengths: list[Count] = Field(min_length=1, description="generation lengths at evaluation, multiples of the block")
    experiments: list[Name] = Field(min_length=1, description="what the target `all` makes")
    exact_toy: dict[str, Any] = Field(default={}, description="overrides of `exact_toy`")


class Experiment(Block):
    """A question of a paper: a set of runs, how they are examined, and what is drawn from them."""

    question: str
    methods: list[Name] = Field(min_length=1)
    tasks: list[Name] | None = Field(default=None, description="all of the scale's when absent")
    grid: dict[str, list[Any]] = Field(default={}, description="setting -> values; all combinations are run")
    evaluation: Name = Field(description="how its runs are examined")
    figures: list[Name] = Field(default=[], description="functions in src/unmask/figures.py")


class ExactToy(Block):
    """The experiment of the exact laboratory: distribution matching against reward maximisation, enumerated."""

    vocabulary: Count = Field(description="V, tokens")
    length: Count = Field(description="L, positions; there are V^L responses")
    modes: Count = Field(description="random responses that earn 1; all others earn 0")
    alpha: Positive = Field(description="temperature of the target p*, which the curves are held against")
    reference_scale: NonNegative = Field(description="standard deviation of the reference's logits; 0 is uniform")
    seeds: list[Whole] = Field(min_length=2, description="each draws its own reference, modes and training")
    samples_per_buffer: Count
    group_sizes: list[Count] = Field(min_length=1, description="G; the buffer holds samples_per_buffer / G groups")
    updates: Count
    updates_per_buffer: Count
    learning_rate: Positive = Field(description="at the beginning; it falls linearly to zero")
    measure_every: Count = Field(description="updates between two enumerations of p_θ")
    methods: dict[Name, dict[str, Any]] = Field(description="overrides of `methods`")
    curves: dict[Name, dict[str, Any]] = Field(description="name -> method and what it changes")


class Config(Block):
    """The whole of config.yaml."""

    scale: Name
    fidelity: Name
    training: dict[str, Any]
    samplers: dict[Name, Sampler]
    evaluations: dict[Name, Evaluation]
    methods: dict[Name, dict[str, Any]]
    tasks: dict[Name, dict[str, Any]]
    models: dict[Name, Annotated[ScratchModel | HubModel | LocalModel, Field(discriminator="source")]]
    fidelities: dict[Name, Overrides]
    scales: dict[Name, Scale]
    experiments: dict[Name, Experiment]
    exact_toy: ExactToy


@functools.cache
def declared_settings(kind: Literal["methods", "tasks"], name: str) -> type[Block]:
    """The settings that a method or task declares: the annotated fields of its class, read from its file.

    The class is the one that derives from Method or Task. The file is parsed, not imported: importing needs torch.
    """
    source = LIBRARY / kind / f"{name}.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    owner = next((c for c in classes if {"Method", "Task"} & {ast.unparse(base) for base in c.bases}), None)
    if owner is None:
        raise ValueError(f"{source}: no class derives from Method or Task")
    fields = {
        node.target.id: (eval(compile(ast.Expression(node.annotation), str(source), "eval"), ANNOTATIONS), ...)
        for node in owner.body
        if isinstance(node, ast.AnnAssign)
    }
    return create_model(owner.name, __base__=Block, **fields)


@functools.cache
def settings_of(method: str) -> type[Block]:
    """Every setting of a method's runs: those of all trainings and its own."""
    return create_model("Settings", __base__=(declared_settings("methods", method), Training))


@functools.cache
def optional(block: type[Block]) -> type[Block]:
    """The same block with every key optional: one layer of settings that others complete."""
    fields = {}
    for name, field in block.model_fields.items():
        field = copy.copy(field)
        field.default = None
        fields[name] = (field.annotation, field)
    return create_model(f"Optional{block.__name__}", __base__=Block, **fields)


def problems(model: type[BaseModel], values: Any, where: str) -> list[str]:
    """Everything wrong with `values` as a `model`: one line each, with the dotted path and a way out."""
    try:
        model.model_validate(values)
    except ValidationError as errors:
        return [_one_line(model, error, where) for error in errors.errors()]
    return []


def unknown(name: str, known: Any, where: str) -> str:
    """One line for a name that is not among the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        hint = f"did you mean '{close[0]}'?"
    else:
        hint = f"known: {', '.join(names)}" if 0 < len(names) <= 12 else "remove it"
    return f"{where}: unknown '{name}'; {hint}"


def normalise(values: Any) -> Any:
    """YAML 1.1 reads 3e-6 as text; read it as the number it is."""
    if isinstance(values, dict):
        return {key: normalise(value) for key, value in values.items()}
    if isinstance(values, list):
        return [normalise(value) for value in values]
    if isinstance(values, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", values):
        return float(values)
    return values


def _one_line(model: type[BaseModel], error: Any, where: str) -> str:
    path = ".".join(str(part) for part in (where, *error["loc"]) if part != "")
    if error["type"] == "extra_forbidden":
        parent, _, key = path.rpartition(".")
        return unknown(key, _keys(model), parent or "config.yaml")
    if error["type"] == "missing":
        return f"{path}: missing; add it"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _keys(annotation: Any) -> set[str]:
    """The keys of all blocks that an annotation contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set().union(*(_keys(part) for part in typing.get_args(annotation)))
