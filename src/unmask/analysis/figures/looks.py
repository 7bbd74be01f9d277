"""Names and looks of the lines of a figure: one colour, marker and dash for each method and variant.

A method looks the same in every figure. Where several variants of it are drawn, the one at the method's own settings
has that look and is named by them, such as `DMPO (baseline group)`; each of the others has a colour, a marker and a
dash that no line of the figure has yet. tests/unit/analysis/test_looks.py computes how far apart the colours are.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from unmask.analysis.frames import by_policy
from unmask.common.catalogue import setting_name, without_common
from unmask.methods import Dash, Look, method_look, method_name

# Told apart with normal and with deficient colour vision (CIEDE2000 ≥ 12), with a contrast to white of 3:1 or more.
# The colours of DMPO and diffu-GRPO, and black of the base model, are last: variants take the first free ones.
PALETTE = (
    "#990055",
    "#009988",
    "#AA77FF",
    "#446600",
    "#FF3388",
    "#442200",
    "#1155BB",
    "#BB8833",
    "#000000",
)
MARKERS = ("^", "v", "o", "P", "X", "p", "h", "d", ">", "s", "D")
# In units of the line's width: drawn and left out.
DASHES: dict[Dash, Any] = {
    "solid": "-",
    "dashed": (0, (4, 1.5)),
    "dotted": (0, (1, 1)),
    "dash-dotted": (0, (5, 1.5, 1, 1.5)),
    "long-dashed": (0, (8, 2)),
    "dash-dot-dotted": (0, (5, 1.5, 1, 1.5, 1, 1.5)),
    "sparsely dotted": (0, (1, 2.5)),
}
Policy = tuple[str, str]  # method and variant


class Line(NamedTuple):
    """Line of a figure: its name in the legend, and how it is drawn."""

    name: str
    look: Look


def lines_of(frame: pd.DataFrame, metrics: pd.DataFrame) -> dict[Policy, Line]:
    """Return the line of each method and variant of a frame; settings of the runs are read from their metrics."""
    policies = [(method, variant) for method, variant, _ in by_policy(frame)]
    settings = settings_of(metrics)
    names: dict[Policy, str] = {}
    own = []
    for method in dict.fromkeys(method for method, _ in policies):
        variants = [variant for of_method, variant in policies if of_method == method]
        shortened = without_common(variants)
        for variant, name in _names(method, variants, shortened, settings).items():
            names[method, variant] = name
        # The variant at the method's own settings, but for those that all variants have.
        first = variants[shortened.index("default")] if "default" in shortened else variants[0]
        own.append((method, first))

    looks = looks_of(policies, own)
    return {policy: Line(names[policy], looks[policy]) for policy in policies}


def settings_of(metrics: pd.DataFrame) -> dict[Policy, dict[str, str]]:
    """Return the settings of each method and variant as text; those that differ between its runs are `by task`."""
    found: dict[Policy, dict[str, str]] = {}
    if "settings" not in metrics:
        return found
    for method, variant, rows in by_policy(metrics):
        settings: dict[str, str] = {}
        for text in rows["settings"].unique():
            for key, value in json.loads(text).items():
                same = settings.setdefault(key, str(value)) == str(value)
                settings[key] = str(value) if same else "by task"
        found[method, variant] = settings
    return found


def _names(
    method: str,
    variants: list[str],
    shortened: list[str],
    settings: dict[Policy, dict[str, str]],
) -> dict[str, str]:
    """Name the variants of a method by all settings in which some of them differ."""
    if len(variants) == 1:
        return {variants[0]: method_name(method, variants[0])}
    changed = [_changed(variant) for variant in shortened]
    keys = dict.fromkeys(key for one in changed for key in one)
    names = {}
    for variant, own in zip(variants, changed, strict=True):
        known = {"trained_on": "the task itself"} | settings.get((method, variant), {}) | own
        parts = [setting_name(key, known[key]) for key in keys if key in known]
        names[variant] = f"{method_name(method)} ({', '.join(parts) or 'default'})"
    return names


def _changed(variant: str) -> dict[str, str]:
    """Return the settings that a variant changes: `baseline~none` -> {"baseline": "none"}."""
    pairs = [part.partition("~") for part in variant.split("+")]
    return {key: value for key, tilde, value in pairs if tilde}


def looks_of(policies: list[Policy], own: list[Policy]) -> dict[Policy, Look]:
    """Return a look for each policy: the method's for those in `own`, for the others what is not taken yet."""
    found = {policy: method_look(policy[0]) for policy in own}
    taken = list(found.values())
    colours = itertools.cycle(_free(PALETTE, [look.colour for look in taken]))
    markers = itertools.cycle(_free(MARKERS, [look.marker for look in taken]))
    dashes = itertools.cycle(_free(DASHES, [look.dash for look in taken]))
    for method, variant in policies:
        if (method, variant) not in found:
            found[method, variant] = Look(method, next(colours), next(markers), next(dashes))
    return found


def _free(values: Iterable[Any], taken: list[Any]) -> list[Any]:
    """Return the values that are not taken, then the others: with many lines, a part of their looks repeats."""
    return sorted(values, key=lambda value: value in taken)
