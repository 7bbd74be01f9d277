"""Error that lists every problem of a configuration."""

from __future__ import annotations


class ConfigError(ValueError):
    """All mistakes in a configuration, one line each, in `lines` and in the message."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        count = f"{len(self.lines)} mistake{'s' if len(self.lines) > 1 else ''}"
        super().__init__("\n".join([f"config.yaml has {count}:", *(f"  - {line}" for line in self.lines)]))
