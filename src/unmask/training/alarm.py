"""Collapse alarm of a training run: what in its metrics says that it has broken down. It only warns.

The alarm is a function of the rows of metrics alone, so that a resumed run raises it like an uninterrupted one. It
compares windows of consecutive buffers: the last one with the first one, and with the one before in which the metric
was best. `common/alarms.py` describes the causes; the column `alarm` of metrics.csv is their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmask.common import distributed
from unmask.common.alarms import MEANINGS, Cause, name_of
from unmask.config.specs import RunSpec

# Buffers of a window. With 64 responses in a buffer, an accuracy over 8 has a standard error of about two points.
WINDOW = 8
# A fall in standard errors of the difference of two windows. Six, because the best window is chosen among many: a
# curve of noise alone falls by four of them at some time in a third of runs of 500 buffers, and by six in one of 2,000.
STANDARD_ERRORS = 6.0
# Share of the gain since the first window whose loss is a fall: healthy runs level off, and give back a little.
LOST = 0.5
# Factor of the length. A policy that learns a task often halves its responses, so this counts only with a fall.
LONGER = 2.0
# Effective responses of a group, between 1 and G: below this, one response decides the group's gradient.
FEWEST_RESPONSES = 1.5
# The same for weights of tokens, whose number varies: less than one in ten counts.
FEWEST_TOKENS = 0.1
# Share of clipped ratios at the last update of a buffer, where it is largest: less than one in ten has a gradient.
# Published settings stay far below, but for a clip of ±0.0004, where this is the case by design.
CLIPPED = 0.9
CLIPPED_COLUMNS = ("clipped", "threshold_clipped", "clamped")
# A trap of partial credit: this share of responses is wrong but paid, this much more than at the start, …
PAID = 0.8
MORE_PAID = 0.1
# … and this share of groups has equal rewards. Graded rewards, as on Sudoku, pay wrong boards too but differ.
FLAT = 0.5

Rows = Sequence[Mapping[str, Any]]  # metrics, a row per update
Values = NDArray[np.float64]  # of one metric, a value per buffer


def mark(run: RunSpec, rows: list[dict[str, Any]]) -> None:
    """Add the column `alarm` to the last row; print one warning line if it has causes that no row before had."""
    settings = run.training
    found = causes(rows, settings.updates_per_buffer, settings.group_size)
    rows[-1]["alarm"] = int(found)
    if not found:
        return

    # Rows of checkpoints that older code wrote have no such column.
    known = Cause(0)
    for row in rows[:-1]:
        known |= Cause(row.get("alarm", 0))
    new = [f"{name_of(cause)} ({MEANINGS[cause]})" for cause in found & ~known]
    if new and distributed.rank() == 0:
        step = rows[-1]["step"]
        print(f"{run.name}: collapse alarm after update {step}: {'; '.join(new)}. Training continues.", flush=True)


def causes(rows: Rows, updates_per_buffer: int, group_size: int) -> Cause:
    """Return the causes for an alarm in the buffers that are complete; Cause(0) in a healthy run.

    `rows` has one row per update from the first one on. A metric that a method does not log, or NaN, raises no alarm.
    """
    # The last update of a buffer has the largest ratios; rewards and lengths are the same for all of them.
    buffers = rows[updates_per_buffer - 1 :: updates_per_buffer]
    if len(buffers) < WINDOW:
        return Cause(0)

    def values(name: str) -> Values:
        return np.array([row.get(name, math.nan) for row in buffers], dtype=np.float64)

    reward, accuracy, tokens = values("reward"), values("accuracy"), values("tokens")
    fallen = [metric for metric in (reward, accuracy) if fell(metric)]
    is_cause = {
        Cause.REWARD_FELL: fell(reward),
        Cause.ACCURACY_FELL: fell(accuracy) and _last(reward) >= _best(reward, accuracy),
        Cause.LENGTH: any(_is_other_length(tokens, metric) for metric in fallen),
        Cause.PARTIAL_CREDIT: _is_trapped(values("partial_credit"), accuracy, values("flat_groups")),
        Cause.EFFECTIVE_SAMPLE_SIZE: _is_concentrated(values, group_size),
        Cause.CLIPPED: any(_last(values(name)) > CLIPPED for name in CLIPPED_COLUMNS),
    }
    found = Cause(0)
    for cause, holds in is_cause.items():
        if holds:
            found |= cause
    return found


def fell(metric: Values) -> bool:
    """Return True if the last window has lost half of the gain of the best one before, and beyond the noise."""
    if len(metric) < 2 * WINDOW:
        return False
    best, last = metric[_window_of_best(metric)], metric[-WINDOW:]
    gain = best.mean() - metric[:WINDOW].mean()
    # The noise of a buffer from the differences of consecutive ones, which leave out what is learnt in between. The
    # largest one is not counted: it is the collapse itself where a policy breaks down within one buffer.
    differences = np.sort(np.abs(np.diff(metric)))[:-1]
    noise = (differences**2).mean() / 2
    error = math.sqrt(2 * noise / WINDOW)
    return bool(best.mean() - last.mean() > max(LOST * gain, STANDARD_ERRORS * error))


def _window_of_best(metric: Values) -> slice:
    """Return the window with the highest mean among those that end before the last window begins."""
    means = np.convolve(metric[:-WINDOW], np.full(WINDOW, 1 / WINDOW), "valid")
    start = int(means.argmax())
    return slice(start, start + WINDOW)


def _best(values: Values, metric: Values) -> float:
    """Return the mean of `values` over the window in which `metric` was best; NaN if there is no window before."""
    if len(values) < 2 * WINDOW:
        return math.nan
    return float(values[_window_of_best(metric)].mean())


def _last(values: Values) -> float:
    return float(values[-WINDOW:].mean())


def _is_other_length(tokens: Values, metric: Values) -> bool:
    """Return True if responses are much shorter or longer than where `metric` was best."""
    before, now = _best(tokens, metric), _last(tokens)
    return now > LONGER * before or LONGER * now < before


def _is_trapped(paid: Values, accuracy: Values, flat: Values) -> bool:
    """Return True if the policy has learnt to be paid for wrong responses and does not learn to be right."""
    if len(paid) < 2 * WINDOW:
        return False
    more = _last(paid) - float(paid[:WINDOW].mean())
    no_better = _last(accuracy) <= float(accuracy[:WINDOW].mean())
    return _last(paid) >= PAID and more >= MORE_PAID and no_better and _last(flat) >= FLAT


def _is_concentrated(values: Callable[[str], Values], group_size: int) -> bool:
    """Return True if the weights of responses in a group, or of tokens, are those of few."""
    responses = group_size * _last(values("effective_sample_size"))
    # For weights w the effective share is (mean of w)² / mean of w²; for no weights it is NaN, and compares as False.
    mean, square = _last(values("importance_mean")), _last(values("importance_squared"))
    tokens = mean**2 / square if square > 0 else math.nan
    return responses < FEWEST_RESPONSES or tokens < FEWEST_TOKENS
