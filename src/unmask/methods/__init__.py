"""Training methods, one per file: settings and facts at the top, then functions of a rollout buffer.

To add a method, write methods/<name>.py with one subclass of Method and add its block to config.yaml. These files
import no torch (`rl` loads its modules on first use), because plan, tables and figures read the facts in them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from unmask import rl
from unmask.config.schema.introspection import declared_names, method_class
from unmask.rl.buffer_data import NoData

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts, RolloutSettings
    from unmask.tasks import Example, Task


Dash = Literal[
    "solid",
    "dashed",
    "dotted",
    "dash-dotted",
    "long-dashed",
    "dash-dot-dotted",
    "sparsely dotted",
]


class Look(NamedTuple):
    """Name of a method in tables and figures, and what tells its line apart: by colour, and without any colour."""

    label: str
    colour: str = "#666666"
    marker: str = "<"  # of matplotlib; the defaults are those of no method that ships with the project
    dash: Dash = "dash-dotted"


@dataclass(frozen=True)
class Passes:
    """Passes of prompt and response through the model for each response of a buffer, in addition to its sampling."""

    update: int  # with gradient, at each update
    prepare: int = 0  # without gradient, once per buffer
    refresh: int = 0  # without gradient, at each update
    copies: int = 1  # of one response in one forward pass with gradient, if `micro_batch_size` allows
    scored: int = 1  # the same without gradient
    apart: bool = False  # the loss is a mean over copies, whose activations need not all exist at once


@dataclass(frozen=True)
class Method:
    """Base class of training methods. The annotated fields of a subclass are its settings, each with a default.

    Rows of a buffer are ordered by prompt: G responses to the first prompt, then G to the next, and so on.
    """

    # --- facts --------------------------------------------------------------------------------------------------------

    label: ClassVar[str] = ""  # name in tables and figures; empty: that of the file
    # In figures: choose what tests/unit/analysis/test_looks.py can tell apart from the other methods.
    colour: ClassVar[str] = Look("").colour
    marker: ClassVar[str] = Look("").marker
    dash: ClassVar[Dash] = Look("").dash
    citation: ClassVar[str] = ""  # in model cards
    # Other blocks of config.yaml that run this file, such as this method after SFT: name -> the fields of its look.
    recipes: ClassVar[dict[str, tuple[str, ...]]] = {}
    # Setting -> what it needs to have an effect, an expression of other settings as in USED_IF of schema/training.py.
    # config.yaml may not set what has no effect (validation/unused.py).
    used_if: ClassVar[dict[str, str]] = {}
    demonstrations: ClassVar[bool] = False  # True if `collect` uses demonstrations, of a task or corpus, not rollouts
    buffer_type: ClassVar[type] = NoData  # what `prepare` returns; a checkpoint restores it

    def passes(self, updates: int, steps: int) -> Passes:
        """Return the forward passes that `plan` counts, by default one per row and update.

        A buffer has `updates` updates, and a response is sampled in `steps` denoising steps.
        """
        return Passes(update=1)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict others of the run, each with what is wrong and how to fix it."""
        yield from ()

    # --- training -----------------------------------------------------------------------------------------------------

    def begin(self, policy: Policy) -> None:
        """Freeze parameters that the method does not train, by default those of the threshold head.

        Called once after the policy is made trainable.
        """
        if policy.head:
            policy.head.requires_grad_(False)

    def usable(self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings) -> list[Example]:
        """Select the training examples the method can learn from, by default all. Called once before training."""
        return examples

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Fill a buffer with G responses per example, by default sampled from the policy."""
        return rl.generation.roll_out(policy, task, examples, settings, seeds)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Any:
        """Compute what all `updates` of a buffer share: weights, advantages, old log-probabilities.

        Returns `buffer_type`, a frozen dataclass of tensors whose first axis runs over the responses.
        """
        raise NotImplementedError

    def refresh(self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update: int, seeds: Seeds) -> Any:
        """Compute what is new in a given update (0, 1, …) of a buffer, such as mask draws, for all rows at once.

        Returns a dataclass like that of `prepare`.
        """
        return NoData()

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update_data: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss [b] of the given rows, summed over the buffer, and metrics [b], averaged over it.

        The rows can be any part of the buffer: normalise by values from `prepare`, not by the size of the part.
        """
        raise NotImplementedError

    def losses(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update_data: Any
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield terms that sum to `loss`; each is backpropagated and its memory freed before the next is computed.

        Metrics of the terms are summed as well: one that belongs to a row as a whole is in one term only. The number of
        terms and of forward passes depends on the number of rows only: processes that share a model gather its layers
        together.
        """
        yield self.loss(policy, rollouts, buffer_data, update_data)


def load(name: str, settings: dict[str, Any]) -> Method:
    """Instantiate the method in methods/<name>.py; settings that are not given have their defaults."""
    method: Method = method_class(name)(**settings)
    return method


def method_name(method: str, variant: str = "default") -> str:
    """Format a method and its variant: `dmpo`, `baseline~none` -> `DMPO (baseline none)`."""
    label = method_look(method).label
    if variant == "default":
        return label
    settings = variant.replace("~", " ").replace("_", " ").split("+")
    return f"{label} ({', '.join(settings)})"


def method_colour(method: str) -> str:
    """Return the colour of a method in figures; grey if no file declares one."""
    return method_look(method).colour


def method_look(method: str) -> Look:
    """Return how figures show a method; its name and the defaults of `Look` if no file declares more."""
    return _looks().get(method, Look(method))


@functools.cache
def _looks() -> dict[str, Look]:
    """Return the look of every method and recipe, by name."""
    found: dict[str, Look] = {}
    for name in sorted(declared_names("methods")):
        method = method_class(name)
        found[name] = Look(method.label or name, method.colour, method.marker, method.dash)
        for recipe, look in method.recipes.items():
            found[recipe] = Look(*look)
    return found
