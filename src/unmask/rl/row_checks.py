"""Shape checks of a method's return values: one row per response, and one number per response in losses and metrics.

A loss averaged over rows would train without an error, but its gradient would depend on how the buffer is split.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from torch import Tensor

from unmask.common.errors import InputError
from unmask.rl.buffer_data import leaves


def check_buffer_data(method: Any, found: Any, count: int) -> Any:
    """Return `found`, the result of a method's `prepare` for `count` responses, after checking it.

    Raises InputError unless it has the method's `buffer_type`, and tensors whose first axis runs over the responses.
    """
    if type(found) is not method.buffer_type:
        wanted = method.buffer_type.__name__
        raise InputError(f"{_name(method)}.prepare returned {_shape(found)}, not a {wanted}, its buffer_type")
    _check_tensors(method, "prepare", found, count)
    return found


def check_update_data(method: Any, found: Any, count: int) -> Any:
    """Return `found`, the result of a method's `refresh` for `count` responses, after checking it.

    Raises InputError unless it is a dataclass of tensors whose first axis runs over the responses.
    """
    if not is_dataclass(found):
        raise InputError(f"{_name(method)}.refresh returned {_shape(found)}, not a dataclass of tensors")
    _check_tensors(method, "refresh", found, count)
    return found


def _check_tensors(method: Any, function: str, found: Any, count: int) -> None:
    # Further axes are up to the method. A scalar tensor has shape[:1] == () and is caught, too.
    for name, value in leaves(found):
        if not isinstance(value, Tensor) or value.shape[:1] != (count,):
            raise InputError(
                f"{_name(method)}.{function} returned {_shape(value)} as {name!r} for {count} responses. The first "
                f"axis must run over the responses: expand shared values to [{count}, …]"
            )


def check_losses(method: object, rows: Any, metrics: Any, count: int) -> None:
    """Raise InputError unless the loss and every metric of `count` responses has one number per response."""
    if not isinstance(rows, Tensor) or rows.shape != (count,):
        raise InputError(
            f"{_name(method)}.loss returned {_shape(rows)} for {count} responses, not one per response, [{count}]. Do "
            "not average over the responses; divide each loss by rollouts.buffer_rows"
        )
    for key, value in metrics.items():
        if not isinstance(value, Tensor) or value.shape != (count,):
            raise InputError(
                f"{_name(method)}.loss returned {_shape(value)} as metric {key!r} for {count} responses, not one value "
                f"per response, [{count}]. Do not average it; the trainer averages metrics over the buffer"
            )


def _name(method: object) -> str:
    """Return the qualified name of the method's class, by which a user finds its file."""
    return f"{type(method).__module__}.{type(method).__qualname__}"


def _shape(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
