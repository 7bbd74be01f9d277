r"""The number that a text states, in any surroundings: `about 36 dollars`, `3 and a half`, `\$2 million`, `28%`.

exact_numbers.py parses the number, units.py the unit. All functions expect the plain spelling (spelling.py).
"""

from __future__ import annotations

import re
from fractions import Fraction

from unmask.scoring.exact_numbers import ARGUMENT, DIGITS, FRACTION, POWER_OF_TEN, exact
from unmask.scoring.units import CURRENCY, MEANINGFUL, UNITS

# A number within other text. The lookbehinds exclude parts of longer numbers, and read `15-20` as 15 and 20, not -20.
COMMAS = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"
STATED = re.compile(
    rf"(?<![0-9.])-?(?:(?:{DIGITS}(?:\.[0-9]+)?\s*(?:\\times|\\cdot|\*|x)\s*)?{POWER_OF_TEN.pattern}"
    rf"|{DIGITS}\s*\\[dtc]?frac{ARGUMENT}{ARGUMENT}|{DIGITS}\s+[0-9]+\s*/\s*[0-9]+|(?:{FRACTION})|{COMMAS}"
    rf"|{DIGITS}(?:\.[0-9]+)?)|(?<![0-9])-?\.{DIGITS}"
)
EXPONENT_OF_UNIT = re.compile(
    r"(?:(?<=[a-zA-Z])\s*\^\s*|(?<=[a-zA-Z]\})\s*\^\s*|(?<![a-zA-Z])(?:[mcdk]?m|in|ft|yd))(?:\{\s*[23]\s*\}|[23])(?![0-9.])"
)
OPERATOR = r"(?:[-+*/]|\\(?:cdot|times)(?![a-zA-Z]))"
CONSTANT = r"(?:\\(?:pi|theta|alpha|beta|gamma|lambda|phi|omega)|(?<![a-zA-Z\\])pi)(?![a-zA-Z])"
# What makes the digits in it another number, or a bound: powers of other numbers than 10, roots, `5.5.5`, `> 18`, and
# factors and terms that are no numbers: `18\pi`, `x18`, `x + 18`.
OTHER_NUMBER = re.compile(
    r"(?<!10)(?<!10 )\^\s*\{?\s*[+-]?[0-9]|\\sqrt|[0-9]\.[0-9]+\.[0-9]"
    r"|(?:<(?![^<]*>)|(?<![<>-])>|\\(?:[lg]eq?|[lg]t|neq?)(?![a-zA-Z]))\s*[-$0-9.\\]"
    rf"|[0-9]\s*{OPERATOR}?\s*{CONSTANT}|{CONSTANT}\s*{OPERATOR}?\s*[0-9]"
    r"|(?<![a-zA-Z0-9\\])[a-z](?=[0-9])|(?<![a-zA-Z\\])[xyz]\s*[-+*/](?![a-zA-Z])"
    rf"|{OPERATOR}\s*[xyz](?![a-zA-Z])"
)
# The word after a number, in a text command or not, and words that may touch it although they are no units.
WORD = re.compile(r"(\s*)(?:\\[a-z]+\s*\{(\s*))?([a-zA-Z]+(?:'[a-zA-Z]+)*)")
ENDING = re.compile(r"(?:st|nd|rd|th|[ap]m|[ap]\.\s?m)(?![a-zA-Z])", re.IGNORECASE)
AND_A_FRACTION = re.compile(r"(?<=[0-9])\s+and\s+(?=[0-9]+\s*/\s*[0-9]|\\[dtc]?frac)", re.IGNORECASE)
AND_A_HALF = re.compile(r"(?<=[0-9])\s+and\s+(?:a|one)[ -](half|third|quarter|fourth)(?![a-z])", re.IGNORECASE)
PARTS = {"half": " 1/2", "third": " 1/3", "quarter": " 1/4", "fourth": " 1/4"}
MINUS = re.compile(r"^(?:-|minus|negative)\s+(?=[0-9.\\])", re.IGNORECASE)
# Words that multiply the number in front of them.
SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
SCALE = re.compile(
    rf"(?:(?<=[0-9}}])|(?<= half))\s*(\\[a-z]+\s*\{{\s*)?({'|'.join(SCALES)})s?(?![a-zA-Z])\s*(\}})?",
    re.IGNORECASE,
)
# Letters that do the same: `18k`, and `\$2m` where there is a currency, else `m` is metres.
SUFFIX = re.compile(r"(?<=[0-9])\s?(?:\\[a-z]+\s*\{\s*)?([kKmMbB])(?![a-zA-Z&'])\s*\}?")
SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9}
FULL_HOUR = re.compile(r"(?<![0-9:])([0-9]{1,2}):00(?![0-9:])")

