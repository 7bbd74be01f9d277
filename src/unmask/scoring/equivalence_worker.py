"""Worker process that decides whether two LaTeX answers are equivalent; equivalence.py starts it as a script.

It reads one JSON list per line, [gold, answer, true if the answer has a decimal point], and writes one JSON verdict per
line: true, false, or null if the comparison was cut off or failed. Each pair is compared in a forked child with limits
on time and memory that the kernel enforces, so a hung comparison costs no more than its limit.
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

# The wall-clock limit catches a child that sleeps. It is generous so that verdicts do not depend on the machine's load.
CPU_SECONDS = 0.5
WALL_SECONDS = 5.0
MEMORY = 4 << 30
# Parse only the box: without it, math-verify searches the text for any number. Units have been removed already.
BOX = LatexExtractionConfig(
    boxed_match_priority=0,
    try_extract_without_anchor=False,
    normalization_config=NormalizationConfig(
        basic_latex=True,
        units=False,
        malformed_operators=True,
        nits=False,
        boxed="last",
        equations=False,
    ),
)
DIGITS = 50  # precision of numerical evaluation
EXACT, ROUNDED = 1e-30, 1e-6  # relative tolerances: for equal numbers, and for a rounded decimal
INEQUALITIES = (Ge, Gt, Le, Lt)
AND = re.compile(r"and|\\text\s*\{\s*and\s*\}|\\land|\\wedge")
OR = re.compile(r"or|\\text\s*\{\s*or\s*\}|\\lor|\\vee")
CONNECTED = re.compile(rf"(?<![a-zA-Z\\])(?:{AND.pattern}|{OR.pattern}|,|;)(?![a-zA-Z])")
# Comparisons before the first fork, so that children inherit what SymPy loads and caches for most pairs.
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
SAME, DIFFERENT = 10, 11  # exit codes of a child; any other means that it was cut off or failed


def compare(gold: str, answer: str, rounded: bool = False) -> bool:
    """Return True if two answers are equivalent, without a time limit. `rounded`: the answer has a decimal point."""
    left, right = read(gold), read(answer)
    # An answer may write the gold interval as inequalities.
    if isinstance(left, Union | Interval):
        right = solutions(answer, right, all_hold=isinstance(left, Interval))
    if left is None or right is None:
        return False
    if is_number(left) and is_number(right):
        return equal_numbers(left, right, rounded=rounded)
    return verify(
        left,
        right,
        float_rounding=12,
        numeric_precision=DIGITS,
        allow_set_relation_comp=True,
        timeout_seconds=None,
    )


def read(text: str) -> Any:
    """Parse the whole text as a SymPy object, None if that fails."""
    found = parse(f"\\boxed{{{text}}}", [BOX], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def is_number(parsed: Any) -> bool:
    """Return True if a SymPy object is an expression without variables."""
    return isinstance(parsed, Expr) and bool(parsed.is_number)


def equal_numbers(gold: Expr, answer: Expr, *, rounded: bool) -> bool:
    """Return True if two numbers are equal, or if a rounded decimal is within 1e-6 of an irrational gold number."""
    one = gold.doit().evalf(DIGITS)
    other = answer.doit().evalf(DIGITS)
    if not (one.is_finite and other.is_finite):
        return one == other
    difference, size = abs(one - other), abs(one)
    if difference <= EXACT * max(size, abs(other)):
        return True
    return rounded and not gold.is_rational and bool(difference <= ROUNDED * size)


def solutions(text: str, answer: Basic | None, *, all_hold: bool) -> Basic | None:
    """Convert several inequalities in one variable, `x < 2 or x > 3`, to a set; return any other answer unchanged.

    A comma means `and` if `all_hold`, else `or`.
    """
    parts = [read(part) for part in CONNECTED.split(text)]
    if len(parts) < 2 or not all(type(part) in INEQUALITIES for part in parts):
        return answer
    if len({tuple(part.free_symbols) for part in parts}) > 1:
        return answer

    words = [word.strip() for word in CONNECTED.findall(text)]
    words = [word for word in words if word not in ",;"]
    joins = [word for word in words if AND.fullmatch(word)]
    # `and` mixed with `or` has no unambiguous reading.
    if joins and len(joins) < len(words):
        return answer
    every = bool(joins) if words else all_hold
    together = Intersection if every else Union
    return together(*[part.as_set() for part in parts])


def limited(gold: str, answer: str, rounded: bool) -> bool | None:
    """Compare in a child process with limits; None if it exceeded one or failed."""
    child = os.fork()
    if child == 0:
        # No handlers are installed: the default action of both timers' signals ends the process, even inside C code.
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        try:
            os._exit(SAME if compare(gold, answer, rounded) else DIFFERENT)
        # Whatever went wrong, the child must never fall through into the parent's loop.
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return {SAME: True, DIFFERENT: False}.get(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Compare pairs until the input ends."""
    logging.disable(logging.CRITICAL)
    for gold, answer in WARM_UP:
        compare(gold, answer)

    # Redirect stdout to stderr: what a library prints must not be taken for a verdict.
    verdicts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(limited(*json.loads(line))), file=verdicts, flush=True)


if __name__ == "__main__":
    main()
