"""Registry of the figures that an experiment may ask for."""

from __future__ import annotations

from unmask.analysis.figures.accuracy import accuracy_by_length, accuracy_by_nfe
from unmask.analysis.figures.decoding import kl_per_step, threshold_by_difficulty
from unmask.analysis.figures.diagnostics import clipped_by_inner_update, importance_ratios, weight_distribution
from unmask.analysis.figures.diversity import diversity_by_accuracy
from unmask.analysis.figures.ranking import accuracy_by_method
from unmask.analysis.figures.settings import accuracy_by_setting, checkpoint_choice
from unmask.analysis.figures.training import partial_credit, reward_by_compute, rollout_entropy, training_curves

FIGURES = {
    figure.__name__: figure
    for figure in (
        accuracy_by_length,
        accuracy_by_method,
        accuracy_by_setting,
        checkpoint_choice,
        diversity_by_accuracy,
        accuracy_by_nfe,
        threshold_by_difficulty,
        kl_per_step,
        training_curves,
        reward_by_compute,
        rollout_entropy,
        partial_credit,
        importance_ratios,
        clipped_by_inner_update,
        weight_distribution,
    )
}
