r"""Parsing of numbers and units as people write them: mixed numbers, powers of ten, `\text{ cm}^2`, `36 dollars`.

Numbers are parsed exactly. All functions expect the plain spelling (spelling.py).
"""

from __future__ import annotations

import re
from fractions import Fraction

# Bounded, since converting long runs of digits takes quadratic time and Python refuses thousands of them.
DIGITS = "[0-9]{1,400}"
DECIMAL = rf"(?:{DIGITS}(?:\.[0-9]{{0,400}})?|\.{DIGITS})"
SIGNED = re.compile(r"([+-]?)\s*([^+\-\s].*)", re.DOTALL)
SCIENTIFIC = re.compile(
    rf"({DECIMAL})(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*([+-]?[0-9]{{1,3}})\s*\}}?|[eE]([+-]?[0-9]{{1,3}}))?"
)
POWER_OF_TEN = re.compile(r"10\s*\^\s*(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([+-]?[0-9]{1,3}))")
# `0.\overline{3}`, `1.2\bar{6}`.
REPEATING = re.compile(rf"([0-9]{{0,400}})\.([0-9]{{0,400}})\\(?:overline|bar)\s*\{{({DIGITS})\}}")
ARGUMENT = rf"\s*(?:\{{\s*(-?\s*{DECIMAL})\s*\}}|([0-9]))"
FRACTION = rf"\\[dtc]?frac{ARGUMENT}{ARGUMENT}|(-?{DECIMAL})\s*/\s*(-?{DECIMAL})"
MIXED = re.compile(rf"({DIGITS})(?:\s*(?=\\)|\s+(?=[0-9]))({FRACTION})")
A_FRACTION = re.compile(FRACTION)

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
SCALES = {"dozen": 12, "hundred": 100} | {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE = re.compile(
    rf"(?:(?<=[0-9}}])|(?<= half))\s*(\\[a-z]+\s*\{{\s*)?({'|'.join(SCALES)})s?(?![a-zA-Z])\s*(\}})?", re.IGNORECASE
)
# Letters that do the same: `18k`, and `\$2m` where there is a currency, else `m` is metres.
SUFFIX = re.compile(r"(?<=[0-9])\s?(?:\\[a-z]+\s*\{\s*)?([kKmMbB])(?![a-zA-Z&'])\s*\}?")
SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9}
FULL_HOUR = re.compile(r"(?<![0-9:])([0-9]{1,2}):00(?![0-9:])")

CURRENCY = re.compile(r"[$€£¥₹¢]|\\(?:pounds|euro)(?![a-zA-Z])|\b(?:USD?|Rs\.?)(?=\s*[0-9])")
UNIT = re.compile(
    r"(?:/\s*)?(?:\\(?:text|math|text(?:rm|it|bf|normal)|math(?:rm|it|bf|sf)|mbox|hbox)\s*\{([^{}]*)\}"
    r"|(?<![a-zA-Z\\])([a-zA-Z][a-zA-Z./ -]*)|\^\s*\{?\s*\\circ\s*\}?|\\degree)"
    r"(?:\s*\^\s*(?:\{\s*[23]\s*\}|[23])|(?<=[a-zA-Z])[23])?\s*$"
)
PERCENT = re.compile(r"\s*(?:\\?%|(?:\\text\s*\{)?\s*(?:percent(?:age)?|pct)\s*\}?)$", re.IGNORECASE)
SPELLINGS = {
    "degree": "degree degrees deg", "cent": "cent cents ¢", "dollar": "dollar dollars usd $ bucks",
    "euro": "euro euros €",
    "inch": "in inch inches", "foot": "ft foot feet", "yard": "yd yard yards", "mile": "mi mile miles",
    "mm": "mm millimeter millimeters", "cm": "cm centimeter centimeters", "m": "m meter meters metre metres",
    "km": "km kilometer kilometers", "gram": "g gram grams", "kg": "kg kilogram kilograms",
    "pound": "lb lbs pound pounds", "ounce": "oz ounce ounces", "second": "s sec second seconds",
    "minute": "min minute minutes", "hour": "h hr hrs hour hours", "day": "day days", "week": "week weeks",
    "month": "month months", "year": "yr yrs year years", "liter": "l liter liters litre litres",
    "ml": "ml milliliter milliliters", "mg": "mg milligram milligrams", "mb": "mb megabyte megabytes",
    "gb": "gb gigabyte gigabytes", "kb": "kb kilobyte kilobytes", "tb": "tb terabyte terabytes", "hp": "hp horsepower",
    "hz": "hz hertz", "quart": "qt quart quarts", "pint": "pt pint pints", "kw": "kw kilowatt kilowatts", "mph": "mph",
    "kmh": "kph kmh", "": "unit units square sq cubic cu per",
}  # fmt: skip
ABBREVIATED = {"c", "d", "p"}  # cents, days, pence after a number of GSM8K; elsewhere they are unknowns
AGE = re.compile(r"\s*y(?:/o|\.\s?o)\b", re.IGNORECASE)
PARTS_OF_ONE = re.compile(r"\s*(?:ten|hundred|thousand|million)ths?\b", re.IGNORECASE)
ONE_WORD = {"mile/hour": "mph", "km/hour": "kmh"}
WORDS_OF_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
UNITS = {spelling: unit for unit, spellings in SPELLINGS.items() for spelling in spellings.split()}
# Words that change what the number in front of them says: no units.
MEANINGFUL = re.compile(
    "or|and|to|not|about|more|less|than|over|by|times|plus|minus|mod|base|factorial|squared|cubed|half|halves|thirds?|"
    "fourths?|fifths?|quarters?|dozen|tenths?|(?:hundred|thousand|(?:m|b|tr)illion)(?:s|ths?)?|pi|root|sqrt|log|ln|if|is|"
    "are|am|pm|remainder|choose|div"
)


