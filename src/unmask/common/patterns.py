"""Regular expressions for wildcards that stand for one of many names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable


def one_of(names: Iterable[str]) -> str:
    """Return a regular expression that matches exactly these names; for no names, one that never matches.

    Names with the same set of last components, such as the seeds of runs, share it. At laptop scale this makes the
    expression for all runs an eighth as long as a plain alternation, and Snakemake compiles it once for each file.
    """
    lasts: defaultdict[str, set[str]] = defaultdict(set)
    whole = set()
    for name in names:
        head, slash, last = name.rpartition("/")
        if slash:
            lasts[head].add(last)
        else:
            whole.add(last)

    heads: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for head, found in lasts.items():
        heads[tuple(sorted(found))].append(head)
    parts = [f"{_any_of(some)}/{_any_of(found)}" for found, some in heads.items()]
    parts += map(re.escape, sorted(whole))
    return f"(?:{'|'.join(parts)})" if parts else "(?!)"


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, words))})"
