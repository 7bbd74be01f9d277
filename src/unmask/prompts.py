"""Problems as conversations: the instructions and the question in one user message, as the papers pose them.

The instructions are ours. To use others, such as a paper's own, write them to a text file and name it in the task's
setting `prompt_file`; docs/data.md says where the papers' prompts stand. Training and evaluation use the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.files import InputError

Messages = list[dict[str, str]]


def pose(instructions: str, example: dict[str, Any], prompt_file: str = "") -> Messages:
    """The user message that poses an example: our instructions, or the text of `prompt_file` with its fields filled in.

    A field is a column of the example in braces, such as {question}; other braces stay as they are, for LaTeX's sake.
    """
    if not prompt_file:
        return ask(f"{instructions}\n\n{example['question']}")
    template = filled = _read(prompt_file)
    for column, value in example.items():
        filled = filled.replace(f"{{{column}}}", str(value))
    if filled == template:
        raise InputError(
            f"{prompt_file}: no field like {{question}} to put the problem in; known: {', '.join(example)}"
        )
    return ask(filled)


def ask(text: str) -> Messages:
    """A conversation of one user message."""
    return [{"role": "user", "content": text}]


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"prompt_file {file}: cannot be read ({error})") from error
