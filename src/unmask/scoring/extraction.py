"""Extraction of answers from responses: boxes, tags and the end of the text.

Every function takes linear time, because models occasionally write a megabyte of brackets.
"""

from __future__ import annotations

import re

# End-of-text token of both published model families, and end-of-turn tokens of LLaDA's and Dream's chat templates. A
# policy with other tokens translates its own (`Policy.judged`).
END_OF_TEXT = "<|endoftext|>"
END = re.compile(r"<\|endoftext\|>|<\|eot_id\|>|<\|im_end\|>")
BRACES = re.compile(r"\{+|\}+")
OPENED_BOX = re.compile(r"\\boxed\s*\{")
LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def cut(text: str) -> str:
    """Return the text up to the first end token."""
    return END.split(text, maxsplit=1)[0]


def between(text: str, start: str, end: str) -> str | None:
    """Return the text between the first `start` and the next `end`, None if there is no such pair."""
    _, found, rest = text.partition(start)
    inside, closed, _ = rest.partition(end)
    return inside if found and closed else None


def answer_text(text: str) -> str | None:
    """Return the stripped content of the first pair of answer tags, None if there is none."""
    found = between(text, "<answer>", "</answer>")
    return None if found is None else found.strip()


def boxed_terse(text: str) -> str:
    """Convert a terse Countdown response (`12-04` in tags) to the form that the protocols read: boxed, unpadded."""
    answer = answer_text(cut(text))
    return "" if answer is None else f"<answer>\\boxed{{{LEADING_ZEROS.sub('', answer)}}}</answer>"


def simple_boxes(text: str) -> list[str]:
    r"""Return the contents of all `\boxed{…}` in order, each up to the first closing brace on its line."""
    # `str.find` instead of a regular expression, which would take quadratic time on boxes that are never closed.
    found = []
    for line in text.split("\n"):
        start = line.find("\\boxed{")
        while start >= 0 and (end := line.find("}", start)) >= 0:
            found.append(line[start + len("\\boxed{") : end])
            start = line.find("\\boxed{", end)
    return found


def last_box(text: str) -> str | None:
    r"""Return the content of the last box, as the papers' scripts find it.

    `\boxed ` with a space has priority and extends to the next `$`; otherwise the last `\boxed`, or else the last
    `\fbox`, up to its matching brace. Without any of them the result is the whole text; if the brace is never closed,
    None. Only the wrapper `\boxed{…}` is removed.
    """
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = next((found for macro in ("\\boxed", "\\fbox") if (found := text.rfind(macro)) >= 0), None)
    if start is None:
        return text
    end = closing_brace(text, start)
    if end is None:
        return None
    box = text[start : end + 1]
    return box[len("\\boxed{") : -1] if box.startswith("\\boxed{") else box


def closing_brace(text: str, start: int) -> int | None:
    """Return the position where the first brace opened at or after `start` is closed, None if it never is."""
    # Runs of equal braces are counted at once, which is much faster than single characters on hostile input.
    depth = 0
    for run in BRACES.finditer(text, start):
        many = run.end() - run.start()
        if run.group()[0] == "}" and 0 < depth <= many:
            return run.start() + depth - 1
        depth += many if run.group()[0] == "{" else -many
    return None


def final_answer(text: str) -> str | None:
    """What a careful reader takes for the answer: the last box of the last answer tag, or of the text without one.

    The text counts up to its end token. Neither tag nor box need be closed; an empty box is passed over. Without a tag
    and a box there is no answer.
    """
    _, tagged, inside = (text := cut(text)).rpartition("<answer>")
    place = inside.partition("</answer>")[0] if tagged else text
    start = place.rfind("\\boxed")
    if start < 0:
        return place.strip() if tagged else None
    opened = OPENED_BOX.match(place, start)
    end = closing_brace(place, start) if opened else None
    boxed = place[opened.end() if opened else start + len("\\boxed") : end].partition("</answer")[0].strip()
    if opened and end is None:
        boxed = _without_mistyped_brace(boxed)
    return boxed or (place[:start] + place[len(place) if end is None else end + 1 :]).strip()


def _without_mistyped_brace(text: str) -> str:
    r"""Strip the character that was written instead of the closing brace of a box: `36>` or `48 + 29)`."""
    opening = {")": "(", "]": "[", ">": ""}.get(text[-1:])
    return text if opening is None or (opening and text.count(opening) >= text.count(text[-1])) else text[:-1].rstrip()
