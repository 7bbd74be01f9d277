"""Names of tasks and samplers, the same in all tables and figures. Those of methods are in the methods' own files."""

TASKS = {
    "gsm8k": "GSM8K",
    "math500": "MATH500",
    "countdown": "Countdown",
    "sudoku": "Sudoku",
    "s1k": "s1K",
    "chain": "Chains (in place of GSM8K)",
    "simplify": "Like terms (in place of MATH500)",
    "countdown_many": "Countdown with several answers",
    "sudoku_many": "Sudoku with several answers",
    "straight_line": "Straight-line programs",
    "mbpp": "MBPP",
    "humaneval": "HumanEval",
    "writing": "Writing",
}
SAMPLERS = {
    "top1": "one token a step",
    "top2": "two tokens a step",
    "top4": "four tokens a step",
    "top1_entropy": "one token a step by entropy, no blocks",
    "top2_bfloat16": "two tokens a step, bfloat16 draws",
    "top2_prefix": "two tokens a step, prefix cache",
    "random_order": "random order",
    "left_to_right": "left to right",
    "threshold_70": "confidence ≥ 0.7",
    "threshold_90": "confidence ≥ 0.9",
    "factor_1": "factor 1",
    "entropy_003": "entropy bound 0.03",
    "entropy_01": "entropy bound 0.1",
    "entropy_03": "entropy bound 0.3",
    "entropy_1": "entropy bound 1",
    "adaptive": "adaptive threshold",
    "adaptive_block": "adaptive threshold, each block",
}

# Prefix of a sampler's name -> its kind, and the marker of that kind in figures.
SAMPLER_KINDS = {
    "top": ("k tokens a step", "o"),
    "threshold": ("confidence", "s"),
    "factor": ("factor", "D"),
    "entropy": ("entropy bound", "^"),
    "adaptive": ("adaptive threshold", "*"),
    "random": ("random order", "x"),
    "left": ("left to right", ">"),
}


def sampler_kind(sampler: str) -> tuple[str, str]:
    """Return the kind and the marker of a sampler: `entropy_01` -> ("entropy bound", "^")."""
    for start, kind in SAMPLER_KINDS.items():
        if sampler.startswith(start):
            return kind
    return sampler, "P"


def without_common(variants: list[str]) -> list[str]:
    """Remove from variants the settings that all of them share, which labels of one panel need not repeat."""
    # If there is only one variant, nothing is removed: its settings still name it.
    settings = [[] if variant == "default" else variant.split("+") for variant in variants]
    common = set()
    if len(set(variants)) > 1:
        common = set.intersection(*map(set, settings))
    labels = []
    for chosen in settings:
        rest = [setting for setting in chosen if setting not in common]
        labels.append("+".join(rest) or "default")
    return labels


def setting_name(key: str, value: object) -> str:
    """Format a setting: `baseline`, `none` -> `baseline none`."""
    return f"{key} {value}".replace("_", " ")


def task_name(task: str) -> str:
    """Format a task: `sudoku` -> `Sudoku`."""
    return TASKS.get(task, task)


def sampler_name(sampler: str) -> str:
    """Format a sampler: `top1` -> `one token a step`."""
    return SAMPLERS.get(sampler, sampler)
