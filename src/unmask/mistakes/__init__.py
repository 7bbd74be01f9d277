"""Everything that can be wrong with config.yaml, found in one pass and said in one message.

The blocks are checked one by one and never through each other, so that one broken block hides no mistake in another.
Only when all are right in themselves are they held against each other, in `check_scale`; what the layers add up to is
checked last, in grid/contradictions.py.
"""

from __future__ import annotations

from typing import Any

from unmask.config import Config
from unmask.config.declared import optional
from unmask.config.exact_toy import ExactToy
from unmask.config.models import ScratchModel
from unmask.mistakes.corpora import wrong_corpora
from unmask.mistakes.layers import layers
from unmask.mistakes.lengths import wrong_lengths
from unmask.mistakes.lines import problems
from unmask.mistakes.missing import missing
from unmask.mistakes.names import wrong_names
from unmask.mistakes.reading import block_at


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        count = f"{len(self.lines)} mistake{'s' if len(self.lines) > 1 else ''}"
        super().__init__("\n".join([f"config.yaml has {count}:", *(f"  - {line}" for line in self.lines)]))


def check(raw: Any) -> tuple[dict[str, Any], list[str]]:
    """Raise ConfigError if a block of the (normalised) configuration is wrong that the scale in use can see.

    Returns the configuration without other scales that are wrong, and what is wrong with them.
    """
    lines = _mistakes(raw)
    scales = block_at(raw, "scales")
    others = {name for name in scales if name != raw.get("scale")}
    broken = {name for name in others if any(_is_about(line, name) for line in lines)}
    if broken:
        raw = raw | {"scales": {name: scale for name, scale in scales.items() if name not in broken}}
        if not _mistakes(raw):
            return raw, lines
    if lines:
        raise ConfigError(lines)
    return raw, []


def _is_about(line: str, scale: str) -> bool:
    """Whether a mistake is one in the block of a scale."""
    return line.startswith((f"scales.{scale}.", f"scales.{scale}:"))


def _mistakes(raw: Any) -> list[str]:
    """One line for everything that is wrong with the blocks."""
    lines = problems(Config, raw, "")
    if not isinstance(raw, dict):
        return lines
    lines += wrong_names(raw)
    for where, values, block in layers(raw):
        lines += problems(optional(block), values, where)
    lines += missing(raw)
    lines += wrong_lengths(raw)
    return list(dict.fromkeys(lines))


def check_scale(config: Config) -> None:
    """Raise ConfigError if right blocks do not fit together at the scale in use."""
    where, scale = f"scales.{config.scale}", config.scales[config.scale]
    lines: list[str] = []
    asked = [(where, scale.model, scale.tasks)]
    for name, one in config.experiments.items():
        if one.model is not None and one.model not in scale.models:
            lines.append(f"{where}.models.{one.model}: missing; experiments.{name}.model asks for it")
        changed = name in scale.experiment_changes and scale.experiment_changes[name].tasks
        asker = f"{where}.experiment_changes.{name}" if changed else f"experiments.{name}" if one.tasks else where
        asked.append((asker, scale.models.get(one.model or "", scale.model), config.tasks_of(name)))
    for asker, name, tasks in asked:
        model = config.models[name]
        lacking = [task for task in tasks if isinstance(model, ScratchModel) and task not in model.pretraining]
        lines += [f"models.{name}.pretraining.{task}: missing; {asker}.tasks has {task}" for task in lacking]
    lines += wrong_corpora(config)
    for name, sampler in scale.samplers.items():
        if sampler.rule != config.samplers[name].rule:
            other = f"'{sampler.rule}' is not the rule of samplers.{name}; give another rule a name of its own"
            lines.append(f"{where}.samplers.{name}.rule: {other}")
    lines += problems(ExactToy, config.exact_toy.model_dump() | scale.exact_toy, f"{where}.exact_toy")
    if lines:
        raise ConfigError(lines)
