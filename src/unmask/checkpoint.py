"""Checkpoints: everything a killed training run needs to resume to the same result.

One folder a checkpoint, `step-000012`, written under a temporary name and renamed, so it is whole or absent. It holds
the trained parameters, the moments of the optimiser, the buffer of rollouts in use, the reference policy, the best
policy so far and the metrics, with the hash of each file. Random numbers need no state (see seeding.py). A checkpoint
of other settings, data or base model is not resumed from. When they are written is in checkpoint_writer.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask import processes
from unmask.files import remove, writing
from unmask.seal import check_seal, seal, sealed

# What reading a torn or altered checkpoint raises.
DAMAGE = (OSError, ValueError, KeyError, SafetensorError)
STEADY = ("buffer", "reference", "best")  # files that stay as they are over many updates


@dataclass
class Checkpoint:
    """The state after `step` updates."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # names are dotted: number of the parameter, name of the moment
    buffer: dict[str, Tensor]  # names are dotted: rollouts.…, fixed.…
    metrics: list[dict[str, Any]]
    reference: dict[str, Tensor]
    best: dict[str, Tensor]

    @property
    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by the stem of their file."""
        return {name: getattr(self, name) for name in ("parameters", "optimizer", *STEADY)}

    def on_host(self, without: Collection[str] = ()) -> Checkpoint:
        """A copy in host memory that later updates do not change; the files `without` are left empty."""
        copies = {
            name: {} if name in without else {key: _host_copy(value) for key, value in tensors.items()}
            for name, tensors in self.tensors.items()
        }
        return Checkpoint(self.step, metrics=list(self.metrics), **copies)

    def save(self, folder: Path, identity: str, unchanged: Mapping[str, Path] | None = None) -> None:
        """Write this checkpoint, which is `on_host`, into `folder`; one before it of the same work stays as a reserve.

        `unchanged`: files that are as in an older, sealed checkpoint. They are linked, copied where the disk has no
        links, and keep the hash that they have there, so that damage since then is still found.
        """
        unchanged = unchanged or {}
        mine = [path for path in folders(folder) if _identity(path) == identity]
        before = [path for path in mine if path.name < f"step-{self.step:06d}"]
        later = set(mine) - set(before)  # of another job that took over, if there are any: not ours to remove
        with writing(folder / f"step-{self.step:06d}") as temporary:
            temporary.mkdir(parents=True)
            linked = {}
            for name, tensors in self.tensors.items():
                file = temporary / f"{name}.safetensors"
                if name in unchanged:
                    linked[file.name] = sealed(unchanged[name].parent)[file.name]
                    _link(unchanged[name], file)
                else:
                    save_file(tensors, file)
            state = {"step": self.step, "identity": identity, "metrics": self.metrics}
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
            seal(temporary, linked)
        for old in set(folders(folder)) - {folder / f"step-{self.step:06d}", *before[-1:], *later}:
            remove(old)

    @classmethod
    def newest(cls, folder: Path, identity: str, device: torch.device | str = "cpu") -> Checkpoint | None:
        """The newest whole checkpoint of this work; None if there is none. What a killed training tore is removed."""
        first = processes.rank() == 0  # another node may see a file late: what it finds damaged may be whole
        for unfinished in folder.glob(".step-*.tmp") if first else ():
            remove(unfinished)
        for path in reversed(folders(folder)):
            try:
                check_seal(path, mend="")
                state = json.loads((path / "state.json").read_text(encoding="utf-8"))
                if state["identity"] != identity:
                    print(f"{path}: left by other settings, data or base model; not resumed from", flush=True)
                    continue
                there = {
                    name: "cpu" if name == "optimizer" else str(device) for name in ("parameters", "optimizer", *STEADY)
                }
                tensors = {name: load_file(path / f"{name}.safetensors", place) for name, place in there.items()}
                return cls(step=state["step"], metrics=state["metrics"], **tensors)
            except DAMAGE as error:
                if isinstance(error.__cause__ or error, OSError) and not _absent(error.__cause__ or error):
                    raise  # the disk cannot be read now; what is on it may be whole
                print(f"{path}: damaged ({error}); {'removed, ' * first}going on from the one before it", flush=True)
                if first:
                    remove(path)
        return None


def folders(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser has gathered, by dotted name; its settings are those of the run."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Put back what `moments` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for dotted, value in saved.items():
        number, _, name = dotted.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def dotted(**groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """Groups of tensors as one, named `group.name`."""
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def undotted(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    """The group of that name, of what `dotted` gave."""
    start = f"{group}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _absent(error: BaseException) -> bool:
    """Whether a file is not there, or not a file."""
    return isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)


def _identity(path: Path) -> str | None:
    """Whose checkpoint this is; None if that cannot be read."""
    try:
        return json.loads((path / "state.json").read_text(encoding="utf-8"))["identity"]
    except DAMAGE:
        return None


def _host_copy(tensor: Tensor) -> Tensor:
    """A copy in host memory of its own, as the file format asks."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
