r"""Mathematical equivalence of two LaTeX answers: direct comparison where possible, otherwise math-verify in a sandbox.

Numbers, words, numerals in a base and times of day are compared here, exactly. Everything else is compared symbolically
in a separate process (equivalence_worker.py), because that can hang or exhaust the memory. The process starts with the
first such comparison and ends with this one.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from unmask.scoring.exact_numbers import exact
from unmask.scoring.extraction import is_unfinished
from unmask.scoring.latex import braced_fractions, readable, standard
from unmask.scoring.quantities import percentage, scaled
from unmask.scoring.spelling import plain
from unmask.scoring.units import differ, without_unit

LONGEST = 300  # characters of an answer; the longest gold answer of MATH500 has 53
TOLERANCE = Fraction(1, 10**6)  # relative, for the decimal of a number that has no finite one
WORKER = Path(__file__).with_name("equivalence_worker.py")
# `\text{Evelyn}`, `\mathrm{odd}`.
WORDS = re.compile(r"\\(?:text|mbox|text(?:rm|bf|it)|math(?:rm|bf|it))\s*\{\s*([^{}]*[a-zA-Z][^{}]*)\}")
# `204_5`, `204_{5}`, `204 (base 5)`, `204\text{ in base }5`.
NUMERAL = re.compile(
    r"\(?\s*([0-9A-Z]+)\s*\)?\s*(?:_|(?:\\text\s*\{)?\s*\(?(?:in )?base)\s*[{}]?"
    r"\s*(?:\\text\s*\{)?\s*([0-9]{1,2})[\s})]*"
)
BASES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NAMED_BASE = re.compile(rf"(?<![a-z])({'|'.join(BASES)})(?![a-z])", re.IGNORECASE)
# `3:30`, `3:30 p.m.`, `3:30\text{ PM}`.
TIME = re.compile(r"([0-9]{1,2}:[0-9]{2})\s*(?:\\[a-z]+\s*\{)?\s*(?:([ap])\.?\s*m\.?)?\s*\}?", re.IGNORECASE)


def equivalent(gold: str, answer: str) -> tuple[bool, str]:
    """Return True if the answer equals the gold one, and a note if that could not be decided.

    Raises RuntimeError if math-verify is needed but missing or broken.
    """
    if answer.strip() == gold.strip():
        return True, ""
    if len(answer) > LONGEST:
        return False, "too long to compare"

    # A box may lack its own closing brace, but a group in it that is cut off is no answer: `2516_{8` is the beginning
    # of many numerals.
    if is_unfinished(answer):
        return False, "an opening brace is never closed"

    # A comma that is left in the gold answer separates the items of a list, so those of the answer must do so too.
    gold_text = braced_fractions(plain(gold))
    answer_text = braced_fractions(plain(answer, commas="," not in gold_text))
    answer_text = answer_text.removeprefix("=").lstrip()

    # The direct comparisons are exact and cheap; each returns None if it does not apply.
    for compare in (_as_words, _as_numerals, _as_times, _as_numbers):
        verdict = compare(gold_text, answer_text)
        if verdict is not None:
            return verdict, ""

    # math-verify ignores what it cannot parse, so anything that it would misread is rejected first.
    left, unit = without_unit(gold_text)
    right, other_unit = without_unit(answer_text)
    if differ(unit, other_unit) or not readable(left, right):
        return False, ""
    is_rounded = "." in right
    try:
        return _compare(standard(left), standard(right), is_rounded), ""
    except TimeoutError:
        return False, "could not be compared within the limits"


def _as_words(gold: str, answer: str) -> bool | None:
    """Return True if the words are the same; None if the gold answer is not in words."""
    if not WORDS.fullmatch(gold):
        return None
    return _words(gold) == _words(answer)


def _words(text: str) -> str:
    """Normalise words: drop type face, articles, case, and the brackets around the letter of an option."""
    words = WORDS.sub(r" \1 ", text).lower()
    words = words.strip(" .,;!\"'")
    option = re.fullmatch(r"\(\s*([a-z])\s*\)", words)
    if option:
        return option.group(1)
    words = " ".join(words.split())
    return re.sub(r"^(?:an?|the) ", "", words)


def _as_numerals(gold: str, answer: str) -> bool | None:
    """Return True if digits and base are the same; None if the gold answer names no base.

    The answer may omit the base.
    """
    numeral = _numeral(gold)
    other = _numeral(answer)
    if numeral is not None:
        digits, _ = numeral
        return answer == digits or other == numeral

    # Without a base the gold number is decimal, which the answer may spell out as `_{10}`.
    if other is None or not gold.isdigit():
        return None
    digits, base = other
    if base != "10":
        return None
    return digits == gold


def _numeral(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a numeral that names its base, None for any other text."""
    with_digits = NAMED_BASE.sub(_base, text)
    found = NUMERAL.fullmatch(with_digits)
    if found is None:
        return None
    digits, base = found.groups()
    return digits, base


