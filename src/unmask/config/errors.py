"""Error that lists every problem of a configuration."""

from __future__ import annotations


class ConfigError(ValueError):
    """All mistakes in a configuration, one line each, in `lines` and in the message."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        super().__init__(listed("config.yaml", self.lines))


def listed(file: str, lines: list[str]) -> str:
    """Return the message for the mistakes of a file."""
    count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    return "\n".join([f"{file} has {count}:", *(f"  - {line}" for line in lines)])
