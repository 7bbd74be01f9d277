"""Measure how readable the sources are: the figures of docs/develop/architecture.md, and per file with --files.

python tests/helpers/measure_house.py [--files] [PATH ...]

Code lines are lines that are neither blank, nor a comment, nor part of a docstring.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# How a noun phrase or a question starts; a docstring of the field starts with a verb.
OPENING = re.compile(r"(a|an|the|what|whether|where|which|who|whose|when|how|why)\b", re.IGNORECASE)
ROOT = Path(__file__).parents[2]
SCHEMA = [*(ROOT / "src/unmask/config/schema").glob("*.py"), *(ROOT / "src/unmask/methods").glob("*.py")]
# Single words are in codespell's list; phrases are here, and tests/unit/test_language.py holds all texts against them.
WORDS = [line.partition("->")[0] for line in (ROOT / "tests/words.txt").read_text(encoding="utf-8").splitlines()]
PHRASES = {
    r"made here": "trained from scratch",
    r"whole or absent": "atomic",
    r"whole or not at all": "atomically",
    r"(go|goes|went|going) on( where|\b(?! (the|a|an|to|with|its|their)\b))": "resumes, continues",
    r"(the|a|its|another) way out": "how to fix it",
    r"stands? (there|next|in (the|a|this))": "is",
    r"hangs? on": "depends on",
    r"asks nobody": "is a no-op",
    r"at this work": "is already running this job",
}
WORD_LIST = re.compile(rf"\b({'|'.join([*WORDS, *PHRASES])})\b", re.IGNORECASE)


def docstrings(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """Yield every docstring with the module, class or function that it documents."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            constant = first.value if isinstance(first, ast.Expr) else None
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                yield node, constant


def setting_names() -> set[str]:
    """Return the name of every field of the settings classes."""
    found = set()
    for path in SCHEMA:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found |= {
                    line.target.id
                    for line in node.body
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                }
    return found


SETTINGS = setting_names()


def is_look_up(node: ast.AST) -> bool:
    """Whether an expression reads a setting by its name as a string: `run["alpha"]` or `run.get("alpha")`."""
    # Neither a value that is set, as in `metrics["gamma"] = …`, nor a type is read by name.
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) != "Literal":
        key: ast.AST | None = node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        key = node.args[0]
    else:
        return False
    return isinstance(key, ast.Constant) and key.value in SETTINGS


def measure(path: Path) -> Counter[str]:
    """Count one file: code, comments, syntax nodes, docstrings and how they start, untyped settings, listed words."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = list(docstrings(tree))
    in_docstring = {line for _, node in documented for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))

    # A comment counts when it has a line to itself: it then explains the paragraph below.
    lines = text.splitlines()
    comments = [t for t in tokens if t.type == tokenize.COMMENT and not lines[t.start[0] - 1][: t.start[1]].strip()]
    commented = {token.start[0] for token in comments}
    code = [line for i, line in enumerate(lines, 1) if line.strip() and i not in commented and i not in in_docstring]

    functions = [
        node.value.strip()
        for owner, node in documented
        if isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(node.value, str)
    ]
    return Counter(
        code=len(code),
        comments=len(comments),
        nodes=sum(isinstance(node, ast.expr | ast.stmt) for node in ast.walk(tree)),
        functions=len(functions),
        noun_first=sum(bool(OPENING.match(docstring)) for docstring in functions),
        untyped=len(re.findall(r"dict\[str, Any\]", text)),
        look_ups=sum(map(is_look_up, ast.walk(tree))),
        words=len(WORD_LIST.findall(text)),
    )


def summary(total: Counter[str]) -> dict[str, float]:
    """Turn counts into the rates of the table."""
    code = max(total["code"], 1)
    return {
        "code lines": total["code"],
        "syntax nodes per code line": round(total["nodes"] / code, 2),
        "comment lines per 1,000 code lines": round(1000 * total["comments"] / code, 1),
        "dict[str, Any] per 1,000 code lines": round(1000 * total["untyped"] / code, 1),
        "string look-ups of settings": total["look_ups"],
        "% of function docstrings that start with an article or wh-word": round(
            100 * total["noun_first"] / max(total["functions"], 1), 1
        ),
        "words of the word list": total["words"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "src"])
    parser.add_argument("--files", action="store_true", help="print a line for every file, and each listed word")
    arguments = parser.parse_args()

    total: Counter[str] = Counter()
    for path in arguments.paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            counts = measure(file)
            total += counts
            if arguments.files:
                print(file, dict(counts))
                for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                    for match in WORD_LIST.finditer(line):
                        print(f"  {file}:{number}: {match[0]} -> {line.strip()}")

    flat = sum(1 for file in (ROOT / "src/unmask").glob("*.py") if file.name != "__init__.py")
    print(f"{'flat modules':64} {flat}")
    for name, value in summary(total).items():
        print(f"{name:64} {value}")


if __name__ == "__main__":
    main()
