"""Prompts of d1's released code as prompt files, extracted from its sources without running them.

DMPO 96af1a4 has the same texts: `eval/` is a copy of d1's, and `DMPO/data_utils.py` adds one that no prompt uses.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass

# Column of a row in d1's code -> field of our prompt files.
FIELDS = {
    "question": "question",
    "problem": "question",
    "Puzzle": "question",
    "nums": "numbers",
    "target": "target",
}
AFTER = "\n\n{question}"  # eval/gsm8k.py:61, SFT/sft_trainer.py:117


@dataclass(frozen=True)
class Released:
    """Location and SHA-256 of a prompt: a constant of a source file, or the message that one of its functions builds.

    `after` is the text that the code appends to a constant; it is empty if `name` is a function. `at` lists the lines
    of the constant and of the place where it is used.
    """

    source: str
    name: str
    at: str
    sha256: str
    after: str = ""

    def cut_out(self, code: str) -> str:
        """Extract the prompt from the source file's text. Raises ValueError if it is not the expected one."""
        tree = ast.parse(code)

        # Constants first, in order: later ones and the messages are built from them.
        names: dict[str, str] = {}
        for node in tree.body:
            if not isinstance(node, ast.Assign):
                continue
            said = _text(node.value, names)
            if said is not None:
                names[ast.unparse(node.targets[0])] = said

        found = names.get(self.name) if self.after else _content(tree, self.name, names)
        text = "" if found is None else found + self.after
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"{self.source}: {self.name} is not the prompt of the pinned commit (SHA-256 differs)")
        return text


def _content(tree: ast.Module, function: str, names: dict[str, str]) -> str | None:
    """Return the `content` of the message that a function builds from a row; None if there is none."""
    for definition in tree.body:
        if not isinstance(definition, ast.FunctionDef) or definition.name != function:
            continue
        for node in ast.walk(definition):
            if not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "content":
                    return _text(value, names)
    return None


def _text(node: ast.expr, names: dict[str, str]) -> str | None:
    """Evaluate a string expression, with columns of the row replaced by our fields; None for any other expression."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return names.get(name)
        case ast.FormattedValue(value=inner):
            return _text(inner, names)
        case ast.Subscript(slice=ast.Constant(value=column)) if column in FIELDS:
            return f"{{{FIELDS[column]}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([left, right], names)
        case ast.JoinedStr(values=parts):
            return _joined(parts, names)
    return None


def _joined(parts: list[ast.expr], names: dict[str, str]) -> str | None:
    """Evaluate and join parts of a string; None if any of them is no string expression."""
    texts = []
    for part in parts:
        text = _text(part, names)
        if text is None:
            return None
        texts.append(text)
    return "".join(texts)


TRAINING = "diffu-grpo/data_utils.py"
PROMPTS = {  # (task, use)
    ("gsm8k", "training"): Released(
        TRAINING,
        "get_gsm8k_questions",
        "26-34,72",
        "d49248593898dd73c5b3132daa343a623b66a6a38efde142cc545f0b275b731f",
    ),
    ("math500", "training"): Released(
        TRAINING,
        "get_math_questions",
        "26-34,126",
        "ffad978b40e40198817dafdf2d268f5aaeb392f1a848ba9af0607074ac29db54",
    ),
    ("countdown", "training"): Released(
        TRAINING,
        "get_countdown_questions",
        "26-34,88",
        "0c7d3c94c89408a4e086e9cd8f61604489ce4485c6785fb4ac703464331cbb53",
    ),
    ("sudoku", "training"): Released(
        TRAINING,
        "get_sudoku_questions",
        "36-54,110",
        "a2cf2155c14173ad22a9e33171e5f7d2b215e7da5d073e23417714e0699803ff",
    ),
    ("s1k", "training"): Released(
        "SFT/sft_trainer.py",
        "SYSTEM_PROMPT",
        "103-111,117",
        "bdcb5a2a482d7d780924e4bdab5611190f68e0952d5bc25087ebc99b69a635fb",
        AFTER,
    ),
    ("gsm8k", "evaluation"): Released(
        "eval/gsm8k.py",
        "GSM_SYSTEM_PROMPT",
        "15-22,61",
        "0dd9ac0f02415db54e8839fb560405e88c46fac148b0a66d22e9d50759f52894",
        AFTER,
    ),
    ("math500", "evaluation"): Released(
        "eval/math500.py",
        "MATH500_SYSTEM_PROMPT",
        "15-23",
        "e2f951f2a261f7b21cbe52fc1021bed377d342fe98e805b924c5ca8f85a6cffd",
        AFTER,
    ),
    ("countdown", "evaluation"): Released(
        "eval/countdown.py",
        "CTD_SYSTEM_PROMPT",
        "7-18,52",
        "d60eb182665b7da20761327ecc38fc5e8f81d629bc549d3da33f0dbc4b88a5bb",
        AFTER,
    ),
    ("sudoku", "evaluation"): Released(
        "eval/sudoku.py",
        "SUDOKU_SYSTEM_PROMPT",
        "8-26,89",
        "a2cf2155c14173ad22a9e33171e5f7d2b215e7da5d073e23417714e0699803ff",
        "\n\nSolve the following Sudoku puzzle: {question}\n",
    ),
}


def prompt_place(task: str, use: str) -> str:
    """Return the path where `make data` writes a prompt and the presets look for it."""
    return f"data/prompts/{task}_{use}.txt"
