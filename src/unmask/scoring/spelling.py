r"""Plain spelling of answers: normalised signs, operators, thousands, markdown and LaTeX decoration.

`−3`, `10\,000` and `**3**` are rewritten here for all tasks; other modules interpret the result. Digits of other
scripts are kept, so that they are rejected later.
"""

from __future__ import annotations

import re

LONGEST = 1000  # characters; longer answers are not read
SYMBOLS = str.maketrans(
    dict.fromkeys("−–‒—‐‑﹣", "-") | dict.fromkeys("×✕✖⨯", "\\times ") | dict.fromkeys("·⋅∙•∗", "\\cdot ")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ") | dict.fromkeys("“”", '"') | dict.fromkeys("‘’", "'")
    | {"÷": "\\div ", "⁄": "/", "∕": "/", "π": "\\pi ", "θ": "\\theta ", "∞": "\\infty ", "±": "\\pm ", "°": "^\\circ ",
       "º": "^\\circ ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ", "φ": "\\phi ",
       "ω": "\\omega ", "＋": "+", "－": "-", "＊": "*", "／": "/", "＝": "=", "（": "(", "）": ")",
       "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
       "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}",
       "⅕": "\\frac{1}{5}", "⅛": "\\frac{1}{8}"}
)  # fmt: skip
RAISED, LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "₀₁₂₃₄₅₆₇₈₉"
SCRIPTS = str.maketrans(RAISED + LOWERED, "0123456789-0123456789")
RUNS_OF_SCRIPTS = (("^", re.compile(f"[{RAISED}]+")), ("_", re.compile(f"[{LOWERED}]+")))

SIGN_OF_ROOT = re.compile(r"√\s*([0-9]+|[a-zA-Z])?")
# `{-}3`, a unary minus without the spacing of an operator.
BRACED_SIGN = re.compile(r"(?<![_^a-zA-Z])\{\s*([-+])\s*\}")
# `{}` is decoration unless it is the argument of a command, a power or an index.
EMPTY_GROUP = re.compile(r"(?<![\\_^a-zA-Z}\]{])\{\}")
# `30^o` for degrees.
RAISED_O = re.compile(r"(?<=[0-9])\s*\^\s*(?:\{\s*o\s*\}|o)(?![a-zA-Z])")
# `\right.` closes a bracket invisibly, so its dot goes too.
LAYOUT = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|strut)(?![a-zA-Z])\.?")
MATH_MODE = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
# Type face around numbers is decoration; around letters it may be a unit or a word, which other modules read.
STYLED = re.compile(
    r"\\(?:(?:text|math|bold|m|f|h)?(?:bf|rm|it|tt|sf|normal|symbol|box|text)|underline)\s*\{([^{}a-zA-Z]*)\}"
)
WRAPPED = re.compile(r"\s*(?:(\*\*|\*|__|```|`|\"|')(.*)\1|\\?f?boxed\s*\{(.*)\})\s*", re.DOTALL)
INTRODUCTION = re.compile(
    r"\s*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result|expression|solution)(?:\s+is)?\s*(?::|(?<=is)\s)\s*", re.I
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
    text = SIGN_OF_ROOT.sub(lambda found: f"\\sqrt{{{found.group(1)}}}" if found.group(1) else "\\sqrt", text)
    text = EMPTY_GROUP.sub("", BRACED_SIGN.sub(r"\1", RAISED_O.sub(r"^\\circ ", text)))
    text = STYLED.sub(r"\1", LAYOUT.sub("", MATH_MODE.sub("", text))).replace("\\$", "$")
    return _unwrapped(SPACE.sub(" ", _joined_thousands(text, commas)))


def _unwrapped(text: str) -> str:
    """Strip an introduction, the end of a sentence, and bold, code, quotes or a box around the whole text."""
    # Decoration nests in any order (`**The answer is "3".**`), so repeat until nothing changes.
    before = None
    while before != text:
        before = text
        text = ENDING.sub("", INTRODUCTION.sub("", text, count=1).strip())
        found = WRAPPED.fullmatch(text)
        if found:
            text = found.group(2) if found.group(1) else found.group(3)
    return text


def _joined_thousands(text: str, commas: bool) -> str:
    r"""Remove the separators of thousands from `58\,500`, `10 000` and, outside of brackets, `58,500`."""
    text = THOUSANDS.sub(lambda found: re.sub("[^0-9]", "", found.group()), text)
    # In brackets a comma separates the items of a tuple or set: `(1,200)` has two.
    if not commas or text.lstrip().startswith(("(", "[", "{", "\\{")):
        return text
    return COMMAS.sub(lambda found: found.group().replace(",", ""), text)
