"""What config.yaml may say: every key, its type and what it means.

Torch-free, because the workflow's controller reads it. The settings of a method or task are declared once, as fields of
the class in its own file; `declared_settings` reads them from the source, so adding a method needs no change here.
"""

from __future__ import annotations

import ast
import copy
import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

LIBRARY = Path(__file__).parent


def refuse(message: str) -> PydanticCustomError:
    """An error that a validator raises, said as it is."""
    return PydanticCustomError("refused", message.replace("{", "{{").replace("}", "}}"))


def _distinct(values: list[Any]) -> list[Any]:
    """Values of which no two are equal; 1 and 1.0 are."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise refuse(f"{value!r} stands there twice; remove one")
    return values


def _ascending(values: list[float]) -> list[float]:
    if values != sorted(values):
        raise refuse(f"{values} should be the lower value, then the higher")
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
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Keys of a method's block that are not settings: the file it runs, the method it starts from, values by task.
NOT_SETTINGS = ("algorithm", "start_from", "by_task")


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


Stored = Annotated[HubData | LocalData, Field(discriminator="source")]
Source = Annotated[HubData | LocalData | GeneratedData, Field(discriminator="source")]

# The words an annotation in a method's or task's file may use.
ANNOTATIONS = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "Literal": Literal,
    "Count": Count, "Pairs": Pairs, "Whole": Whole, "Positive": Positive, "NonNegative": NonNegative, "Share": Share,
    "Stored": Stored, "Source": Source,
}  # fmt: skip


class Training(Block):
    """Settings that every trained run has, whatever its method."""

    buffers: Count = Field(description="rollout buffers filled in the whole run")
    updates_per_buffer: Count = Field(description="gradient steps on each buffer (F in DMPO, μ in d1)")
    prompts_per_buffer: Count = Field(description="prompts in a buffer, over all processes")
    prompts_at_once: Count = Field(
        description="prompts whose rollouts are decoded together, from one stream of random numbers; processes share "
        "the prompts of a buffer by so many"
    )
    group_size: Annotated[int, Field(ge=2)] = Field(description="responses per prompt (N in DMPO, G in d1)")
    generation_length: Count = Field(description="tokens of a response while training")
    sampler: Name = Field(description="a name under `samplers`: how rollouts are decoded")
    temperature: NonNegative = Field(description="sampling temperature of rollouts")
    learning_rate: Positive
    sampler_learning_rate: Positive = Field(description="of an adaptive sampler's head")
    schedule: Literal["constant", "cosine"] = Field(description="of the learning rate; cosine ends at a tenth")
    warmup: Share = Field(description="share of the updates with a linearly growing learning rate")
    adam_beta1: Beta
    adam_beta2: Beta
    weight_decay: NonNegative
    gradient_clip: Positive = Field(description="largest norm of the gradient")
    lora_rank: Whole = Field(description="rank of the adapter; 0 trains every parameter")
    lora_alpha: Count
    lora_dropout: Share
    lora_targets: Annotated[list[Projection], Distinct] = Field(min_length=1, description="what gets an adapter")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        description="numbers of the base model; auto is bfloat16 on a GPU and float32 elsewhere. Adapters are float32"
    )
    quantisation: Literal["none", "nf4"] = Field(
        description="of the base model's matrices: nf4 is four bits, by bitsandbytes, on a CUDA device"
    )
    rollout_dropout: bool = Field(description="adapter dropout also while sampling, as in the released codes")
    mask_padding: bool = Field(description="hide left padding from attention; the released codes do not")
    resync_every: Whole = Field(description="buffers after which the reference becomes the current policy; 0 is never")
    rows_per_forward: Count = Field(description="responses in one forward and backward pass; memory, not result")
    activation_checkpointing: bool = Field(
        description="keep no activations inside a layer, compute them a second time for the gradient"
    )
    checkpoint_every: Count = Field(description="updates between two checkpoints")
    validate_every: Whole = Field(
        description="buffers between two looks at the validation split; the best policy there is kept. 0: the last"
    )


class Decoding(Block):
    """What every sampler has beside its commit rule."""

    cache: Literal["none", "prefix", "dual"] = Field(
        default="none", description="keys and values reused inside a block: none, left of it, or on both sides"
    )
    guidance: NonNegative = Field(default=0.0, description="w of classifier-free guidance; it doubles the passes")
    forbidden: Annotated[list[Whole], Distinct] = Field(default=[], description="ids never drawn, beside [MASK]")


class TopK(Decoding):
    """Commit the k best-scored positions of the active block at every step."""

    rule: Literal["top_k"]
    tokens_per_step: Count = Field(description="k; 1 is steps = L, 2 is steps = L/2")
    score: Literal["confidence", "random"]


class RandomOrder(Decoding):
    """Commit one position of the active block at every step, in uniformly random order (ROAR in DMPO)."""

    rule: Literal["random_order"]


class Threshold(Decoding):
    """Commit every token that is at least so probable (Fast-dLLM)."""

    rule: Literal["threshold"]
    confidence: Share


class Factor(Decoding):
    """Commit the n most probable tokens, n the largest with (n + 1)(1 - c_n) < factor (Fast-dLLM)."""

    rule: Literal["factor"]
    factor: NonNegative


Proxy = Literal["entropy", "confidence", "margin"]


class EntropyBound(Decoding):
    """Commit the longest prefix whose entropies add up to less than gamma, the largest left out (EB-Sampler)."""

    rule: Literal["entropy_bound"]
    gamma: NonNegative = Field(description="nats; 0 is one token a step")
    proxy: Proxy = Field(description="error by which positions are sorted")


class Adaptive(Decoding):
    """An entropy bound that a trained head chooses (DiFFPO); all of its sizes are our choice, none is public."""

    rule: Literal["adaptive"]
    gamma: Positive = Field(description="the threshold of an untrained head")
    gamma_max: Positive = Field(description="the largest that it can choose")
    choose: Literal["prompt", "block"] = Field(description="once, from the prompt; or anew for each block")
    width: Count = Field(description="of the head's hidden layer")
    proxy: Proxy = Field(description="error by which positions are sorted")

    @model_validator(mode="after")
    def _start_fits(self) -> Adaptive:
        if self.gamma >= self.gamma_max:
            raise refuse(f"gamma {self.gamma} is not below gamma_max {self.gamma_max}")
        return self


Sampler = Annotated[TopK | RandomOrder | Threshold | Factor | EntropyBound | Adaptive, Field(discriminator="rule")]


class Pretraining(Block):
    """How a model made here learns its language: masked denoising on a mixture of demonstrations."""

    first_part: Share = Field(description="share of the updates that belong to the first part")
    first_share: Share = Field(description="share of right demonstrations in it; the others take a shortcut")
    right_share: Share = Field(description="share of right demonstrations after it")
    demonstrations: Count = Field(description="distinct demonstrations to train on")
    batch_size: Count
    learning_rate: Positive = Field(description="of AdamW, for embeddings, head and norms")
    muon_learning_rate: Positive = Field(description="of Muon, for the matrices of the body")
    adam_beta2: Beta
    weight_decay: NonNegative
    updates: Count
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of products and activations; weights and their optimiser are float32"
    )
    competence: Share = Field(description="lowest mean validation reward after the first part")
    gate: Annotated[list[Share], AfterValidator(_ascending)] = Field(
        min_length=2, max_length=2, description="lowest and highest mean validation reward of the finished base"
    )


# What a model has once, however many tasks it learns.
ONCE = ("updates", "learning_rate", "muon_learning_rate", "adam_beta2", "weight_decay", "dtype")


class ScratchModel(Block):
    """A small model trained from scratch: one for each seed and task, or for each seed alone if it is shared."""

    source: Literal["scratch"]
    family: Literal["llada", "dream"] = Field(default="llada", description="dream predicts position d at d − 1")
    shared: bool = Field(default=False, description="one model learns all the tasks under `pretraining`")
    hidden_size: Count
    layers: Count
    heads: Count
    mlp_size: Count
    rope_theta: Positive
    pretraining: dict[Name, Pretraining] = Field(min_length=1, description="by task")

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        if self.hidden_size % (2 * self.heads):
            raise refuse(f"hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _tasks_agree(self) -> ScratchModel:
        first, *others = self.pretraining.values()
        for key in ONCE if self.shared else ():
            if any(getattr(other, key) != getattr(first, key) for other in others):
                raise refuse(f"a shared model has one {key}; give it the same value for every task")
        return self


class HubModel(Block):
    """A published checkpoint at a pinned revision."""

    source: Literal["hub"]
    repository: str
    revision: str = Field(description="commit, 40 hexadecimal digits")


class LocalModel(Block):
    """A checkpoint in a folder, in the published layout."""

    source: Literal["local"]
    path: str = Field(description="the folder, with config.json, weights as safetensors and tokenizer")


class Evaluation(Block):
    """How a policy is examined: greedy unless a temperature is given."""

    samplers: Names
    temperature: NonNegative
    rows_per_batch: Count = Field(
        description="examples decoded together, from one stream of random numbers; processes share them by so many"
    )


class Diagnosis(Block):
    """How far a run's surrogates are from its policy: on responses of the policy itself, step by step."""

    sampler: Name = Field(description="one that commits one token a step")
    temperature: Positive
    examples: Count = Field(description="test examples, one response each")


