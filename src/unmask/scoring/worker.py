"""The process that decides whether two LaTeX answers are the same mathematics; started by equivalence.py, as a file.

It reads one JSON list a line, [gold, answer, whether the answer has a decimal point], and writes one JSON verdict a
line: true, false, or null if the comparison was cut off or failed. Each pair is compared in a forked child with limits
on time and memory that the kernel enforces, so a hung answer costs its limit and nothing else.
"""

import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Expr, Ge, Gt, Intersection, Interval, Le, Lt, Union

# The clock's limit is for a child that sleeps. It is wide, lest verdicts depend on how busy the machine is.
CPU_SECONDS, WALL_SECONDS, MEMORY = 0.5, 5.0, 4 << 30
# Only a whole box is parsed: without one, math-verify searches the text for any number. Units are taken off before.
BOX = LatexExtractionConfig(
    boxed_match_priority=0,
    try_extract_without_anchor=False,
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="last", equations=False
    ),
)
DIGITS = 50  # worked out of a number
EXACT, ROUNDED = 1e-30, 1e-6  # relative differences: of equal numbers, and of a decimal from what it stands for
INEQUALITIES = (Ge, Gt, Le, Lt)
AND = re.compile(r"and|\\text\s*\{\s*and\s*\}|\\land|\\wedge")
OR = re.compile(r"or|\\text\s*\{\s*or\s*\}|\\lor|\\vee")
CONNECTED = re.compile(rf"(?<![a-zA-Z\\])(?:{AND.pattern}|{OR.pattern}|,|;)(?![a-zA-Z])")
# Pairs that make SymPy load and cache what most comparisons need, once for all children.
WARM_UP = (
    ("\\frac{1}{2}", "0.5"),
    ("(3, \\frac{\\pi}{2})", "(3, \\pi)"),
    ("[-2, 7)", "x \\in [-2, 8)"),
    ("16\\sqrt{3}", "8\\sqrt{2}"),
    ("x^2 + 2x + 1", "(x+1)^3"),
    ("y = 2x + 3", "y = 2x + b"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "3"),
    ("\\text{Evelyn}", "x"),
)
SAME, DIFFERENT = 10, 11  # exit codes; anything else means that the child was cut off or failed


def compare(gold: str, answer: str, rounded: bool = False) -> bool:
    """Whether two answers are equal as mathematics, the answer a rounded decimal or not; no time limit of its own."""
    left, right = read(gold), read(answer)
    if isinstance(left, Union | Interval):
        right = solutions(answer, right, all_hold=isinstance(left, Interval))
    if left is None or right is None:
        return False
    if isinstance(left, Expr) and isinstance(right, Expr) and left.is_number and right.is_number:
        return equal_numbers(left, right, rounded=rounded)
    return verify(
        left, right, float_rounding=12, numeric_precision=DIGITS, allow_set_relation_comp=True, timeout_seconds=None
    )


def read(text: str) -> Any:
    """The whole text as a SymPy object, None if it is no formula."""
    found = parse(f"\\boxed{{{text}}}", [BOX], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def equal_numbers(gold: Expr, answer: Expr, *, rounded: bool) -> bool:
    """Whether two numbers agree, a decimal to six digits with a number that has no finite one."""
    one, other = (number.doit().evalf(DIGITS) for number in (gold, answer))
    if not (one.is_finite and other.is_finite):
        return one == other
    difference, size = abs(one - other), abs(one)
    if difference <= EXACT * max(size, abs(other)):
        return True
    return rounded and not gold.is_rational and bool(difference <= ROUNDED * size)


def solutions(text: str, answer: Basic | None, *, all_hold: bool) -> Basic | None:
    """Several inequalities in one variable, `x < 2 or x > 3`, as a set; any other answer as it is.

    A comma says neither `and` nor `or`: `all_hold` does.
    """
    parts = [read(part) for part in CONNECTED.split(text)]
    if len(parts) < 2 or not all(type(part) in INEQUALITIES for part in parts):
        return answer
    if len({tuple(part.free_symbols) for part in parts}) > 1:
        return answer
    words = {AND.fullmatch(word.strip()) is not None for word in CONNECTED.findall(text) if word.strip() not in ",;"}
    if len(words) > 1:
        return answer
    together = Intersection if (all_hold and not words) or True in words else Union
    return together(*[part.as_set() for part in parts])


def limited(gold: str, answer: str, rounded: bool) -> bool | None:
    """The same in a child process with limits; None if it hit one or could not read the pair."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # the default action of both signals is to end the process
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        try:
            os._exit(SAME if compare(gold, answer, rounded) else DIFFERENT)
        finally:  # whatever went wrong, never fall back into the parent's loop
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return {SAME: True, DIFFERENT: False}.get(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Answer pairs until the input ends."""
    logging.disable(logging.CRITICAL)
    for gold, answer in WARM_UP:
        compare(gold, answer)
    verdicts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not pass for a verdict
    for line in sys.stdin:
        print(json.dumps(limited(*json.loads(line))), file=verdicts, flush=True)


if __name__ == "__main__":
    main()
