"""Checkpoints: everything a killed training run needs to resume to the same result.

Each checkpoint is a folder such as `step-000012`, written under a temporary name and renamed, so writes are atomic. It
holds the trained parameters, the optimiser's moments, the current buffer of rollouts, the reference policy, the best
policy so far and the metrics, with a hash of each file. Random numbers need no state (see seeding.py). Checkpoints with
other settings, data, base model or format are ignored. checkpoint_writer.py decides when to write one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.common import distributed
from unmask.common.atomic import atomic_write, remove
from unmask.common.checksums import sealed, verify_checksums, write_checksums
from unmask.common.provenance import CHECKPOINT_FORMAT
from unmask.models.sharding import is_sharded, shard_like, whole

# Exceptions that reading a truncated or altered checkpoint can raise.
DAMAGE = (OSError, ValueError, KeyError, SafetensorError)
STEADY = ("buffer", "reference", "best")  # files that stay unchanged over many updates


@dataclass
class Checkpoint:
    """Training state after `step` updates."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # dotted names: parameter index, name of the moment
    buffer: dict[str, Tensor]  # dotted names: rollouts.…, buffer_data.…
    metrics: list[dict[str, Any]]
    reference: dict[str, Tensor]
    best: dict[str, Tensor]

    @property
    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, keyed by the stem of their file."""
        return {name: getattr(self, name) for name in ("parameters", "optimizer", *STEADY)}

    @property
    def is_sharded(self) -> bool:
        """True if each rank holds a part of the model only, so that `on_host` is a collective call."""
        return any(map(is_sharded, (*self.parameters.values(), *self.reference.values())))

    def on_host(self, without: Collection[str] = ()) -> Checkpoint:
        """Return a copy in host memory that later updates do not change; the files `without` are left empty.

        Sharded tensors are gathered, one at a time, so that a checkpoint does not depend on the number of processes.
        """
        copies = {
            name: {} if name in without else {key: _host_copy(value) for key, value in tensors.items()}
            for name, tensors in self.tensors.items()
        }
        return Checkpoint(self.step, metrics=list(self.metrics), **copies)

    def sharded_like(self, held: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> Checkpoint:
        """Return this rank's part of a checkpoint, with the shards of the parameters in `held`, on their device."""
        # The optimiser numbers its parameters in the order of its groups.
        numbered = [p for group in optimizer.param_groups for p in group["params"]]
        moments = {}
        for key, value in self.optimizer.items():
            parameter = numbered[int(key.partition(".")[0])]
            # Adam's step counter is one number and has no shards.
            moments[key] = shard_like(value, parameter) if value.shape == parameter.shape else value
        parts: dict[str, Any] = {
            name: {key: shard_like(value, held[key]) for key, value in getattr(self, name).items()}
            for name in ("parameters", "reference", "best")
        }
        return replace(self, optimizer=moments, **parts)

    def save(self, folder: Path, identity: str, unchanged: Mapping[str, Path] | None = None) -> None:
        """Write this checkpoint, which must be `on_host`, into `folder`; keep the run's previous one as a fallback.

        `unchanged` maps files to identical ones in an older, sealed checkpoint. They are hard-linked, or copied where
        the file system has no links.
        """
        unchanged = unchanged or {}
        mine = [path for path in folders(folder) if _identity(path) == identity]
        before = [path for path in mine if path.name < f"step-{self.step:06d}"]
        # Later checkpoints belong to a job that took over this run; they are not ours to remove.
        later = set(mine) - set(before)

        with atomic_write(folder / f"step-{self.step:06d}") as temporary:
            temporary.mkdir(parents=True)
            linked = {}
            for name, tensors in self.tensors.items():
                file = temporary / f"{name}.safetensors"
                if name in unchanged:
                    # Keep the recorded hash instead of hashing again: damage since it was written is still detected.
                    linked[file.name] = sealed(unchanged[name].parent)[file.name]
                    _link(unchanged[name], file)
                else:
                    save_file(tensors, file)
            state = {"step": self.step, "format": CHECKPOINT_FORMAT, "identity": identity, "metrics": self.metrics}
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
            write_checksums(temporary, linked)

        # Only now, with the new checkpoint in place, so a kill at any point leaves at least one that is complete.
        for old in set(folders(folder)) - {folder / f"step-{self.step:06d}", *before[-1:], *later}:
            remove(old)

    @classmethod
    def newest(
        cls, folder: Path, identity: str, device: torch.device | str = "cpu", *, is_sharded: bool = False
    ) -> Checkpoint | None:
        """Return the newest intact checkpoint of this run, or None; rank 0 removes what a killed run left unfinished.

        Its tensors are on `device`; with `is_sharded`, all but the buffer stay on the host, for `sharded_like`.
        Raises InputError or OSError if the disk cannot be read, because the checkpoint may be intact.
        """
        # Other nodes may see files late, so what looks damaged to them may be intact: only rank 0 removes anything.
        first = distributed.rank() == 0
        for unfinished in folder.glob(".step-*.tmp") if first else ():
            remove(unfinished)
        for path in reversed(folders(folder)):
            try:
                verify_checksums(path, fix="")
                state = json.loads((path / "state.json").read_text(encoding="utf-8"))
                if state["identity"] != identity:
                    print(f"{path}: written with other settings, data or base model; not resumed from", flush=True)
                    continue
                if state.get("format") != CHECKPOINT_FORMAT:
                    print(f"{path}: written by another version of the code; not resumed from", flush=True)
                    continue
                # torch keeps Adam's step counters on the CPU and moves the moments itself when they are loaded.
                trained = "cpu" if is_sharded else str(device)
                there = {"buffer": str(device), "optimizer": "cpu"}
                there |= dict.fromkeys(("parameters", "reference", "best"), trained)
                tensors = {name: load_file(path / f"{name}.safetensors", place) for name, place in there.items()}
                return cls(step=state["step"], metrics=state["metrics"], **tensors)
            except DAMAGE as error:
                if isinstance(error.__cause__ or error, OSError) and not _absent(error.__cause__ or error):
                    raise  # the disk cannot be read now; the checkpoint may be intact
                print(f"{path}: damaged ({error}); {'removed, ' * first}falling back to the previous one", flush=True)
                if first:
                    remove(path)
        return None


def folders(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state tensors by dotted name; its hyper-parameters come from the run's settings."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Load into the optimiser the state that `optimizer_state` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def flatten(**groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merge groups of tensors into one dictionary with keys `group.name`."""
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def unflatten(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return one group from a dictionary that `flatten` built."""
    start = f"{group}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _absent(error: BaseException) -> bool:
    """Return True if the error says that a path is missing or not a file."""
    return isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)


def _identity(path: Path) -> str | None:
    """Return the identity of the run that wrote a checkpoint; None if it cannot be read or resumed from."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except DAMAGE:
        return None
    return state.get("identity") if state.get("format") == CHECKPOINT_FORMAT else None


def _host_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy in host memory; safetensors refuses tensors that share memory."""
    found = whole(tensor.detach())
    # Rank 0 writes; the others take part in the gathering only.
    return found.to("cpu", copy=True).contiguous() if distributed.rank() == 0 else found.new_empty(0)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
