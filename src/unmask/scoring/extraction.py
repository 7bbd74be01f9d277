"""Extraction of answers from responses: boxes, tags and the end of the text.

Every function takes linear time, because models occasionally write a megabyte of brackets.
"""

from __future__ import annotations

import re

from unmask.common.end_tokens import END

BRACES = re.compile(r"\{+|\}+")
SIMPLE_BOX = "\\boxed{"
OPENED_BOX = re.compile(r"\\boxed\s*\{")
ESCAPED = re.compile(r"\\[\\{}]")
SIGNS = ("-", "−", "–")
# What a sign in front of a box may belong to: a number, not a word or the letter of an option.
NUMERIC = re.compile(r"\\?[$€£]?\s*(?:[0-9.]|\\(?:[dtc]?frac|sqrt|pi)(?![a-zA-Z]))")
SUM = re.compile(r"(?<![a-zA-Z]{2})[-+±]|[-+±](?![a-zA-Z]{2})|\\pm(?![a-zA-Z])")  # not `half-gallons`
LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def cut(text: str) -> str:
    """Return the text up to the first end token."""
    return END.split(text, maxsplit=1)[0]


def between(text: str, start: str, end: str) -> str | None:
    """Return the text between the first `start` and the next `end`, None if there is no such pair."""
    _, found, rest = text.partition(start)
    inside, closed, _ = rest.partition(end)
    if not found or not closed:
        return None
    return inside


def answer_text(text: str) -> str | None:
    """Return the stripped content of the first pair of answer tags, None if there is none."""
    found = between(text, "<answer>", "</answer>")
    if found is None:
        return None
    return found.strip()


def boxed_terse(text: str) -> str:
    """Convert a terse Countdown response (`12-04` in tags) to the form that the protocols read: boxed, unpadded."""
    answer = answer_text(cut(text))
    if answer is None:
        return ""
    unpadded = LEADING_ZEROS.sub("", answer)
    return f"<answer>\\boxed{{{unpadded}}}</answer>"


def simple_boxes(text: str) -> list[str]:
    r"""Return the contents of all `\boxed{…}` in order, each up to the first closing brace on its line."""
    # `str.find` instead of a regular expression, which would take quadratic time on boxes that are never closed.
    found = []
    for line in text.split("\n"):
        end = 0
        while (start := line.find(SIMPLE_BOX, end)) >= 0:
            end = line.find("}", start)
            if end < 0:
                break
            begin = start + len(SIMPLE_BOX)
            found.append(line[begin:end])
    return found


def last_box(text: str) -> str | None:
    r"""Return the content of the last box, as the papers' scripts find it.

    `\boxed ` with a space has priority and extends to the next `$`; otherwise the last `\boxed`, or else the last
    `\fbox`, up to its matching brace. Without any of them the result is the whole text; if the brace is never closed,
    None. Only the wrapper `\boxed{…}` is removed.
    """
    if "\\boxed " in text:
        _, _, rest = text.rpartition("\\boxed ")
        content, _, _ = rest.partition("$")
        return content
    start = text.rfind("\\boxed")
    if start < 0:
        start = text.rfind("\\fbox")
    if start < 0:
        return text
    end = closing_brace(text, start)
    if end is None:
        return None
    box = text[start : end + 1]
    if box.startswith(SIMPLE_BOX):
        return box[len(SIMPLE_BOX) : -1]
    return box


def closing_brace(text: str, start: int) -> int | None:
    """Return the position where the first brace opened at or after `start` is closed, None if it never is."""
    # Runs of equal braces are counted at once, which is much faster than single characters on hostile input.
    depth = 0
    for run in BRACES.finditer(text, start):
        braces = run.group()
        if braces[0] == "{":
            depth += len(braces)
        elif 0 < depth <= len(braces):
            return run.start() + depth - 1
        else:
            depth -= len(braces)
    return None


def is_unfinished(text: str) -> bool:
    r"""Return True if the text opens a brace that it never closes; `\{` and `\}` are characters, not braces."""
    depth = 0
    for run in BRACES.finditer(ESCAPED.sub("", text)):
        braces = run.group()
        if braces[0] == "{":
            depth += len(braces)
        else:
            depth = max(0, depth - len(braces))
    return depth > 0


def final_answer(text: str, *, signed: bool = False) -> str | None:
    r"""Return what a careful reader takes for the answer: the last box of the last answer tag, or of an untagged text.

    The text counts up to its end token. Neither tag nor box need be closed; an empty box is passed over. Without a tag
    and a box the answer is None. With `signed`, `-\boxed{3}` is -3.
    """
    text = cut(text)
    place = text
    _, tagged, inside = text.rpartition("<answer>")
    if tagged:
        place, _, _ = inside.partition("</answer>")
    start = place.rfind("\\boxed")
    if start < 0 and tagged:
        return place.strip()
    if start < 0:
        return None

    boxed, end = _box_at(place, start)
    before = place[:start]
    after = place[end:]
    if not boxed:
        return (before + after).strip()
    if not (signed and _is_negated(before) and NUMERIC.match(boxed)):
        return boxed
    if SUM.search(boxed):
        return f"-({boxed})"
    return f"-{boxed}"


def _box_at(text: str, start: int) -> tuple[str, int]:
    """Return the content of the box that begins at `start`, and where it ends: with the text if it is never closed."""
    opened = OPENED_BOX.match(text, start)
    if opened:
        begin = opened.end()
        end = closing_brace(text, start)
    else:
        begin = start + len("\\boxed")
        end = None

    content, _, _ = text[begin:end].partition("</answer")
    content = content.strip()
    if end is not None:
        return content, end + 1
    if opened:
        content = _without_mistyped_brace(content)
    return content, len(text)


def _is_negated(before: str) -> bool:
    r"""Return True if the text in front of a box ends in its sign, as in `x = -\boxed{3}`."""
    # The minus has to touch the box, since `- \boxed{3}` is an item of a list. In front of it on its line, an operand
    # makes it a subtraction (`20 -\boxed{3}`), a word that it touches a hyphen, and a second minus a dash.
    _, _, line = before.rpartition("\n")
    if not line.endswith(SIGNS):
        return False
    without_sign = line[:-1]
    text = without_sign.rstrip()
    apart = text != without_sign
    if not apart and text.endswith((*SIGNS, "—")):
        return False
    # `Ans:-` is a colon, and an en dash after a word is a dash.
    if not apart and text.endswith(":"):
        return False
    after_letter = text[-1:].isalpha()
    if after_letter and line.endswith("–"):
        return False
    if after_letter:
        return apart and text[-2:-1].isalpha()
    after_operand = text[-1:].isdigit() or text.endswith((")", "]", "}", "%"))
    return not after_operand


def _without_mistyped_brace(text: str) -> str:
    r"""Strip the character that was written instead of the closing brace of a box: `36>` or `48 + 29)`."""
    typed = text[-1:]
    if typed not in {")", "]", ">"}:
        return text
    # A bracket that closes one in the box belongs to the answer.
    opening = {")": "(", "]": "["}.get(typed)
    if opening and text.count(opening) >= text.count(typed):
        return text
    return text[:-1].rstrip()
