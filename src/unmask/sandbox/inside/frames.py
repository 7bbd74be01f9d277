"""Messages on a pipe: a length of four bytes, then JSON. Both sides of the sandbox use this form.

This file runs inside the sandbox and imports nothing of the project.
"""

from __future__ import annotations

import json
import os
from typing import Any

HEADER = 4  # bytes of a message's length, big-endian


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as the bytes of a frame."""
    body = json.dumps(message).encode()
    return len(body).to_bytes(HEADER, "big") + body


def write(descriptor: int, message: dict[str, Any]) -> None:
    """Write a message; blocks until the other side has room."""
    left = memoryview(pack(message))
    while left:
        left = left[os.write(descriptor, left) :]


def read(descriptor: int) -> dict[str, Any] | None:
    """Read a message; None at the end of the pipe."""
    header = _exactly(descriptor, HEADER)
    if header is None:
        return None
    body = _exactly(descriptor, int.from_bytes(header, "big"))
    return None if body is None else json.loads(body)


def _exactly(descriptor: int, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        part = os.read(descriptor, size - len(found))
        if not part:
            return None
        found += part
    return found
