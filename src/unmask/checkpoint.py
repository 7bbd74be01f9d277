"""Checkpoints: everything a killed training needs to go on to the same result.

One folder a checkpoint, `step-000012`, written under a temporary name and renamed, so it is whole or absent. It holds
the trained parameters, the moments of the optimiser, the buffer of rollouts in use and the metrics so far, with the
hash of each file. Random numbers need no state (see seeding.py). A checkpoint of other settings, data or base model is
not resumed from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.files import remove, writing
from unmask.seal import check_seal, seal

# What reading a torn or altered checkpoint raises.
DAMAGE = (OSError, ValueError, KeyError, SafetensorError)


@dataclass
class Checkpoint:
    """The state after `step` updates."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # names are dotted: number of the parameter, name of the moment
    buffer: dict[str, Tensor]  # names are dotted: rollouts.…, fixed.…, reference.…
    metrics: list[dict[str, Any]]

    def save(self, folder: Path, identity: str) -> None:
        """Write this checkpoint into `folder`; of the others only the last of the same work is kept, as a reserve."""
        before = [path for path in folders(folder) if _identity(path) == identity]
        with writing(folder / f"step-{self.step:06d}") as temporary:
            temporary.mkdir(parents=True)
            _save(self.parameters, temporary / "parameters.safetensors")
            _save(self.buffer, temporary / "buffer.safetensors")
            _save(self.optimizer, temporary / "optimizer.safetensors")
            state = {"step": self.step, "identity": identity, "metrics": self.metrics}
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
            seal(temporary)
        for old in set(folders(folder)) - {folder / f"step-{self.step:06d}", *before[-1:]}:
            remove(old)

    @classmethod
    def newest(cls, folder: Path, identity: str, device: torch.device | str = "cpu") -> Checkpoint | None:
        """The newest whole checkpoint of this work; None if there is none. What a killed training tore is removed."""
        for unfinished in folder.glob(".step-*.tmp"):
            remove(unfinished)
        for path in reversed(folders(folder)):
            try:
                check_seal(path, mend="")
                state = json.loads((path / "state.json").read_text(encoding="utf-8"))
                if state["identity"] != identity:
                    print(f"{path}: left by other settings, data or base model; not resumed from", flush=True)
                    continue
                return cls(
                    step=state["step"],
                    parameters=load_file(path / "parameters.safetensors", device=str(device)),
                    optimizer=load_file(path / "optimizer.safetensors"),
                    buffer=load_file(path / "buffer.safetensors", device=str(device)),
                    metrics=state["metrics"],
                )
            except DAMAGE as error:
                if isinstance(error.__cause__ or error, OSError) and not _absent(error.__cause__ or error):
                    raise  # the disk cannot be read now; what is on it may be whole
                print(f"{path}: damaged ({error}); removed, going on from the one before it", flush=True)
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


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors, each with memory of its own, as the format asks."""
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, path)