class ByTask(TypedDict, total=False):
    """A method's block where it replaces the general one: settings of its file, and some of them by task."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    by_task: dict[Name, dict[str, Any]]


class MethodBlock(ByTask, total=False):
    """A method's general block; what else it holds are settings of its file."""

    __pydantic_config__ = ByTask.__pydantic_config__  # type: ignore[misc]
    algorithm: Name  # the file in methods/, where it is not the name of the block
    start_from: Name  # the method whose adapter it goes on training


class Curve(TypedDict, total=False):
    """A curve of the exact laboratory; what else it holds are settings of the method's file."""

    __pydantic_config__ = ByTask.__pydantic_config__  # type: ignore[misc]
    method: Required[Name]


class Overrides(Block):
    """Values that replace the general ones."""

    training: dict[str, Any] = Field(default={}, description="overrides of `training`")
    methods: dict[Name, ByTask] = Field(default={}, description="overrides of `methods`")
    task_settings: dict[Name, dict[str, Any]] = Field(default={}, description="overrides of `tasks`")


class Cost(Block):
    """What `plan` reckons with, beside the model: no setting of a run, so a change repeats none."""

    gpu_memory: Positive | None = Field(
        default=None, description="GB (10^9 bytes) of a GPU; a run that needs more is refused. None: there is no GPU"
    )
    gpus: Count = Field(default=1, description="of a training at most; a run takes those that share its prompts evenly")
    gpus_per_node: Count = Field(default=8, description="a training on more of them takes several nodes")
    peak_tflops: Positive = Field(description="of a GPU, dense, in the type of the weights; or of the processor")
    training_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak: scoring, updates")
    decoding_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak while sampling")
    prompt_tokens: Count = Field(description="of a long prompt")
    test_examples: dict[Name, Count] = Field(default={}, description="of tasks whose settings do not say how many")


