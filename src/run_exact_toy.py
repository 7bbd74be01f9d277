"""Train methods on the exact toy problem and measure by enumeration how far each policy is from the target p*.

python src/run_exact_toy.py results/laptop/exact_toy/spec.yaml results/laptop/exact_toy/curves.csv
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from unmask import methods
from unmask.common.atomic import atomic_write
from unmask.common.determinism import fix_order
from unmask.common.errors import run_step
from unmask.common.seeding import Seeds
from unmask.config.schema.exact_toy import ToySettings
from unmask.config.specs import ToySpec
from unmask.models.tabular import TabularModel, entropy, kl, log_likelihood, random_modes, share_covered, target
from unmask.training.tabular import Loop, train


@dataclass(frozen=True)
class Measures:
    """Measures of a policy after some updates: divergence from p* and entropies in nats."""

    update: int
    kl: float
    modes: float  # share of the modes that have at least half of their probability under p*
    entropy: float
    entropy_target: float  # of p*
    reward: float  # expected


def main() -> None:
    """Write one row per curve, group size, seed and measured update."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("curves", type=Path)
    args = parser.parse_args()

    fix_order()
    spec = ToySpec.read(args.spec)
    settings = spec.settings
    rows = []
    for group_size, name, seed in itertools.product(settings.group_sizes, spec.curves, settings.seeds):
        curve = spec.curves[name]
        method = methods.load(curve.method, curve.settings)
        labels = {"curve": name, "group_size": group_size, "seed": seed}
        for row in measured(settings, method, group_size, seed):
            rows.append(labels | asdict(row))
        run = f"{name}, groups of {group_size}, seed {seed}"
        print(f"{run}: KL {row.kl:.3f}, modes {row.modes:.2f}", flush=True)

    with atomic_write(args.curves) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def measured(settings: ToySettings, method: methods.Method, group_size: int, seed: int) -> Iterator[Measures]:
    """Train one policy and yield its measures every `measure_every` updates."""
    # Reference and modes depend on the seed only, so all curves of a seed are measured against the same target p*.
    seeds = Seeds(("exact_toy", seed))
    model = TabularModel(
        settings.vocabulary,
        settings.length,
        settings.reference_scale,
        seeds.generator("reference"),
    )
    responses = settings.vocabulary**settings.length
    reward = random_modes(responses, settings.modes, seeds.generator("modes"))
    goal = target(log_likelihood(model).detach(), reward, settings.alpha)

    # The buffer size is fixed: smaller groups mean more groups, so curves differ in group size only.
    groups = settings.samples_per_buffer // group_size
    loop = Loop(
        groups,
        group_size,
        settings.updates,
        settings.updates_per_buffer,
        settings.learning_rate,
    )
    for update in train(model, reward, method, loop, seeds):
        if update % settings.measure_every:
            continue
        log_p = log_likelihood(model).detach()
        expected_reward = (log_p.exp() * reward).sum()
        yield Measures(
            update=update,
            kl=kl(goal, log_p),
            modes=share_covered(goal, log_p, reward > 0),
            entropy=entropy(log_p),
            entropy_target=entropy(goal),
            reward=float(expected_reward),
        )


if __name__ == "__main__":
    run_step(main)
