"""Hold every surrogate of the log-ratio against its exact value, on a table of logits, by distance from the old policy.

python src/run_surrogates.py results/laptop/surrogates/spec.yaml results/laptop/surrogates/errors.csv
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from unmask.common.atomic import atomic_write
from unmask.common.determinism import fix_order
from unmask.common.errors import run_step
from unmask.common.seeding import Seeds
from unmask.config.schema.surrogates import Surrogates
from unmask.config.specs import SurrogatesSpec
from unmask.evaluation.exact_errors import elbo_errors, response_errors
from unmask.evaluation.exact_orders import path_errors
from unmask.evaluation.exact_policies import direction_of, moved, old_policy
from unmask.evaluation.exact_surrogates import surrogates

Row = dict[str, object]


def main() -> None:
    """Write one row per seed, direction, distance, surrogate and target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("errors", type=Path)
    args = parser.parse_args()

    fix_order()
    torch.set_grad_enabled(False)
    settings = SurrogatesSpec.read(args.spec).settings
    rows: list[Row] = []
    for seed in settings.seeds:
        rows += measured(settings, seed)
        print(f"surrogates: seed {seed} done, {len(rows)} rows", flush=True)
    with atomic_write(args.errors) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def measured(settings: Surrogates, seed: int) -> Iterator[Row]:
    """Yield the errors of all surrogates between one old policy and all new ones; those of ELBOs, of the old one."""
    seeds = Seeds(("surrogates", seed))
    old, reward = old_policy(settings, seeds)
    all_of_them = list(surrogates(old, settings.block))
    for one in all_of_them:
        if one.estimates == "elbo":
            labels = {"seed": seed, "direction": "none", "kl": 0.0, "target": "elbo"}
            yield labels | {"surrogate": one.family, "forwards": one.forwards} | asdict(elbo_errors(one, old))

    for direction in settings.directions:
        towards = direction_of(direction, old, reward, seeds)
        for distance in settings.distances:
            new = moved(old, towards, distance)
            for one in all_of_them:
                labels = {"seed": seed, "direction": direction, "kl": distance}
                named = {"surrogate": one.family, "forwards": one.forwards}
                yield labels | {"target": "response"} | named | asdict(response_errors(one, new, old))
                if one.estimates == "path":
                    yield labels | {"target": "path"} | named | asdict(path_errors(one, new, old))


if __name__ == "__main__":
    run_step(main)