class Scale(Overrides):
    """The size at which all experiments run."""

    model: Name
    models: dict[Name, Name] = Field(default={}, description="what experiments with a `model` of their own start from")
    tasks: Names = Field(description="of experiments that name none")
    experiment_tasks: dict[Name, Names] = Field(
        default={}, description="experiment -> tasks, in place of its own, where the scale has no time for all of them"
    )
    samplers: dict[Name, Sampler] = Field(default={}, description="in place of those under `samplers`")
    seeds: Annotated[list[Whole], Distinct] = Field(min_length=1)
    block_length: Count = Field(description="tokens of a block of semi-autoregressive decoding")
    lengths: Annotated[list[Count], Distinct] = Field(min_length=1, description="at evaluation, multiples of the block")
    experiments: Names = Field(description="what the target `all` makes")
    exact_toy: dict[str, Any] = Field(default={}, description="overrides of `exact_toy`")
    cost: Cost


class Experiment(Block):
    """A question of a paper: a set of runs, how they are examined, and what is drawn from them."""

    question: str
    methods: Names
    tasks: Names | None = Field(default=None, description="all of the scale's when absent")
    grid: dict[str, Annotated[list[Any], Field(min_length=1), Distinct]] = Field(
        default={}, description="setting -> values; all combinations are run"
    )
    equal_updates: bool = Field(
        default=False, description="a run with more updates on a buffer gets fewer buffers, rounded up"
    )
    model: Name | None = Field(default=None, description="a name under the scale's `models`, in place of its `model`")
    transfer: bool = Field(default=False, description="what is trained on one of its tasks is examined on all of them")
    evaluation: Name | None = Field(default=None, description="how its runs are examined")
    diagnosis: Name | None = Field(default=None, description="or what else is measured on them")
    rows: Literal["methods", "samplers"] = Field(default="methods", description="of its tables")
    figures: Annotated[list[Name], Distinct] = Field(
        default=[], description="functions that src/unmask/figures.py lists"
    )
    section: Literal["main", "methods", "ablations", "samplers", "diagnostics"] = Field(
        default="ablations", description="of the report"
    )

    @model_validator(mode="after")
    def _one_examination(self) -> Experiment:
        if (self.evaluation is None) == (self.diagnosis is None):
            raise refuse("needs one of evaluation and diagnosis")
        if self.transfer and self.evaluation is None:
            raise refuse("transfer needs an evaluation; a diagnosis is made on the run's own task")
        return self


