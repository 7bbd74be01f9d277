"""Asynchronous checkpoint writer: on a timer, in a background thread, and only the files that have changed.

Rank 0 copies the state to host memory, which is fast, and a thread writes it while training continues. Files that have
not changed since the last checkpoint (the reference, the best policy, the buffer over its updates) are hard-linked
instead of written again. An error in the thread is raised at the next checkpoint or at the end.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from torch import Tensor

from unmask.common import distributed
from unmask.common.checksums import sealed
from unmask.training.checkpoint import STEADY, Checkpoint

Seen = dict[str, tuple["weakref.ref[Tensor]", int]]  # by name: a tensor and its version, which counts in-place changes


@dataclass
class CheckpointWriter:
    """Writer of one run's checkpoints into `folder`, `minutes` apart; 0 means after every update.

    Use it as a context manager: on exit, the last checkpoint is complete or its error is raised.
    """

    folder: Path
    identity: str
    minutes: float
    written: dict[str, tuple[Seen, Path]] = field(default_factory=dict)  # by file: the tensors it holds and its path

    def __post_init__(self) -> None:
        self.last = time.monotonic()
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def due(self) -> bool:
        """Return True if the next checkpoint is due by the clock of rank 0; always False on other ranks."""
        return distributed.rank() == 0 and time.monotonic() - self.last >= 60 * self.minutes

    def write(self, state: Checkpoint) -> None:
        """Start writing a checkpoint after waiting for the previous one.

        Does nothing except on rank 0, unless the state is sharded: then all ranks take part in gathering it.
        """
        is_writer = distributed.rank() == 0
        if not (is_writer or state.is_sharded):
            return
        self.finish()
        self.last = time.monotonic()

        # The copy is made before this returns: the next update changes the parameters in place.
        unchanged: dict[str, Path] = {}
        for name in STEADY if is_writer else ():
            path = self._unchanged(name, state.tensors[name])
            if path:
                unchanged[name] = path
        without = list(unchanged)
        if state.is_sharded:
            # Rank 0 decides which files are written, and so which tensors all ranks gather.
            left_out = distributed.any_rank(*(name in unchanged for name in STEADY))
            without = [name for name, is_left_out in zip(STEADY, left_out, strict=True) if is_left_out]
        copy = state.on_host(without)
        if not is_writer:
            return
        self.seen(state)
        self.thread = threading.Thread(target=self._save, args=(copy, unchanged), name="checkpoint")
        self.thread.start()

    def write_apart(self, state: Checkpoint, folder: Path) -> None:
        """Write a checkpoint into another folder, for inspection, and wait until it is there. A collective call."""
        self.finish()
        distributed.barrier()
        copy = state.on_host()
        if distributed.rank() == 0:
            copy.save(folder, self.identity)
        # torchrun ends all ranks once one fails, so the others wait for rank 0.
        distributed.barrier()

    def finish(self) -> None:
        """Wait until the last checkpoint is written; re-raise the error that prevented it, if any."""
        if self.thread:
            self.thread.join()
            self.thread = None
        error, self.error = self.error, None
        if error:
            raise error

    def seen(self, state: Checkpoint) -> None:
        """Record that the checkpoint of this state holds the files to link to; older checkpoints may be removed."""
        # Weak references, so that a buffer or snapshot no longer in use is freed.
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
            if error is None:  # otherwise the original error matters more
                raise

    def _unchanged(self, name: str, tensors: dict[str, Tensor]) -> Path | None:
        """Return the file of an earlier checkpoint that holds exactly these tensors; None if there is none."""
        held, path = self.written.get(name, ({}, Path()))
        # The folder may be gone or damaged by now; then the file is simply written again.
        try:
            there = path.is_file() and path.name in sealed(path.parent)
        except (OSError, ValueError):
            there = False
        if not there or held.keys() != tensors.keys():
            return None
        # Identity and version instead of values: comparing values would cost a pass over all of them.
        same = (held[key][0]() is value and held[key][1] == value._version for key, value in tensors.items())
        return path if all(same) else None

    def _save(self, state: Checkpoint, unchanged: dict[str, Path]) -> None:
        try:
            state.save(self.folder, self.identity, unchanged)
        except BaseException as error:  # `finish` raises it in the training thread
            self.error = error
