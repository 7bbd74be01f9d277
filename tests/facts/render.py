"""The tables of docs/method/fidelity.md: what the papers and the released codes have, what is done here, and why.

`make fidelity` writes them between their markers, and a test fails when they are out of date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from facts.effective import TASKS, Place, Settings, effective_settings, load_facts, places
from unmask.common.atomic import atomic_write

DOCUMENT = Path(__file__).parents[2] / "docs" / "method" / "fidelity.md"
MARKERS = "<!-- tables: written by make fidelity -->", "<!-- end of the tables -->"
SECTIONS = {
    "DMPO": ("dmpo", "dmpo_sft"),
    "diffu-GRPO and d1": ("diffu_grpo", "d1"),
    "SFT on s1K": ("sft",),
    "coupled-GRPO": ("coupled_grpo",),
    "DiFFPO": ("diffpo",),
    "ESPO": ("espo",),
    "wd1": ("wd1",),
    "GDPO": ("gdpo",),
    "SPG": ("spg", "spg_eubo"),
    "StableDRL": ("stable_drl",),
    "GDSD": ("gdsd",),
    "EGSPO": ("egspo", "egspo_sa"),
    "JustGRPO": ("just_grpo",),
    "Evaluation": ("evaluation",),
}
COLUMNS = ["setting", "for", "paper", "released code", "ours (`corrected`)", "why, and how a value was converted"]


def tables() -> str:
    """All tables, a section for each group of methods."""
    ours = effective_settings("corrected")
    facts = {preset: load_facts(preset) for preset in ("paper", "released")}
    parts = []
    for title, methods in SECTIONS.items():
        rows = _rows(methods, facts, ours)
        parts.append("\n".join([f"### {title}\n", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows]))
    return "\n\n".join(parts)


def _rows(methods: tuple[str, ...], facts: dict[str, list[dict[str, Any]]], ours: dict[Place, Settings]) -> list[str]:
    """A row for each setting and each group of methods and tasks that agree in it; first where sources disagree."""
    found: dict[tuple[str, ...], list[Place]] = {}
    agree: dict[str, bool] = {}
    everywhere = [place for place in ours if place[0] in methods]
    settings = [fact["setting"] for preset in facts.values() for fact in preset if set(methods) & set(fact["methods"])]
    for setting in dict.fromkeys(settings):
        for place in everywhere:
            about = {
                preset: [fact for fact in some if fact["setting"] == setting and place in places(fact)]
                for preset, some in facts.items()
            }
            if about["paper"] or about["released"]:
                found.setdefault((setting, *_cells(about, ours[place].get(setting))), []).append(place)
                values = [fact["value"] for some in about.values() for fact in some]
                agree[setting] = agree.get(setting, True) and all(value == ours[place].get(setting) for value in values)
    found = dict(sorted(found.items(), key=lambda row: agree[row[0][0]]))
    return [
        f"| `{setting}` | {_whom(where, everywhere, setting)} | {' | '.join(cells)} |"
        for (setting, *cells), where in found.items()
    ]


def _cells(about: dict[str, list[dict[str, Any]]], ours: Any) -> tuple[str, ...]:
    """What the paper says, what the code does, what is done here, and the remarks on both."""
    cells = ["; ".join(dict.fromkeys(_source(fact) for fact in about[preset])) or "–" for preset in about]
    remarks = []
    for fact in (fact for some in about.values() for fact in some):
        remarks += [fact.get("note", "")]
        remarks += [f"{'`released`' if 'choice' in fact else 'ours'}: {fact['why']}" if "why" in fact else ""]
        remarks += [f"`{_preset(fact)}` differs: {fact['differs']}" if "differs" in fact else ""]
    return (*cells, _shown(ours), "; ".join(dict.fromkeys(filter(None, remarks))))


def _preset(fact: dict[str, Any]) -> str:
    return "paper" if "paper" in fact else "released"


def _source(fact: dict[str, Any]) -> str:
    """A fact's value with its place in a paper or in a repository."""
    value = _shown(fact["value"])
    if "paper" in fact:
        return f"{value} ({fact['place']})"
    if "code" not in fact:
        return f"{value} (our choice)"
    place = f"{fact['repository']}/blob/{fact['commit'][:7]}/{fact['file']}#L{fact['line']}"
    return f"{value} ([{fact['file'].rpartition('/')[2]}:{fact['line']}](https://github.com/{place}))"


def _shown(value: Any) -> str:
    if value in (None, ""):
        return "–"
    if isinstance(value, list):
        return _listed(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text.replace('e-0', 'e-')}`"


def _whom(where: list[Place], everywhere: list[Place], setting: str) -> str:
    """Which of the section's methods and tasks a row is about; nothing for all of them."""
    task = re.match(r"tasks\.(\w+)\.", setting)
    if where == [place for place in everywhere if not task or place[1] in (task[1], "", "s1k")]:
        return ""
    tasks: dict[str, list[str]] = {}
    for method, name in where:
        tasks.setdefault(method, []).append(name)
    parts = []
    for some in dict.fromkeys(map(tuple, tasks.values())):
        methods = [method for method in tasks if tuple(tasks[method]) == some]
        named = [] if task or len(some) == len(TASKS) else list(some)
        whole = len(methods) == len({method for method, _ in everywhere})
        parts.append(" on ".join(_listed(names) for names in ([] if whole else methods, named) if names))
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{one}`" for one in names)


def rendered() -> str:
    """The document with its tables as they should be."""
    return between(DOCUMENT, MARKERS, tables())


def between(document: Path, markers: tuple[str, str], tables: str) -> str:
    """A document with the tables between its markers."""
    before, _, rest = document.read_text(encoding="utf-8").partition(markers[0])
    _, _, after = rest.partition(markers[1])
    return f"{before}{markers[0]}\n\n{tables}\n\n{markers[1]}{after}"


if __name__ == "__main__":
    text = rendered()
    with atomic_write(DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")
