"""Evaluations behind published numbers: their test problems, prompts and decoding.

Torch-free, because the workflow's controller names our problems and prompts in the same way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from unmask.config.schema.types import HubData, LocalData, NumpyChoice
from unmask.config.specs import DataSpec
from unmask.tasks._released_prompts import PROMPTS


@dataclass(frozen=True)
class Evaluation:
    """Released evaluation: its decoding, and for each task the SHA-256 of the prompt file and the test problems.

    The same problems may come from several sources; each is named as `problems_of` names ours.
    """

    block_length: int | None  # None if it decodes without blocks
    prompts: dict[str, str]
    problems: dict[str, tuple[str, ...]]
    mask_padding: bool  # attention ignores the padding in front of a prompt
    top_p: float = 1.0


def problems_of(data: DataSpec) -> str:
    """Name a task's test problems; two names are equal only for the same rows of the same data."""
    source = data.test_source
    if isinstance(source, HubData):
        name = f"{source.repository}/{source.subset}/{source.split}@{source.revision}"
    elif isinstance(source, LocalData):
        name = f"sha256:{_plain_sha256(source.path)}"
    else:
        return "generated"

    # The same file gives other problems if other rows, or another number of them, are chosen.
    if data.test_examples is None:
        return name
    chosen = "first"
    if isinstance(data.test_subset, NumpyChoice):
        chosen = f"{data.test_subset.rule} {data.test_subset.seed}"
    return f"{name} {chosen} {data.test_examples}"


def prompt_of(data: DataSpec) -> str:
    """Return the SHA-256 of the prompt file of a task's test problems; "" if the wording is ours."""
    if not data.evaluation_prompt:
        return ""
    return _plain_sha256(data.evaluation_prompt)


def _plain_sha256(path: str) -> str:
    """Return a file's SHA-256 as `sha256sum` prints it; `missing`, which equals no published one, without the file."""
    file = Path(path)
    if not file.is_file():
        return "missing"
    return hashlib.sha256(file.read_bytes()).hexdigest()


# d1 at 837888f, folder eval: block length eval.py:57, test sets and their subsets eval.py:151, gsm8k.py:40-44,52,
# math500.py:38, countdown.py:42, sudoku.py:37. d1 loads the hub's sets at no fixed commit: the commits here
# are those of config.yaml, and the files are grade-school-math's test.jsonl and the same 500 rows of MATH-500.
PROBLEMS = {
    "gsm8k": (
        "openai/gsm8k/main/test@740312add88f781978c0658806c59bc2815b9866",
        "sha256:3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    ),
    "math500": (
        "HuggingFaceH4/MATH-500/default/test@6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        "sha256:ff5719b63f4274b76e8c453451d2f265b20ec07c73d0b79cb10d3ce24ba7c99c",
    ),
    "countdown": ("sha256:9916f614621e26fb2b035ed4ea641e35e4fff0d533bb9b9c7bcaaa61017d88c6 first 256",),
    "sudoku": ("sha256:ef86c7c28ebef88484d85fda59b3909a7b621241aa1abf36343437dbc4a3ffb6 numpy_choice 42 256",),
}
ASKED = {task: prompt.sha256 for (task, use), prompt in PROMPTS.items() if use == "evaluation"}
# d1 passes no attention mask to the model (eval/generate.py:93). DMPO 96af1a4 has copies of these files and of both
# data files; its eval_dream.py decodes without blocks, with an attention mask and top_p 0.95 (lines 74-85).
EVALUATIONS = {
    "d1": Evaluation(32, ASKED, PROBLEMS, mask_padding=False),
    "dmpo_dream": Evaluation(None, ASKED, PROBLEMS, mask_padding=True, top_p=0.95),
}
