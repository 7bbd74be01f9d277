"""The one place where YAML is loaded by a fast loader: one that makes plain values only, never objects of Python.

Files that may be damaged or foreign (specs, model cards) are read with `yaml.safe_load`: the fast loader has no limit
on how deep lists may be nested.
"""

from __future__ import annotations

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast, if libyaml is installed


def load(text: str) -> Any:
    """Return the value of a YAML document. Raises yaml.YAMLError if it is not valid."""
    return yaml.load(text, Loader=LOADER)
