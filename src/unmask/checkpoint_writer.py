"""When a training run writes its checkpoints, and how: by the clock, in a thread, and only what has changed.

The first process copies the state to host memory, which takes a moment, and a thread writes it while the updates
continue. Files that have not changed since the last checkpoint (the reference, the best policy, the buffer during its
life) are linked and not written again. An error of the thread is raised at the next checkpoint or at the end.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from torch import Tensor

from unmask import processes
from unmask.checkpoint import STEADY, Checkpoint
from unmask.seal import sealed

Seen = dict[str, tuple["weakref.ref[Tensor]", int]]  # by name: a tensor, and how often it had been changed in place


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of one training run into `folder`, `minutes` apart; 0 is after every update.

    Used as a context: at its end, the last checkpoint is whole or its error is raised.
    """

    folder: Path
    identity: str
    minutes: float
    written: dict[str, tuple[Seen, Path]] = field(default_factory=dict)  # by file: what it holds, and where it is

    def __post_init__(self) -> None:
        self.last = time.monotonic()
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def due(self) -> bool:
        """Whether it is time for the next one, by the clock of the first process; False in all others."""
        return processes.rank() == 0 and time.monotonic() - self.last >= 60 * self.minutes

    def write(self, state: Checkpoint) -> None:
        """Begin to write a checkpoint, once the one before it is done. Only the first process does anything."""
        if processes.rank() > 0:
            return
        self.finish()
        self.last = time.monotonic()
        unchanged = {name: path for name in STEADY if (path := self._unchanged(name, state.tensors[name]))}
        copy = state.on_host(without=unchanged)
        self.seen(state)
        self.thread = threading.Thread(target=self._save, args=(copy, unchanged), name="checkpoint")
        self.thread.start()

    def finish(self) -> None:
        """Wait until the last checkpoint is written. Raises what kept it from being written."""
        if self.thread:
            self.thread.join()
            self.thread = None
        error, self.error = self.error, None
        if error:
            raise error

    def seen(self, state: Checkpoint) -> None:
        """Take note that the checkpoint of this state holds the files that may be linked; older ones are removed."""
        for name in STEADY:
            tensors = {key: (weakref.ref(value), value._version) for key, value in state.tensors[name].items()}
            self.written[name] = tensors, self.folder / f"step-{state.step:06d}" / f"{name}.safetensors"

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except BaseException:
            if error is None:  # else the first error is the one to tell
                raise

    def _unchanged(self, name: str, tensors: dict[str, Tensor]) -> Path | None:
        """The file of an earlier checkpoint that holds these very tensors, if it is still there."""
        held, path = self.written.get(name, ({}, Path()))
        try:
            there = path.is_file() and path.name in sealed(path.parent)
        except (OSError, ValueError):
            there = False
        if not there or held.keys() != tensors.keys():
            return None
        same = (held[key][0]() is value and held[key][1] == value._version for key, value in tensors.items())
        return path if all(same) else None

    def _save(self, state: Checkpoint, unchanged: dict[str, Path]) -> None:
        try:
            state.save(self.folder, self.identity, unchanged)
        except BaseException as error:  # raised by `finish`, in the thread that trains
            self.error = error
