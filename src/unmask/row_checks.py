"""Checks of what a method returns: one row for each response, losses and metrics one number for each.

A mean over the rows would train as well, with a gradient that depends on how the buffer is cut into parts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unmask.files import InputError


def check_rows(method: object, function: str, found: Any, count: int) -> dict[str, Tensor]:
    """Return `found`, what `prepare` or `refresh` of a method returned for `count` responses.

    Raises InputError unless it is a dictionary of tensors whose first axis runs over the responses.
    """
    if not isinstance(found, dict):
        raise InputError(f"{_name(method)}.{function} returned {_shape(found)}, not a dictionary of tensors by name")
    for key, value in found.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (count,):
            raise InputError(
                f"{_name(method)}.{function} returned {_shape(value)} as {key!r} for {count} responses. The first axis "
                f"has to run over the responses: expand what they share to [{count}, …]"
            )
    return found


def check_losses(method: object, rows: Any, metrics: Any, count: int) -> None:
    """Raise InputError unless a loss of `count` responses, and each of its metrics, is one number a response."""
    if not isinstance(rows, Tensor) or rows.shape != (count,):
        raise InputError(
            f"{_name(method)}.loss returned {_shape(rows)} for {count} responses, not one loss for each, [{count}]. Do "
            "not average over the responses: divide each one's loss by rollouts.buffer_rows"
        )
    for key, value in metrics.items():
        if not isinstance(value, Tensor) or value.shape != (count,):
            raise InputError(
                f"{_name(method)}.loss returned {_shape(value)} as metric {key!r} for {count} responses, not one value "
                f"for each, [{count}]. The trainer averages them over the buffer"
            )


def _name(method: object) -> str:
    """The class and its module, as a reader finds it."""
    return f"{type(method).__module__}.{type(method).__qualname__}"


def _shape(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
