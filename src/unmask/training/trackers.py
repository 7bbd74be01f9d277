"""Live metrics of a training run in TensorBoard or Weights & Biases, through accelerate's trackers.

A tracker receives the rows of metrics.csv and returns nothing, so it changes no bit of a result. The run's folder holds
its files, in `tensorboard/` and `wandb/`. A resumed run continues the same tracker run, and each update is in it once:

- TensorBoard's files are written anew at each start, from the rows of the checkpoint that training resumes from.
- W&B cannot take back what it was given, so its updates after that checkpoint keep their first values. A file records
  the id of its run and the last update.

Only rank 0 logs. A tracker that fails while training runs is left out with one warning.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from accelerate import PartialState, utils
from accelerate.tracking import TensorBoardTracker, WandBTracker

from unmask.common import distributed
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError

EVENTS = "events.out.tfevents.*"  # names of TensorBoard's files
RECORD = "unmask-run.json"  # in wandb/: id and last update of the run
PATIENCE = 30.0  # seconds that W&B may upload at the end; a job that got a signal has little more

Row = Mapping[str, Any]  # of metrics.csv


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError if a tracker is not installed, or if W&B has no API key. Uses no network."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"runtime.trackers: {name} is not installed; run `pip install -e '.[{name}]'` or take it off the list"
            )
    if "wandb" in names and distributed.rank() == 0:
        _check_api_key()


def _check_api_key() -> None:
    """Raise InputError if W&B is to upload and has no API key, for which it would ask on a terminal and wait."""
    import wandb

    try:
        found = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:  # a key that cannot be one
        raise InputError(f"runtime.trackers: wandb: {error}") from error
    if not found and wandb.setup().settings.mode not in ("offline", "dryrun", "disabled"):
        raise InputError(
            "runtime.trackers: wandb has no API key; set WANDB_API_KEY in the environment, run `wandb login`, or set "
            "WANDB_MODE=offline"
        )


class Tracker(Protocol):
    """What receives the rows of a run."""

    def log(self, row: Row) -> None:
        """Log the metrics of one update."""

    def finish(self) -> None:
        """Write or send what is left."""


@dataclass
class Trackers:
    """Trackers of one training run, a context manager that finishes them; without names nothing happens."""

    names: Sequence[str] = ()
    folder: Path = Path()  # the run's
    run: str = ""  # name of the run, such as dmpo/sudoku/default/seed-0
    group: str = ""  # name of the scale
    identity: str = ""  # that of the run's checkpoints
    settings: Row = field(default_factory=dict)  # of the run; W&B shows them

    def __post_init__(self) -> None:
        self.working: dict[str, Tracker] = {}
        self.stack = contextlib.ExitStack()

    def start(self, rows: Sequence[Row]) -> None:
        """Start the trackers and log the rows of a checkpoint; without rows, training starts from the beginning."""
        if not self.names or distributed.rank() > 0:
            return
        kinds: dict[str, Callable[[Trackers, Sequence[Row]], Tracker]] = {"tensorboard": TensorBoard, "wandb": Wandb}
        self.stack.enter_context(accelerate_state())
        for name in self.names:
            with self._left_out_if_it_fails(name):
                self.working[name] = kinds[name](self, rows)

    def log(self, row: Row) -> None:
        """Log the row of an update."""
        for name, tracker in list(self.working.items()):
            with self._left_out_if_it_fails(name):
                tracker.log(row)

    @contextlib.contextmanager
    def _left_out_if_it_fails(self, name: str) -> Iterator[None]:
        """Turn any error of a tracker into a warning, and give it no more rows."""
        # A full disk, a lost network or a bug in a tracker must not cost GPU-hours.
        try:
            yield
        except Exception as error:
            self.working.pop(name, None)
            print(
                f"{self.run}: warning: {name} is left out from here on, because it failed "
                f"({type(error).__name__}: {error}); training continues, and metrics.csv will have all updates",
                flush=True,
            )

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in list(self.working.items()):
            with self._left_out_if_it_fails(name):
                tracker.finish()
        self.stack.close()


class TensorBoard:
    """TensorBoard's files of a run, in its folder `tensorboard`."""

    def __init__(self, of: Trackers, rows: Sequence[Row]) -> None:
        self.tracker = event_writer(of.folder / "tensorboard")
        log_rows(self.tracker, rows, time.time())

    def log(self, row: Row) -> None:
        """Log the metrics of one update."""
        self.tracker.log(numbers(row), row["step"])

    def finish(self) -> None:
        """Close the file."""
        self.tracker.finish()


