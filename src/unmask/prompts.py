"""Problems as conversations: the instructions and the question in one user message, as the papers pose them.

The instructions are ours. To use others, such as a paper's own, write them to a text file and name it in a task's
settings: `prompt_file` for training, `evaluation_prompt_file` for test problems. docs/data.md says where the papers'
prompts are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from unmask.files import InputError

Messages = list[dict[str, str]]
ANSWERS = ("answer", "solution", "reasoning", "difficulty")  # columns of the answer's side: no prompt may show them
FIELD = re.compile(r"\{([A-Za-z_]+)\}")


def pose(
    instructions: str, example: dict[str, Any], prompt_file: str | None = "", fields: Collection[str] = ("question",)
) -> Messages:
    """The user message that poses an example: our instructions, or `prompt_file` with its `fields` filled in.

    All fields are filled in one pass, so that braces within a question stay as they are.
    """
    if not prompt_file:
        return ask(f"{instructions}\n\n{example['question']}")
    template = read_template(prompt_file, fields, example)
    return ask(FIELD.sub(lambda found: str(example[found[1]]) if found[1] in fields else found[0], template))


def ask(text: str) -> Messages:
    """A conversation of one user message."""
    return [{"role": "user", "content": text}]


def read_template(prompt_file: str, fields: Collection[str], columns: Collection[str] = ()) -> str:
    r"""The text of a prompt file. Raises InputError if it cannot pose a problem, or would show its answer.

    Only `fields`, in braces, are filled in. Other words in braces are literal, for LaTeX's sake, unless they name a
    column of the answer's side: `\boxed{answer}` is a mistake that no reader of the prompt would notice.
    """
    try:
        text = Path(prompt_file).read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, ValueError) as error:
        raise InputError(f"prompt_file {prompt_file}: cannot be read ({error})") from error
    used = FIELD.findall(text)
    known = ", ".join(f"{{{name}}}" for name in fields)
    for name in used:
        if name in {*ANSWERS, *columns} - {*fields}:
            raise InputError(
                f"{prompt_file}: {{{name}}} names the answer's side of the data, which no prompt may show; fields are "
                f"{known}. For a box write \\boxed{{...}}"
            )
    parts = {*fields} - {"question"}  # which together say what the question says
    if not {*used} & {*fields}:
        raise InputError(f"{prompt_file}: no field like {{question}} to put the problem in; known: {known}")
    if "question" not in used and not parts <= {*used}:
        raise InputError(f"{prompt_file}: shows a part of the problem only; use {{question}}, or all of {known}")
    return text
