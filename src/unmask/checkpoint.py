"""Checkpoints: everything a killed training needs to go on to the same result.

One folder a checkpoint, `step-000012`, written under a temporary name and renamed, so it is whole or absent. It holds
the trained parameters, the optimiser, the buffer of rollouts in use and the metrics so far. Random numbers need no
state (see seeding.py). A checkpoint of other settings, data or base model is not resumed from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.files import remove, writing


@dataclass
class Checkpoint:
    """The state after `step` updates."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]
    buffer: dict[str, Tensor]  # names are dotted: rollouts.…, fixed.…, reference.…
    metrics: list[dict[str, Any]]

    def save(self, folder: Path, identity: str) -> None:
        """Write this checkpoint into `folder` and remove the older ones."""
        with writing(folder / f"step-{self.step:06d}") as temporary:
            temporary.mkdir(parents=True)
            save_file(
                {k: v.detach().contiguous() for k, v in self.parameters.items()}, temporary / "parameters.safetensors"
            )
            save_file({k: v.contiguous() for k, v in self.buffer.items()}, temporary / "buffer.safetensors")
            torch.save(self.optimizer, temporary / "optimizer.pt")
            state = {"step": self.step, "identity": identity, "metrics": self.metrics}
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for old in folders(folder)[:-1]:
            remove(old)

    @classmethod
    def newest(cls, folder: Path, identity: str) -> Checkpoint | None:
        """The newest checkpoint of this work; None if there is none."""
        for path in reversed(folders(folder)):
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if state["identity"] != identity:
                print(f"{path}: left by other settings, data or base model; not resumed from")
                continue
            return cls(
                step=state["step"],
                parameters=load_file(path / "parameters.safetensors"),
                optimizer=torch.load(path / "optimizer.pt", weights_only=True),
                buffer=load_file(path / "buffer.safetensors"),
                metrics=state["metrics"],
            )
        return None


def folders(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"))
