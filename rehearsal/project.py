"""Project folder of a rehearsal: this checkout's workflow and library, and its config.yaml with changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from unmask.config.loading import merge, read_settings

ROOT = Path(__file__).resolve().parents[1]
VOCABULARIES = [126464, 152064]  # of LLaDA and Dream


class Project:
    """Folder in which snakemake runs; probe/sitecustomize.py watches every process."""

    def __init__(self, folder: Path, widths: list[int], cores: int = 2, threads: int = 1) -> None:
        self.folder, self.cores = folder, cores
        self.data, self.models, self.said = folder / "data", folder / "checkpoints", folder / "said"
        self.said.mkdir(parents=True)
        self.models.mkdir()
        for name in ("Snakefile", "workflow", "src"):
            (folder / name).symlink_to(ROOT / name)

        # Python imports sitecustomize from PYTHONPATH at startup, so every step is watched without changes to it.
        asked: dict[str, Any] = {"folder": str(folder), "weights": [str(self.models)], "threads": threads}
        asked |= {"vocabularies": VOCABULARIES, "widths": widths}
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "rehearsal/probe"),
            "UNMASK_REHEARSAL": json.dumps(asked),
            "HF_HUB_OFFLINE": "1",
        }
        self.stages: list[tuple[str, float]] = []

    def configure(self, changes: Path, **values: int) -> None:
        """Write config.yaml: the project's own, changed by a file in which the words in capitals are replaced."""
        text = changes.read_text(encoding="utf-8")
        for word, value in {"DATA": self.data, "MODELS": self.models, **values}.items():
            text = text.replace(word, str(value))
        config = merge(read_settings(ROOT / "config.yaml"), yaml.safe_load(text)) | {"scale": "llada-8b"}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def start(self, stage: str, *words: str) -> subprocess.Popen[bytes]:
        """Start snakemake at the papers' scale; its output goes to said/{stage}.log."""
        command = ["snakemake", "--cores", str(self.cores)]
        command += ["--directory", str(self.folder), "-s", str(self.folder / "Snakefile")]
        command += ["--rerun-incomplete", *words]
        with (self.said / f"{stage}.log").open("wb") as said:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=said, stderr=said)

    def run(self, stage: str, *words: str) -> int:
        """Run snakemake to its end; return its exit code."""
        began = time.monotonic()
        print(f"{stage} …", flush=True)
        code = self.start(stage, *words).wait()
        self.stages.append((stage, time.monotonic() - began))
        print(f"{stage}: exit {code}, {self.stages[-1][1]:.0f} s", flush=True)
        return code

    def path(self, name: str) -> Path:
        """Return the path of a file below results/llada-8b."""
        return self.folder / "results/llada-8b" / name

    def processes(self) -> list[dict[str, Any]]:
        """Read the records of the probe, one per process."""
        lines = (self.folder / "processes.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def logs(self) -> list[Path]:
        """Return all logs, of snakemake and of the steps."""
        return sorted([*self.said.glob("*.log"), *(self.folder / "logs").rglob("*.log")])
