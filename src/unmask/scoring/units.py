r"""Units and currencies after a number: `\text{ cm}^2`, `36 dollars`, `5 miles per hour`.

All functions expect the plain spelling (spelling.py).
"""

from __future__ import annotations

import re

from unmask.scoring.exact_numbers import exact

CURRENCY = re.compile(r"[$€£¥₹¢]|\\(?:pounds|euro)(?![a-zA-Z])|\b(?:USD?|Rs\.?)(?=\s*[0-9])")
UNIT = re.compile(
    r"(?:/\s*)?(?:\\(?:text|math|text(?:rm|it|bf|normal)|math(?:rm|it|bf|sf)|mbox|hbox)\s*\{([^{}]*)\}"
    r"|(?<![a-zA-Z\\])([a-zA-Z][a-zA-Z./ -]*)|\^\s*\{?\s*\\circ\s*\}?|\\degree)"
    r"(?:\s*\^\s*(?:\{\s*[23]\s*\}|[23])|(?<=[a-zA-Z])[23])?\s*$"
)
# Name of a unit -> how it is spelt. The words of the last row name no unit, or only qualify another one.
SPELLINGS = {
    "degree": "degree degrees deg",
    "cent": "cent cents ¢",
    "dollar": "dollar dollars usd $ bucks",
    "euro": "euro euros €",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yard yards",
    "mile": "mi mile miles",
    "mm": "mm millimeter millimeters",
    "cm": "cm centimeter centimeters",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers",
    "gram": "g gram grams",
    "kg": "kg kilogram kilograms",
    "pound": "lb lbs pound pounds",
    "ounce": "oz ounce ounces",
    "second": "s sec second seconds",
    "minute": "min minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "liter": "l liter liters litre litres",
    "ml": "ml milliliter milliliters",
    "mg": "mg milligram milligrams",
    "mb": "mb megabyte megabytes",
    "gb": "gb gigabyte gigabytes",
    "kb": "kb kilobyte kilobytes",
    "tb": "tb terabyte terabytes",
    "hp": "hp horsepower",
    "hz": "hz hertz",
    "quart": "qt quart quarts",
    "pint": "pt pint pints",
    "kw": "kw kilowatt kilowatts",
    "mph": "mph",
    "kmh": "kph kmh",
    "": "unit units square sq cubic cu per",
}
UNITS = {spelling: unit for unit, spellings in SPELLINGS.items() for spelling in spellings.split()}
ONE_WORD = {"mile/hour": "mph", "km/hour": "kmh"}
WORDS_OF_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
# Words that change what the number in front of them says: no units.
MEANINGFUL = re.compile(
    "or|and|to|not|about|more|less|than|over|by|times|plus|minus|mod|base|factorial|squared|cubed|half|halves|thirds?|"
    "fourths?|fifths?|quarters?|dozen|tenths?|(?:hundred|thousand|(?:m|b|tr)illion)(?:s|ths?)?|pi|root|sqrt|log|ln|if|is|"
    "are|am|pm|remainder|choose|div"
)


def without_unit(text: str) -> tuple[str, str]:
    """Return the text without currency and units, and the unit, `cm^2`; only its power if the unit is unknown."""
    currency = CURRENCY.search(text)
    unit = UNITS.get(currency.group().lower(), "") if currency else ""
    rest = CURRENCY.sub("", text).strip()
    power = ""

    # Strip units from the right, one at a time: `5 \text{ miles}/\text{hour}` has two.
    while found := UNIT.search(rest):
        in_command, bare = found.groups()
        words = re.findall("[a-z]+", (in_command or bare or "").lower())
        digits = re.findall("[23]", found.group())
        if digits and not words:  # a power of degrees
            break
        before = rest[: found.start()]
        if not before.strip() or not _is_unit(words, before, bare=bare is not None):
            break

        # A power may be a digit or a word; if there is none, that of a unit further right counts.
        named = [WORDS_OF_POWERS[word] for word in words if word in WORDS_OF_POWERS]
        power = [*digits, *named, power][0]
        unit = _unit_of(words) or unit
        rest = before.rstrip()

    unit = ONE_WORD.get(unit, unit)
    return rest, f"{unit}^{power}" if power else unit


def _unit_of(words: list[str]) -> str:
    """Return the unit that some words name, `mile/hour`; "" if they are unknown."""
    if not words:  # only the sign for degrees has no words
        return "degree"
    known = [UNITS[word] for word in words if UNITS.get(word)]
    return "/".join(known)


def differ(unit: str, other: str) -> bool:
    """Return True if two units of `without_unit` exclude each other. A missing unit or power excludes none."""
    pairs = zip(unit.split("^"), other.split("^"), strict=False)
    return any(one and another and one != another for one, another in pairs)


def _is_unit(words: list[str], before: str, *, bare: bool) -> bool:
    """Return True if the words after a quantity are its unit. `bare`: they are not in a text command."""
    for word in words:
        if MEANINGFUL.fullmatch(word):
            return False
        # A single letter is a variable unless it is a known unit.
        if len(word) == 1 and word not in UNITS:
            return False

    # Words in a text command, and known units of several letters, may follow anything. Other words must be apart from
    # a number, since `3ab` is a product.
    if not bare or all(word in UNITS and len(word) > 1 for word in words):
        return True
    after_number = before[-1].isspace() and exact(before) is not None
    return after_number and all(word in UNITS or len(word) > 2 for word in words)