def exact(text: str) -> Fraction | None:
    """Parse the whole text as a number, None if it is anything else."""
    signed = SIGNED.fullmatch(text.strip())
    if signed is None:
        return None
    value = _size(signed.group(2).rstrip())
    return -value if value is not None and signed.group(1) == "-" else value


def scaled(text: str) -> tuple[str, int]:
    """Return the text without a word such as `million` after its number, and its factor (1 if there is none)."""
    found = SCALE.search(text)
    if found is None:
        return text, 1
    command, word, closed = found.groups()
    # `1 \text{ million}` loses its command with the word; that of `1 \text{ million dollars}` holds the unit too.
    kept = "" if command and closed else command or closed or ""
    return f"{text[: found.start()]} {kept}{text[found.end() :]}".rstrip(), SCALES[word.lower()]


def readings(text: str) -> set[Fraction]:
    """Return the values that a text with one number may state, none if it has no number or several.

    A word such as `million` may count or be the unit that a question asks for: GSM8K's gold for "How many dozens of
    eggs" is 7. A letter (`18k`) counts.
    """
    letter = SUFFIX.search(text)
    if letter and (letter.group(1) not in "mb" or CURRENCY.search(text)):
        number, factor = only_number(SUFFIX.sub("", text, count=1)), SUFFIXES[letter.group(1).lower()]
        return set() if number is None else {number * factor}
    text, factor = scaled(text)
    number = only_number(text)
    return set() if number is None else {number, number * factor}


def only_number(text: str) -> Fraction | None:
    """Return the only number in a text, whatever surrounds it; None if there is no number or several."""
    text = CURRENCY.sub("", text).strip()
    text = AND_A_HALF.sub(lambda found: PARTS[found.group(1).lower()], AND_A_FRACTION.sub(" ", text))
    value = exact(text)
    if value is not None:
        return value
    text = FULL_HOUR.sub(r"\1", EXPONENT_OF_UNIT.sub("", MINUS.sub("-", text)))
    if OTHER_NUMBER.search(text) or any(sign.isdigit() and not sign.isascii() for sign in text):
        return None
    numbers = list(STATED.finditer(text))
    if any(_is_factor(text, number.end()) for number in numbers):
        return None
    found = {exact(number.group().replace(",", "")) for number in numbers}
    return found.pop() if len(found) == 1 else None