PERCENT = re.compile(r"\s*(?:\\?%|(?:\\text\s*\{)?\s*(?:percent(?:age)?|pct)\s*\}?)$", re.IGNORECASE)
ABBREVIATED = {
    "c",
    "d",
    "p",
}  # cents, days, pence after a number of GSM8K; elsewhere they are unknowns
AGE = re.compile(r"\s*y(?:/o|\.\s?o)\b", re.IGNORECASE)
PARTS_OF_ONE = re.compile(r"\s*(?:ten|hundred|thousand|million)ths?\b", re.IGNORECASE)


def scaled(text: str) -> tuple[str, int]:
    """Return the text without a word such as `million` after its number, and its factor (1 if there is none)."""
    found = SCALE.search(text)
    if found is None:
        return text, 1
    command, word, closed = found.groups()
    # `1 \text{ million}` loses its command with the word; that of `1 \text{ million dollars}` holds the unit too.
    kept = command or closed or ""
    if command and closed:
        kept = ""
    before = text[: found.start()]
    after = text[found.end() :]
    factor = SCALES[word.lower()]
    return f"{before} {kept}{after}".rstrip(), factor


def readings(text: str) -> set[Fraction]:
    """Return the values that a text with one number may state, none if it has no number or several.

    A word such as `million` may count or be the unit that a question asks for: GSM8K's gold for "How many dozens of
    eggs" is 7. A letter (`18k`) counts.
    """
    suffix = SUFFIX.search(text)
    if suffix and (suffix.group(1) not in "mb" or CURRENCY.search(text)):
        factor = SUFFIXES[suffix.group(1).lower()]
        number = only_number(SUFFIX.sub("", text, count=1))
        if number is None:
            return set()
        return {number * factor}

    text, factor = scaled(text)
    number = only_number(text)
    if number is None:
        return set()
    return {number, number * factor}


def only_number(text: str) -> Fraction | None:
    """Return the only number in a text, whatever surrounds it; None if there is no number or several."""
    text = CURRENCY.sub("", text).strip()
    text = AND_A_FRACTION.sub(" ", text)
    text = AND_A_HALF.sub(lambda found: PARTS[found.group(1).lower()], text)
    value = exact(text)
    if value is not None:
        return value

    # Other digits than the number's: those of an exponent or a time are dropped, any others rule the text out.
    text = MINUS.sub("-", text)
    text = EXPONENT_OF_UNIT.sub("", text)
    text = FULL_HOUR.sub(r"\1", text)
    if OTHER_NUMBER.search(text) or _has_foreign_digits(text):
        return None
    # A set, because the same number twice, as in `18 = 18.0`, is one.
    values = set()
    for number in STATED.finditer(text):
        if _is_factor(text, number.end()):
            return None
        without_commas = number.group().replace(",", "")
        values.add(exact(without_commas))
    if len(values) != 1:
        return None
    return values.pop()


def _has_foreign_digits(text: str) -> bool:
    return any(sign.isdigit() and not sign.isascii() for sign in text)


def _is_factor(text: str, end: int) -> bool:
    """Return True if a number that ends there is multiplied: by a letter that is no unit (`18x`), or `5 hundredths`."""
    if PARTS_OF_ONE.match(text, end):
        return True
    if AGE.match(text, end):
        return False
    following = WORD.match(text, end)
    if following is None or ENDING.match(text, following.start(3)):
        return False
    space, space_in_command, word = following.groups()
    apart = bool(space or space_in_command)
    if len(word) == 1:
        return _is_unknown(word, apart)
    word = word.lower()
    if apart or word in UNITS:
        return False
    return len(word) == 2 or MEANINGFUL.fullmatch(word) is not None


def _is_unknown(letter: str, apart: bool) -> bool:
    """Return True if a letter after a number is an unknown, not a unit; `apart`: there is space between them."""
    if letter in UNITS or letter in ABBREVIATED:
        return False
    # A capital that touches a number is an unknown (GSM8K's solutions have `6W = 30`), except for litres. Apart it is a
    # unit that the list lacks, as in `18 C`. `18 a day` has an article.
    if letter == "L":
        return False
    is_unit_or_article = letter.isupper() or letter == "a"
    return not (apart and is_unit_or_article)


def percentage(text: str) -> str | None:
    """Return the text before a per cent sign or word at the end, None if there is none."""
    found = PERCENT.search(text)
    if found is None:
        return None
    return text[: found.start()].strip()