class Wandb:
    """Run of W&B: in the project WANDB_PROJECT, by default `unmask`, grouped by scale. Its folder is `wandb`."""

    def __init__(self, of: Trackers, rows: Sequence[Row]) -> None:
        import wandb

        # A training from the beginning is a new run, also in the folder of an earlier one.
        self.file = of.folder / "wandb" / RECORD
        new = {"id": uuid.uuid4().hex, "step": 0, "identity": of.identity}
        self.record = _record_of(self.file, of.identity) or new if rows else new
        self.tracker = WandBTracker(
            os.environ.get("WANDB_PROJECT", "unmask"),
            id=self.record["id"],
            resume="allow",
            name=of.run,
            group=of.group,
            dir=str(of.folder),
            config=dict(of.settings),
            # The console stays as it is, and an upload that does not end cannot keep the adapter from being written.
            settings=wandb.Settings(console="off", save_code=False, finish_timeout=PATIENCE),
        )
        self.tracker.start()
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        """Log the metrics of one update, unless an earlier attempt has logged it."""
        if row["step"] <= self.record["step"]:
            return
        # Recorded first: after a kill between the two, an update is missing, but none is there twice.
        self.record["step"] = row["step"]
        with atomic_write(self.file) as temporary:
            temporary.write_text(json.dumps(self.record), encoding="utf-8")
        self.tracker.log(numbers(row), row["step"])

    def finish(self) -> None:
        """Upload what is left, for half a minute at most; `wandb sync` can upload the rest."""
        self.tracker.finish()


def _record_of(file: Path, identity: str) -> dict[str, Any] | None:
    """Return what is recorded of the tracker run of this training; None if there is nothing."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found = {"id": str(record["id"]), "step": int(record["step"]), "identity": record["identity"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found["identity"] == identity else None


def event_writer(folder: Path) -> TensorBoardTracker:
    """Return a tracker that writes TensorBoard's files into `folder`, in place of those that are there.

    Needs `accelerate_state`.
    """
    for file in folder.glob(EVENTS):
        file.unlink()
    # A TensorBoard that has read the old files drops their values when it reads the start at step 0.
    tracker = TensorBoardTracker(folder.name, folder.parent, purge_step=0)
    tracker.start()
    return tracker


def log_rows(tracker: TensorBoardTracker, rows: Sequence[Row], end: float) -> None:
    """Log rows of which the last was complete at `end` (Unix time, s) and each took its `seconds`."""
    moment = end - sum(row["seconds"] for row in rows)
    for row in rows:
        moment += row["seconds"]
        tracker.log(numbers(row), row["step"], walltime=moment)


def numbers(row: Row) -> dict[str, float]:
    """Return the metrics of a row as numbers, without those that metrics.csv leaves empty: None and NaN."""
    found = {}
    for key, value in row.items():
        if key != "step" and value is not None and not math.isnan(value):
            found[key] = float(value)
    return found


@contextlib.contextmanager
def accelerate_state() -> Iterator[None]:
    """Have accelerate's state within the block, which its trackers ask for the rank; several processes have it."""
    if PartialState._shared_state != {}:
        yield
        return
    # Without the environment, by which accelerate would form a group of one under torchrun and set the number of
    # threads, and with that the order of sums.
    with utils.clear_environment():
        PartialState(cpu=True)
    try:
        yield
    finally:
        PartialState._reset_state()
