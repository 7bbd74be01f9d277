"""Reading config.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[3] / "config.yaml"


def load_config() -> dict[str, Any]:
    """Return the settings of the project's config.yaml, as read and not yet checked."""
    settings: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return settings