def _is_factor(text: str, end: int) -> bool:
    """Return True if a number that ends there is multiplied: by a letter that is no unit (`18x`), or `5 hundredths`."""
    if PARTS_OF_ONE.match(text, end):
        return True
    if AGE.match(text, end):
        return False
    following = WORD.match(text, end)
    if following is None or ENDING.match(text, following.start(3)):
        return False
    word, apart = following.group(3), following.group(1) or following.group(2)
    if len(word) == 1:
        # A capital that touches a number is an unknown (GSM8K's solutions have `6W = 30`), except for litres. Apart it
        # is a unit that the list lacks, as in `18 C`. `18 a day` has an article.
        return (
            word not in UNITS
            and word not in ABBREVIATED
            and word != "L"
            and not (apart and (word.isupper() or word == "a"))
        )
    return not apart and word.lower() not in UNITS and (len(word) == 2 or bool(MEANINGFUL.fullmatch(word.lower())))


def without_unit(text: str) -> tuple[str, str]:
    """Return the text without currency and units, and the unit, `cm^2`; only its power if the unit is unknown."""
    currency = CURRENCY.search(text)
    rest, unit = CURRENCY.sub("", text).strip(), UNITS.get(currency.group().lower(), "") if currency else ""
    power = ""

    # Strip units from the right, one at a time: `5 \text{ miles}/\text{hour}` has two.
    while found := UNIT.search(rest):
        before = rest[: found.start()]
        words = re.findall("[a-z]+", (found.group(1) or found.group(2) or "").lower())
        if not words and re.search("[23]", found.group()):  # a power of degrees
            break
        if not before.strip() or not _is_unit(words, before, bare=found.group(2) is not None):
            break
        known = [UNITS[word] for word in words if UNITS.get(word)] if words else ["degree"]
        powers = [WORDS_OF_POWERS[word] for word in words if word in WORDS_OF_POWERS]
        power = (re.findall("[23]", found.group()) + powers + [power])[0]
        rest, unit = before.rstrip(), "/".join(known) or unit
    return rest, ONE_WORD.get(unit, unit) + (f"^{power}" if power else "")


def differ(unit: str, other: str) -> bool:
    """Return True if two units of `without_unit` exclude each other. A missing unit or power excludes none."""
    pairs = zip(unit.split("^"), other.split("^"), strict=False)
    return any(one and another and one != another for one, another in pairs)


def _is_unit(words: list[str], before: str, *, bare: bool) -> bool:
    """Return True if the words after a quantity are its unit. `bare`: they are not in a text command."""
    # A single letter is a variable unless it is a known unit.
    if any(MEANINGFUL.fullmatch(word) or (len(word) == 1 and word not in UNITS) for word in words):
        return False

    # Words in a text command, and known units of several letters, may follow anything. Other words must be apart from
    # a number, since `3ab` is a product.
    if not bare or all(word in UNITS and len(word) > 1 for word in words):
        return True
    after_number = before[-1].isspace() and exact(before) is not None
    return after_number and all(word in UNITS or len(word) > 2 for word in words)


def percentage(text: str) -> str | None:
    """Return the text before a per cent sign or word at the end, None if there is none."""
    found = PERCENT.search(text)
    return text[: found.start()].strip() if found else None


def _size(text: str) -> Fraction | None:
    """Parse a number without a sign, None if the text is anything else."""
    if found := SCIENTIFIC.fullmatch(text):
        return _decimal(found.group(1)) * Fraction(10) ** int(found.group(2) or found.group(3) or 0)
    if found := POWER_OF_TEN.fullmatch(text):
        return Fraction(10) ** int(found.group(1) or found.group(2))
    if A_FRACTION.fullmatch(text):
        return _fraction(text)
    # A mixed number has a proper fraction: `2 3/2` is not one.
    if found := MIXED.fullmatch(text):
        part = _fraction(found.group(2))
        return int(found.group(1)) + part if part is not None and 0 < part < 1 else None
    if found := REPEATING.fullmatch(text):
        whole, fixed, period = found.groups()
        return _decimal(f"{whole}.{fixed}") + Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1))
    return None


def _fraction(text: str) -> Fraction | None:
    """Return the value of a fraction, None if it divides by zero."""
    found = A_FRACTION.fullmatch(text)
    assert found is not None
    top, bottom = (_decimal(part) for part in found.groups() if part)
    return top / bottom if bottom else None


def _decimal(text: str) -> Fraction:
    digits = text.replace("-", "").strip()
    size = Fraction(f"0{digits}0" if "." in digits else digits)
    return -size if "-" in text else size
