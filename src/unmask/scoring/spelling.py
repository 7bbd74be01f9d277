r"""Plain spelling of answers: normalised signs, operators, thousands, markdown and LaTeX decoration.

`−3`, `10\,000` and `**3**` are rewritten here for all tasks; other modules interpret the result. Digits of other
scripts are kept, so that they are rejected later.
"""

from __future__ import annotations

import re

LONGEST = 1000  # characters; longer answers are not read
# Characters -> their plain spelling.
SPELLINGS = {
    "−–‒—‐‑﹣－": "-",
    "＋": "+",
    "＊": "*",
    "⁄∕／": "/",
    "＝": "=",
    "（": "(",
    "）": ")",
    "\u00a0\u2007\u2009\u202f": " ",
    "“”": '"',
    "‘’": "'",
    "×✕✖⨯": "\\times ",
    "·⋅∙•∗": "\\cdot ",
    "÷": "\\div ",
    "±": "\\pm ",
    "≤⩽": "\\le ",
    "≥⩾": "\\ge ",
    "≠": "\\ne ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "∞": "\\infty ",
    "°º": "^\\circ ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "γ": "\\gamma ",
    "θ": "\\theta ",
    "λ": "\\lambda ",
    "π": "\\pi ",
    "φ": "\\phi ",
    "ω": "\\omega ",
    "½": "\\frac{1}{2}",
    "⅓": "\\frac{1}{3}",
    "⅔": "\\frac{2}{3}",
    "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}",
    "⅕": "\\frac{1}{5}",
    "⅛": "\\frac{1}{8}",
}
SYMBOLS = str.maketrans({sign: spelling for signs, spelling in SPELLINGS.items() for sign in signs})
RAISED, LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "₀₁₂₃₄₅₆₇₈₉"
SCRIPTS = str.maketrans(RAISED + LOWERED, "0123456789-0123456789")
RUNS_OF_SCRIPTS = (("^", re.compile(f"[{RAISED}]+")), ("_", re.compile(f"[{LOWERED}]+")))

# Patterns and their plain spelling, in the order in which they are applied.
REWRITES = (
    (re.compile(r"√\s*([0-9]+|[a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*"), r"\\sqrt"),
    # `30^o` for degrees.
    (re.compile(r"(?<=[0-9])\s*\^\s*(?:\{\s*o\s*\}|o)(?![a-zA-Z])"), r"^\\circ "),
    # `{-}3`, a unary minus without the spacing of an operator.
    (re.compile(r"(?<![_^a-zA-Z])\{\s*([-+])\s*\}"), r"\1"),
    # `{}` is decoration unless it is the argument of a command, a power or an index.
    (re.compile(r"(?<![\\_^a-zA-Z}\]{])\{\}"), ""),
    # Delimiters of math mode.
    (re.compile(r"(?<!\\)(?:\$|\\[()\[\]])"), ""),
    # `\right.` closes a bracket invisibly, so its dot goes too.
    (
        re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|strut)(?![a-zA-Z])\.?"),
        "",
    ),
    # Type face around numbers is decoration; around letters it may be a unit or a word, which other modules read.
    (
        re.compile(
            r"\\(?:(?:text|math|bold|m|f|h)?(?:bf|rm|it|tt|sf|normal|symbol|box|text)|underline)\s*\{([^{}a-zA-Z]*)\}"
        ),
        r"\1",
    ),
)
WRAPPED = re.compile(r"\s*(?:(\*\*|\*|__|```|`|\"|')(.*)\1|\\?f?boxed\s*\{(.*)\})\s*", re.DOTALL)
INTRODUCTION = re.compile(
    r"\s*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result|expression|solution)(?:\s+is)?\s*(?::|(?<=is)\s)\s*",
    re.I,
)
# The end of a sentence, but not of an ellipsis.
ENDING = re.compile(r"(?:(?<!\.)\.|[,;]|\\\\)$")
# LaTeX's separators of thousands. All groups but the first have three digits, and the first does not start with 0.
SEPARATOR = r"(?:\{,\}|,\\!|\\!,|\\[,!;: ]|~)\s?"
THOUSANDS = re.compile(rf"(?<![0-9.])[1-9][0-9]{{0,2}}(?:(?:{SEPARATOR}|[ '])[0-9]{{3}})+(?![0-9])")
COMMAS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])")
SPACE = re.compile(r"(?<!\\)\\[,!;: \n]|~|\\q?quad(?![a-zA-Z])|\s+")


def plain(text: str, *, commas: bool = True) -> str:
    """Return the text in its plain spelling. With `commas`, a comma before three digits separates thousands."""
    text = text.translate(SYMBOLS)

    # Runs first: `x¹²` is `x^{12}`, and translating single characters would lose where an exponent begins.
    for sign, run in RUNS_OF_SCRIPTS:
        text = run.sub(rf"{sign}{{\g<0>}}", text)
    text = text.translate(SCRIPTS)
    for pattern, spelling in REWRITES:
        text = pattern.sub(spelling, text)
    text = text.replace("\\$", "$")
    text = _joined_thousands(text, commas)
    return _unwrapped(SPACE.sub(" ", text))


def _unwrapped(text: str) -> str:
    """Strip an introduction, the end of a sentence, and bold, code, quotes or a box around the whole text."""
    # Decoration nests in any order (`**The answer is "3".**`), so repeat until nothing changes.
    before = None
    while before != text:
        before = text
        text = INTRODUCTION.sub("", text, count=1).strip()
        text = ENDING.sub("", text)
        found = WRAPPED.fullmatch(text)
        if found:
            decoration, decorated, boxed = found.groups()
            text = decorated if decoration else boxed
    return text


def _joined_thousands(text: str, commas: bool) -> str:
    r"""Remove the separators of thousands from `58\,500`, `10 000` and, outside of brackets, `58,500`."""
    text = THOUSANDS.sub(_digits, text)
    # In brackets a comma separates the items of a tuple or set: `(1,200)` has two.
    in_brackets = text.lstrip().startswith(("(", "[", "{", "\\{"))
    if in_brackets or not commas:
        return text
    return COMMAS.sub(_digits, text)


def _digits(number: re.Match[str]) -> str:
    return re.sub("[^0-9]", "", number.group())
