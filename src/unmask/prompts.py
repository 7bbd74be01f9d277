"""Problems as conversations: the instructions and the question in one user message, as the papers pose them.

The instructions are ours. To use others, such as a paper's own, write them to a text file and name it in the task's
setting `prompt_file`; docs/data.md says where the papers' prompts stand. Training and evaluation use the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.files import InputError

Messages = list[dict[str, str]]
ANSWERS = ("answer", "solution", "reasoning")  # columns that never reach a prompt


def pose(instructions: str, example: dict[str, Any], prompt_file: str = "") -> Messages:
    r"""The user message that poses an example: our instructions, or `prompt_file` with its fields filled in.

    A field is a column of the example in braces, such as {question}; other braces stay as they are, for LaTeX's sake.
    Columns that hold the answer are no fields: `\boxed{answer}` is a form to write it in.
    """
    if not prompt_file:
        return ask(f"{instructions}\n\n{example['question']}")
    template = filled = _read(prompt_file)
    fields = [column for column in example if column not in ANSWERS]
    for column in fields:
        filled = filled.replace(f"{{{column}}}", str(example[column]))
    if filled == template:
        raise InputError(f"{prompt_file}: no field like {{question}} to put the problem in; known: {', '.join(fields)}")
    return ask(filled)


def ask(text: str) -> Messages:
    """A conversation of one user message."""
    return [{"role": "user", "content": text}]


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"prompt_file {file}: cannot be read ({error})") from error
