"""What a corpus does not fit: a model for each task, or a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator

from unmask.config import Config
from unmask.config.models import ScratchModel


def wrong_corpora(config: Config) -> Iterator[str]:
    """One line for each experiment in which a method learns a corpus and cannot."""
    scale = config.scales[config.scale]
    for name, experiment in config.experiments.items():
        model = scale.models.get(experiment.model or "", scale.model)
        settings = config.models[model]
        methods = config.methods_of(name)
        learners = [*methods, *(start for m in methods if (start := config.methods[m].get("start_from")))]
        for method in dict.fromkeys(learner for learner in learners if config.corpus(learner)):
            what = f"methods.{method}.corpus, here or in a fidelity or scale: {config.corpus(method)}"
            if isinstance(settings, ScratchModel) and not settings.shared:
                yield (
                    f"{what} is learnt once for all tasks, and models.{model} is made for each task; set shared: true "
                    f"there, or take the corpus out, so that {method} learns the demonstrations of each task"
                )
            if experiment.diagnosis and method in methods:
                yield f"{what} has no task for experiments.{name}.diagnosis; take {method} out of its methods"
