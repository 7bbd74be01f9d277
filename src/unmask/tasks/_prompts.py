"""Prompts: the instructions and the question in a single user message, as in the papers.

The built-in wording is ours. To use another one, such as a paper's own, write it to a text file and name that file in
the settings of the task: `prompt_file` for training, `evaluation_prompt_file` for test problems. docs/data.md lists
where the papers' prompts come from.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from unmask.common.errors import InputError
from unmask.tasks import Example, question_of

Messages = list[dict[str, str]]
ANSWERS = (
    "answer",
    "solution",
    "reasoning",
    "difficulty",
)  # columns that reveal the answer; prompts may not use them
FIELD = re.compile(r"\{([A-Za-z_]+)\}")


def format_prompt(
    instructions: str,
    example: Example,
    prompt_file: str | None = "",
    fields: Collection[str] = ("question",),
) -> Messages:
    """Return the conversation that poses an example: `instructions`, or `prompt_file` with its `fields` filled in.

    Raises InputError as `read_template` does.
    """
    if not prompt_file:
        return user_message(f"{instructions}\n\n{question_of(example)}")
    template = read_template(prompt_file, fields, example)

    # One pass over the template rather than `str.format`: braces in a question or in LaTeX must survive, and text that
    # was filled in must not be searched for fields again.
    def fill(field: re.Match[str]) -> str:
        name = field[1]
        if name not in fields:
            return field[0]
        return str(example[name])

    return user_message(FIELD.sub(fill, template))


def user_message(text: str) -> Messages:
    """Return a conversation with `text` as its only user message."""
    return [{"role": "user", "content": text}]


def read_template(prompt_file: str, fields: Collection[str], columns: Collection[str] = ()) -> str:
    r"""Read a prompt file. Raises InputError if it cannot pose a problem or would reveal the answer.

    `columns` are the other columns of the data. Only `fields` are filled in; any other word in braces is literal, as
    LaTeX needs it, unless it names a column. `\boxed{answer}`, for instance, is rejected: it looks like an instruction
    but reads like a field.
    """
    try:
        text = Path(prompt_file).read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, ValueError) as error:
        raise InputError(
            f"prompt_file {prompt_file}: cannot be read ({error}); correct the path or the file"
        ) from error

    used = FIELD.findall(text)
    known = ", ".join(f"{{{name}}}" for name in fields)
    hidden = {*ANSWERS, *columns} - {*fields}
    for name in used:
        if name in hidden:
            raise InputError(
                f"{prompt_file}: {{{name}}} is a column that a prompt may not show; the fields are {known}. "
                f"For a box write \\boxed{{...}}"
            )

    # With several fields (Countdown: question, numbers, target), either `question` or all the others together state the
    # whole problem; a template with only some of the others would pose an unsolvable one.
    parts = {*fields} - {"question"}
    if not any(name in fields for name in used):
        raise InputError(f"{prompt_file}: no field for the problem, such as {{question}}; the fields are {known}")
    if "question" not in used and not parts.issubset(used):
        raise InputError(f"{prompt_file}: shows only part of the problem; use {{question}}, or all of {known}")
    return text
