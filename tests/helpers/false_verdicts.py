"""How often two equal methods are told apart: seeds and test problems drawn anew, from one base model and test set.

python tests/helpers/false_verdicts.py 4000     # the tables of docs/method/statistics.md, with so many repetitions
"""

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from unmask.analysis.statistics import over_seeds, over_seeds_and_examples

# Standard deviations, in units of a probit: how hard a problem is for both methods; what a method is better or worse
# at than the other, whatever its seed; a seed; the rest. The differences of grades have variances by seed, problem and
# rest of 0.0001, 0.03 and 0.11 in the first; in the second 0.006, 0.005 and 0.12, near those that `main` had between
# DMPO and diffu-GRPO on Sudoku at laptop scale in the results of commit cfc3aaa (0.005, 0.005 and 0.08, mean over step
# modes); in the third 0.03, 0.01 and 0.31.
SCENARIOS = {
    "one base model, seeds alike": {"problem": 2.0, "method": 0.4, "seed": 0.05, "rest": 0.5},
    "laptop": {"problem": 2.0, "method": 0.15, "seed": 0.28, "rest": 0.5},
    "seeds unlike": {"problem": 1.0, "method": 0.3, "seed": 0.5, "rest": 1.0},
}
SEEDS, PROBLEMS = (3, 5, 8), (128, 500)


def differences(rng, seeds, problems, *, problem, method, seed, rest):
    """Strict grades of one method minus those of another that is right as often, [seeds, problems]."""
    hard = problem * rng.standard_normal(problems)
    grades = []
    for _ in range(2):
        at_home = method * rng.standard_normal(problems)
        luck = seed * rng.standard_normal((seeds, 1)) + rest * rng.standard_normal((seeds, problems))
        grades.append((hard + at_home + luck > 0).astype(float))
    return grades[1] - grades[0]


def estimates(scenario, seeds, problems, repetitions, first=0):
    """For each repetition the estimate over seeds, and the one over seeds and problems."""
    rng = np.random.default_rng([first, seeds, problems])
    found = []
    for _ in range(repetitions):
        grades = differences(rng, seeds, problems, **SCENARIOS[scenario])
        found.append((over_seeds(grades.mean(1)), over_seeds_and_examples([grades])))
    return found


def told_apart(estimate, true=0.0):
    """Whether zero is outside the interval, when the true difference is `true` instead of zero."""
    low, high = estimate.interval()
    return low + true > 0 or high + true < 0


def called_equal(estimate, true=0.0, margin=0.02):
    """Whether the verdict is `equivalent`, when the true difference is `true` instead of zero."""
    low, high = estimate.interval(0.9)
    return not told_apart(estimate, true) and -margin < low + true and high + true < margin


def undecided(first, true):
    """Whether eight seeds leave a claim undecided."""
    return not told_apart(first, true) and not called_equal(first, true)


def needed_if_wide(first, most, margin=0.02):
    """The seeds, a multiple of eight, that bring a 90 % interval within ± the margin; eight if that takes too many."""
    needed = first.seeds_within(margin)
    return 8 if needed is None or needed > most else max(8, 8 * math.ceil(needed / 8))


# How many seeds there are in the end, from what the first eight show.
RULES = {
    "8 seeds": lambda first, true: 8,
    "16 seeds": lambda first, true: 16,
    "16 if wide": lambda first, true: needed_if_wide(first, 16),
    "up to 40 if wide": lambda first, true: needed_if_wide(first, 40),
    "16 if undecided": lambda first, true: 16 if undecided(first, true) else 8,
}


def looked_at(grades, rule, true):
    """Return the estimate from eight seeds, or from as many as the rule asks for."""
    seeds = rule(over_seeds_and_examples([grades[:8]]), true)
    return over_seeds_and_examples([grades[:seeds]])


def print_second_looks(repetitions, problems=256):
    """Print how often verdicts are false under each rule about more seeds."""
    columns = [f"false verdicts (%): {name}" for name in RULES] + [
        f"equivalent (%) if 2 points apart: {name}" for name in RULES
    ]
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for scenario, sizes in SCENARIOS.items():
        rng = np.random.default_rng([1, problems])
        drawn = [differences(rng, 40, problems, **sizes) for _ in range(repetitions)]
        found = [[told_apart(looked_at(grades, rule, 0.0)) for grades in drawn] for rule in RULES.values()]
        found += [[called_equal(looked_at(grades, rule, 0.02), 0.02) for grades in drawn] for rule in RULES.values()]
        rates = " | ".join(f"{100 * np.mean(rate):.1f}" for rate in found)
        print(f"| {scenario} | {rates} |", flush=True)


def main(repetitions):
    """Print both tables."""
    columns = ("seeds", "problems", "false verdicts (%), seeds", "seeds and problems", "±", "detectable", "shown (%)")
    more = ("equivalent (%) if equal", "if 2 points apart")
    print(f"| | {' | '.join(columns + more)} |")
    print("|---" * (len(columns + more) + 1) + "|")
    for scenario in SCENARIOS:
        for seeds in SEEDS:
            for problems in PROBLEMS:
                found = estimates(scenario, seeds, problems, repetitions)
                old, new = (100 * np.mean([told_apart(pair[i]) for pair in found]) for i in (0, 1))
                half = 100 * np.mean([np.ptp(one.interval()) / 2 for _, one in found])
                effect = np.mean([one.detectable() for _, one in found])
                power = 100 * np.mean([told_apart(one, effect) for _, one in found])
                equal, apart = (100 * np.mean([called_equal(one, true) for _, one in found]) for true in (0.0, 0.02))
                print(
                    f"| {scenario} | {seeds} | {problems} | {old:.1f} | {new:.1f} | {half:.1f} | {100 * effect:.1f} "
                    f"| {power:.0f} | {equal:.1f} | {apart:.1f} |",
                    flush=True,
                )
    print()
    print_second_looks(repetitions)


if __name__ == "__main__":
    main(int(sys.argv[1]))