def _base(named: re.Match[str]) -> str:
    word = named.group(1).lower()
    return str(BASES.index(word) + 2)


def _as_times(gold: str, answer: str) -> bool | None:
    """Return True if the time of day is the same; None if the gold answer is not a time with `a.m.` or `p.m.`.

    The answer may omit `a.m.` or `p.m.`.
    """
    time = TIME.fullmatch(gold)
    other = TIME.fullmatch(answer)
    if time is None or not time.group(2):
        return None
    if other is None:
        return False

    clock, half = time.groups()
    other_clock, other_half = other.groups()
    if other_clock != clock:
        return False
    return not other_half or other_half.lower() == half.lower()


@dataclass(frozen=True)
class Quantity:
    """Number with what may follow it."""

    value: Fraction
    unit: str
    is_percentage: bool
    has_point: bool


def _as_numbers(gold: str, answer: str) -> bool | None:
    """Return True if two numbers are equal; None if one of the texts is not a number.

    Both may have units, and the answer may start with `x = `.
    """
    # Only the last side of a single equation is the answer; `x = 1 or x = 2` states two.
    if not re.search("[,;<>]|or|and", answer):
        _, _, answer = answer.rpartition("=")
    left = _quantity(gold)
    right = _quantity(answer)
    if left is None or right is None:
        return None

    # `36%` is not `\$36`: a percentage excludes every unit.
    if differ(left.unit, right.unit):
        return False
    if left.unit and right.is_percentage:
        return False
    if right.unit and left.is_percentage:
        return False

    # With a per cent sign on one side only, `28%` is 28 (the question may have asked for the number of per cent) and
    # 0.28. But a gold answer below 1 without the sign is a fraction: 0.5 is `50%`, not `0.5%`.
    number = left.value
    found = right.value
    if left.is_percentage and not right.is_percentage:
        return found in (number, number / 100)
    if right.is_percentage and not left.is_percentage and number < 1:
        return found / 100 == number
    if right.is_percentage and not left.is_percentage:
        return found in (number, 100 * number)
    if found == number:
        return True
    return right.has_point and _close(number, found)


def _quantity(text: str) -> Quantity | None:
    """Parse a number with its scale, per cent sign and unit; None if the text is anything else."""
    text, factor = scaled(text)
    # A per cent sign is taken off before the unit, because it changes the value.
    of_hundred = percentage(text)
    if of_hundred is not None:
        text = of_hundred
    number, unit = without_unit(text)
    value = exact(number)
    if value is None:
        return None
    return Quantity(
        value=value * factor,
        unit=unit,
        is_percentage=of_hundred is not None,
        has_point="." in number,
    )


def _close(gold: Fraction, found: Fraction) -> bool:
    """Return True if `found` rounds `gold` within TOLERANCE and `gold` has no finite decimal."""
    # A fraction has a finite decimal exactly if its denominator has no prime factors but 2 and 5; then only the exact
    # value is correct.
    rest = gold.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    has_finite_decimal = rest == 1
    if has_finite_decimal:
        return False
    return abs(found - gold) <= TOLERANCE * abs(gold)


@functools.lru_cache(maxsize=100_000)
def _compare(gold: str, answer: str, rounded: bool) -> bool:
    """Return the worker's verdict. Raises TimeoutError if it has none."""
    # `lru_cache` does not store exceptions, so an undecided pair is tried again: the cause may have been temporary.
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
        # A positive exit code is the worker's own failure: it would fail again, and every answer would be wrong. A
        # negative one is a signal, from the out-of-memory killer for instance; the next comparison starts a new worker.
        code = worker.wait(timeout=10)
        if code > 0:
            raise RuntimeError(f"{WORKER} failed; see its error above. Is math-verify==0.9.0 installed?") from None
        return None


@functools.cache
def _worker() -> subprocess.Popen[str]:
    if importlib.util.find_spec("math_verify") is None:
        raise RuntimeError("the strict protocol of MATH500 needs math-verify: pip install math-verify==0.9.0")
    # `-P` keeps the folder of the script out of sys.path, where our modules could shadow installed ones.
    command = [sys.executable, "-P", str(WORKER)]
    worker = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        bufsize=1,
    )
    atexit.register(worker.kill)
    return worker
