"""Checks of corpora: they fit neither base models trained per task nor diagnoses."""

from __future__ import annotations

from collections.abc import Iterator

from unmask.config.schema import Config
from unmask.config.schema.models import ScratchModel


def wrong_corpora(config: Config) -> Iterator[str]:
    """Yield a line for each experiment in which a method trains on a corpus but cannot."""
    scale = config.scales[config.scale]
    for name, experiment in config.experiments.items():
        model = scale.models.get(experiment.model or "", scale.model)
        settings = config.models[model]

        # The method that another starts from (SFT for d1) may train on a corpus, too.
        methods = config.methods_of(name)
        starts = [config.methods[method].start_from for method in methods]
        for method in dict.fromkeys([*methods, *starts]):
            if not config.corpus(method):
                continue
            what = f"methods.{method}.corpus, here or in a fidelity or scale: {config.corpus(method)}"
            if isinstance(settings, ScratchModel) and not settings.shared:
                yield (
                    f"{what} is learnt once for all tasks, but models.{model} is trained per task; set shared: true "
                    f"there, or remove the corpus, so that {method} trains on the demonstrations of each task"
                )

            # A diagnosis uses the test data of the run's own task, and a corpus has none.
            if experiment.diagnosis and method in methods:
                yield f"{what} has no task for experiments.{name}.diagnosis; remove {method} from its methods"
