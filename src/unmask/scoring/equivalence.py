r"""Whether two LaTeX answers are the same mathematics: by reading them where that decides, else by math-verify, safely.

Numbers, words, numerals of a base and times of day are compared here, exactly. The rest is compared symbolically in a
process of its own (worker.py), because that can hang or eat all memory. It is started at the first question and ends
with this one.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from unmask.scoring.latex import readable, standard
from unmask.scoring.quantities import differ, exact, percentage, without_unit
from unmask.scoring.spelling import plain

LONGEST = 300  # characters of an answer; the longest gold answer of MATH500 has 53
TOLERANCE = Fraction(1, 10**6)  # of a decimal that stands for a number without a finite one, relative
WORKER = Path(__file__).with_name("worker.py")
WORDS = re.compile(r"\\(?:text|mbox|text(?:rm|bf|it)|math(?:rm|bf|it))\s*\{\s*([^{}]*[a-zA-Z][^{}]*)\}")
NUMERAL = re.compile(
    r"\(?\s*([0-9A-Z]+)\s*\)?\s*(?:_|(?:\\text\s*\{)?\s*\(?(?:in )?base)\s*[{}]?"
    r"\s*(?:\\text\s*\{)?\s*([0-9]{1,2})[\s})]*"
)
BASES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NAMED_BASE = re.compile(rf"(?<![a-z])({'|'.join(BASES)})(?![a-z])", re.IGNORECASE)
TIME = re.compile(r"([0-9]{1,2}:[0-9]{2})\s*(?:\\[a-z]+\s*\{)?\s*(?:([ap])\.?\s*m\.?)?\s*\}?", re.IGNORECASE)


def equivalent(gold: str, answer: str) -> tuple[bool, str]:
    """Whether the answer equals the gold one, and a note if that could not be found out."""
    if answer.strip() == gold.strip():
        return True, ""
    if len(answer) > LONGEST:
        return False, "too long to compare"
    gold_text = plain(gold)
    answer_text = plain(answer, commas="," not in gold_text).removeprefix("=").lstrip()
    for compare in (_as_words, _as_numerals, _as_times, _as_numbers):
        verdict = compare(gold_text, answer_text)
        if verdict is not None:
            return verdict, ""
    (left, unit), (right, other) = without_unit(gold_text), without_unit(answer_text)
    if differ(unit, other) or not readable(left, right):
        return False, ""
    try:
        return _compare(standard(left), standard(right), "." in right), ""
    except TimeoutError:
        return False, "could not be compared within the limits"


def _as_words(gold: str, answer: str) -> bool | None:
    """Whether the words are the same, where the gold answer is words."""
    return _words(gold) == _words(answer) if WORDS.fullmatch(gold) else None


def _words(text: str) -> str:
    """The words without type face, articles, case, and brackets around an option's letter."""
    words = WORDS.sub(r" \1 ", text).lower().strip(" .,;!\"'")
    option = re.fullmatch(r"\(\s*([a-z])\s*\)", words)
    return option.group(1) if option else re.sub(r"^(?:an?|the) ", "", " ".join(words.split()))


def _as_numerals(gold: str, answer: str) -> bool | None:
    """Whether digits and base are the same, where the gold answer names a base; the answer may leave it out."""
    numeral, other = (NUMERAL.fullmatch(NAMED_BASE.sub(_base, text)) for text in (gold, answer))
    if numeral is None:
        return other.group(1) == gold if other is not None and other.group(2) == "10" and gold.isdigit() else None
    return answer == numeral.group(1) or (other is not None and other.groups() == numeral.groups())


def _base(named: re.Match[str]) -> str:
    return str(BASES.index(named.group(1).lower()) + 2)


def _as_times(gold: str, answer: str) -> bool | None:
    """Whether the time of day is the same, where the gold answer has `a.m.` or `p.m.`; the answer may leave it out."""
    time, other = TIME.fullmatch(gold), TIME.fullmatch(answer)
    if time is None or not time.group(2):
        return None
    half = other.group(2) if other else None
    return other is not None and other.group(1) == time.group(1) and (not half or half.lower() == time.group(2).lower())


def _as_numbers(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal, None if either is none; both may have units, and the answer `x = ` in front."""
    if not re.search("[,;<>]|or|and", answer):
        answer = answer.rpartition("=")[2]
    of_gold, of_answer = percentage(gold), percentage(answer)
    left, unit = without_unit(gold if of_gold is None else of_gold)
    right, other = without_unit(answer if of_answer is None else of_answer)
    number, found = exact(left), exact(right)
    if number is None or found is None:
        return None
    if differ(unit, other) or (unit and of_answer is not None) or (other and of_gold is not None):
        return False
    if of_gold is not None and of_answer is None:
        return found in (number, number / 100)
    if of_gold is None and of_answer is not None:
        return found / 100 == number or (found == number and number >= 1)
    return found == number or ("." in right and _close(number, found))


def _close(gold: Fraction, found: Fraction) -> bool:
    """Whether a decimal stands for a number that no finite decimal equals, to six digits."""
    rest = gold.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest > 1 and abs(found - gold) <= TOLERANCE * abs(gold)


@functools.lru_cache(maxsize=100_000)
def _compare(gold: str, answer: str, rounded: bool) -> bool:
    """The worker's verdict. Raises TimeoutError, which is not remembered, if it has none."""
    verdict = _ask(json.dumps([gold, answer, rounded]))
    if verdict is None:
        raise TimeoutError
    return verdict


def _ask(question: str) -> bool | None:
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
        _worker.cache_clear()
        if worker.wait(timeout=10) > 0:  # it failed by itself, and would again: no answer would ever be right
            raise RuntimeError(f"{WORKER} failed; its error is above. Is math-verify==0.9.0 there?") from None
        return None  # it was killed, by the system for instance


@functools.cache
def _worker() -> subprocess.Popen[str]:
    if importlib.util.find_spec("math_verify") is None:
        raise RuntimeError("the strict protocol of MATH500 needs math-verify; pip install math-verify==0.9.0")
    pipe = subprocess.PIPE
    worker = subprocess.Popen(
        [sys.executable, "-P", str(WORKER)], stdin=pipe, stdout=pipe, text=True, encoding="utf-8", bufsize=1
    )
    atexit.register(worker.kill)
    return worker
