"""Text in the header of a PNG file."""

from __future__ import annotations

DESCRIPTION = b"tEXtDescription\0"  # type and keyword of the block, after four bytes of its length


def description(data: bytes) -> str:
    """Return the description in a PNG file; empty if it has none."""
    start = data.find(DESCRIPTION)
    if start < 0:
        return ""
    length = int.from_bytes(data[start - 4 : start])
    text = data[start + len(DESCRIPTION) : start + len(b"tEXt") + length]
    return text.decode("latin-1")
