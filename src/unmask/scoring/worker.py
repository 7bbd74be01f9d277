"""The process that decides whether two LaTeX answers are the same mathematics; started by equivalence.py, as a file.

It reads one JSON pair [gold, answer] a line and writes one JSON verdict a line: true, false, or null if the comparison
was cut off or failed. Each pair is compared in a forked child with limits on time and memory that the kernel enforces,
so a hung answer costs its limit and nothing else.
"""

import json
import logging
import os
import resource
import signal
import sys

from math_verify import parse, verify

# The clock's limit is for a child that sleeps. It is wide, lest verdicts depend on how busy the machine is.
CPU_SECONDS, WALL_SECONDS, MEMORY = 0.5, 5.0, 4 << 30
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


def compare(gold: str, answer: str) -> bool:
    """Whether two answers are equal as mathematics; no time limit of its own."""
    left, right = (parse(f"${text}$", parsing_timeout=None) for text in (gold, answer))
    return verify(left, right, timeout_seconds=None)


def limited(gold: str, answer: str) -> bool | None:
    """The same in a child process with limits; None if it hit one or could not read the pair."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # the default action of both signals is to end the process
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        try:
            os._exit(SAME if compare(gold, answer) else DIFFERENT)
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
