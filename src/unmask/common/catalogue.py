"""Names and colours of methods, tasks and samplers, the same in all tables and figures.

Colours are from the palette of Okabe and Ito, which readers with colour-vision deficiencies can tell apart. A method
that is not listed keeps its name and is drawn in grey.
"""

GREY = "#666666"
# Key of config.yaml -> name and colour.
METHODS = {
    "base": ("Base", "#000000"),
    "sft": ("SFT", "#999999"),
    "diffu_grpo": ("diffu-GRPO", "#E69F00"),
    "d1": ("d1", "#D55E00"),
    "coupled_grpo": ("coupled-GRPO", "#009E73"),
    "dmpo": ("DMPO", "#0072B2"),
    "dmpo_sft": ("DMPO from SFT", "#56B4E9"),
    "diffpo": ("DiFFPO", "#CC79A7"),
}
TASKS = {
    "gsm8k": "GSM8K",
    "math500": "MATH500",
    "countdown": "Countdown",
    "sudoku": "Sudoku",
    "s1k": "s1K",
    "chain": "Chains (in place of GSM8K)",
    "simplify": "Like terms (in place of MATH500)",
}
SAMPLERS = {
    "top1": "one token a step",
    "top2": "two tokens a step",
    "top4": "four tokens a step",
    "top1_entropy": "one token a step by entropy, no blocks",
    "top2_bfloat16": "two tokens a step, bfloat16 draws",
    "top2_prefix": "two tokens a step, prefix cache",
    "random_order": "random order",
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
}


def sampler_kind(sampler: str) -> tuple[str, str]:
    """Return the kind and the marker of a sampler: `entropy_01` -> ("entropy bound", "^")."""
    for start, kind in SAMPLER_KINDS.items():
        if sampler.startswith(start):
            return kind
    return sampler, "P"


def method_name(method: str, variant: str = "default") -> str:
    """Format a method and its variant: `dmpo`, `baseline~none` -> `DMPO (baseline none)`."""
    name, _ = METHODS.get(method, (method, GREY))
    if variant == "default":
        return name
    settings = variant.replace("~", " ").replace("_", " ").split("+")
    return f"{name} ({', '.join(settings)})"


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


def method_colour(method: str) -> str:
    """Return the colour of a method; grey if it is not listed."""
    _, colour = METHODS.get(method, (method, GREY))
    return colour


def task_name(task: str) -> str:
    """Format a task: `sudoku` -> `Sudoku`."""
    return TASKS.get(task, task)


def sampler_name(sampler: str) -> str:
    """Format a sampler: `top1` -> `one token a step`."""
    return SAMPLERS.get(sampler, sampler)


PAPERS = {
    "sft": "Shen Nie, Fengqi Zhu, Zebin You, Xiaolu Zhang, Jingyang Ou, Jun Hu, Jun Zhou, Yankai Lin, Ji-Rong Wen, "
    "Chongxuan Li: arXiv 2502.09992 (LLaDA)",
    "diffu_grpo": "Siyan Zhao, Devaansh Gupta, Qinqing Zheng, Aditya Grover: arXiv 2504.12216 (d1)",
    "coupled_grpo": "Shansan Gong, Ruixiang Zhang, Huangjie Zheng, Jiatao Gu, Navdeep Jaitly, Lingpeng Kong, "
    "Yizhe Zhang: arXiv 2506.20639 (DiffuCoder)",
    "dmpo": "Yuchen Zhu, Wei Guo, Jaemoo Choi, Petr Molodyk, Bo Yuan, Molei Tao, Yongxin Chen: arXiv 2510.08233 (DMPO)",
    "diffpo": "Hanyang Zhao, Dawen Liang, Wenpin Tang, David Yao, Nathan Kallus: arXiv 2510.02212 (DiFFPO)",
}