class ExactToy(Block):
    """The experiment of the exact laboratory: distribution matching against reward maximisation, enumerated."""

    vocabulary: Count = Field(description="V, tokens")
    length: Count = Field(description="L, positions; there are V^L responses")
    modes: Count = Field(description="random responses that earn 1; all others earn 0")
    alpha: Positive = Field(description="temperature of the target p*, which the curves are held against")
    reference_scale: NonNegative = Field(description="standard deviation of the reference's logits; 0 is uniform")
    seeds: Annotated[list[Whole], Distinct] = Field(
        min_length=2, description="each draws its own reference, modes and training"
    )
    samples_per_buffer: Count
    group_sizes: Annotated[list[Count], Distinct] = Field(min_length=1, description="G; they divide samples_per_buffer")
    updates: Count
    updates_per_buffer: Count
    learning_rate: Positive = Field(description="at the beginning; it falls linearly to zero")
    measure_every: Count = Field(description="updates between two enumerations of p_θ")
    methods: dict[Name, dict[str, Any]] = Field(description="overrides of `methods`")
    curves: dict[Name, Curve] = Field(description="name -> method and what it changes")

    @model_validator(mode="after")
    def _counts_fit(self) -> ExactToy:
        for size in self.group_sizes:
            if self.samples_per_buffer % size:
                raise refuse(f"samples_per_buffer {self.samples_per_buffer} is not a multiple of group size {size}")
        if self.modes > self.vocabulary ** min(self.length, 64):  # of a larger power nothing is asked but its size
            raise refuse(f"modes {self.modes} is more than vocabulary**length, {self.vocabulary**self.length}")
        return self


class Config(Block):
    """The whole of config.yaml."""

    scale: Name
    fidelity: Name
    training: dict[str, Any]
    samplers: dict[Name, Sampler]
    evaluations: dict[Name, Evaluation]
    diagnoses: dict[Name, Diagnosis]
    methods: dict[Name, MethodBlock]
    tasks: dict[Name, dict[str, Any]]
    models: dict[Name, Annotated[ScratchModel | HubModel | LocalModel, Field(discriminator="source")]]
    fidelities: dict[Name, Overrides]
    scales: dict[Name, Scale]
    experiments: dict[Name, Experiment]
    exact_toy: ExactToy

    def sampler(self, name: str) -> dict[str, Any]:
        """A sampler's settings at the scale in use: those that the scale gives it, or the general ones."""
        return (self.scales[self.scale].samplers.get(name) or self.samplers[name]).model_dump()

    def tasks_of(self, experiment: str) -> list[str]:
        """An experiment's tasks at the scale in use: those that the scale gives it, its own, or all of the scale's."""
        scale = self.scales[self.scale]
        return scale.experiment_tasks.get(experiment) or self.experiments[experiment].tasks or scale.tasks


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
    said = {
        node.target.id: node.annotation
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    fields: dict[str, Any] = {
        key: (eval(compile(ast.Expression(annotation), str(source), "eval"), ANNOTATIONS), ...)  # noqa: S307 (our own)
        for key, annotation in said.items()
    }
    return create_model(owner.name, __base__=Block, **fields)


@functools.cache
def settings_of(method: str) -> type[Block]:
    """Every setting of a method's runs: those of all trainings and its own."""
    return create_model("Settings", __base__=(declared_settings("methods", method), Training))


@functools.cache
def declared_figures() -> set[str]:
    """The figures that an experiment may ask for: the public functions of (scores, metrics) in the two files."""
    sources = [(LIBRARY / f"{name}.py").read_text(encoding="utf-8") for name in ("figures", "training_figures")]
    nodes = [node for source in sources for node in ast.parse(source).body]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {f.name for f in functions if [a.arg for a in f.args.args][:2] == ["scores", "metrics"]}


@functools.cache
def optional(block: type[Block]) -> type[Block]:
    """The same block with every key optional: one layer of settings that others complete."""
    fields: dict[str, Any] = {}
    for name, field in block.model_fields.items():
        field = copy.copy(field)
        field.default = None
        fields[name] = (field.annotation, field)
    return create_model(f"Optional{block.__name__}", __base__=Block, **fields)
