"""A folder in which snakemake runs on the cluster, what happens to its jobs, and what came out."""

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
RUN = "results/smoke/runs/dmpo/sudoku/default/seed-0"
# Long enough to be disturbed: some seconds of updates, of which the last one counts.
LONG = {"scales": {"smoke": {"training": {"buffers": 40, "validate_every": 0}}}}


@dataclass
class Workflow:
    """A folder in which snakemake runs, with a profile made from the project's by changing some of it."""

    folder: Path
    env: dict[str, str]

    def write(self, config: dict, scale: str = "smoke", **changes: str) -> None:
        """Write the configuration's changes, and the profile: site, short waits, and `changes` of resources."""
        profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/profile.yaml").read_text(encoding="utf-8"))
        profile["config"] = [f"scale={scale}"]
        profile["slurm-init-seconds-before-status-checks"] = 1
        profile["latency-wait"] = 20
        profile["default-resources"] = ["slurm_account=lab", "slurm_partition=gpu"]
        for key, value in changes.items():
            rule, _, name = key.rpartition("__")
            if rule:
                profile.setdefault("set-resources", []).append(f"{rule}:{name}={value}")
            else:
                profile[name] = value
        (self.folder / "profile").mkdir(parents=True, exist_ok=True)
        (self.folder / "profile/profile.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
        (self.folder / "profile/scale.yaml").write_text(yaml.safe_dump({"scale": scale, **config}), encoding="utf-8")

    def start(self, *words: str, log: str = "snakemake.txt") -> subprocess.Popen:
        """Start snakemake in a session of its own."""
        command = ["snakemake", "--profile", self.folder / "profile", "-s", ROOT / "Snakefile"]
        command += ["--directory", self.folder, *words]
        with open(self.folder / log, "ab") as file:
            return subprocess.Popen(command, env=self.env, stdout=file, stderr=file, start_new_session=True)

    def run(self, *words: str, log: str = "snakemake.txt", seconds: float = 1200) -> tuple[int, str]:
        """Run snakemake to its end."""
        code = self.start(*words, log=log).wait(timeout=seconds)
        return code, self.said(log)

    def said(self, log: str = "snakemake.txt") -> str:
        """What snakemake has said so far."""
        return (self.folder / log).read_text(encoding="utf-8", errors="replace")

    def ask(self, *words: str) -> str:
        """The answer of a command of the cluster."""
        return subprocess.run(words, env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def training_log(self) -> str:
        """What the attempts said that failed or still run, then the last one."""
        attempts = sorted(self.folder.glob("logs/slurm/rule_train_policy/*/*.log"), key=lambda path: int(path.stem))
        last = self.folder / "logs/train_policy/smoke/dmpo/sudoku/default/seed-0.log"
        return "".join(path.read_text(encoding="utf-8") for path in (*attempts, last) if path.exists())

    def holder(self) -> dict:
        """Who trains the run; waits for a checkpoint, so that there is something to lose."""
        run = self.folder / RUN
        until(lambda: list(run.glob("checkpoints/step-*")) and (run / "lock").exists(), self)
        return json.loads((run / "lock").read_text(encoding="utf-8"))

    def jobs(self, column: str = "State") -> list[tuple[str, str]]:
        """Jobs submitted from this folder so far, with the state of each, or another column of sacct."""
        told = self.ask("sacct", "-XnP", "-D", "-o", f"JobID,{column},WorkDir").splitlines()
        rows = [row.split("|") for row in told]
        return [(number, value) for number, value, where in rows if where == str(self.folder)]

    def adapter(self) -> str:
        """Hash of the adapter, in which something was learnt: B of an untrained one is zero."""
        file = self.folder / RUN / "adapter/adapter_model.safetensors"
        assert all(tensor.any() for name, tensor in load_file(file).items() if "lora_B" in name)
        return hashlib.sha256(file.read_bytes()).hexdigest()


def run_locally(folder: Path, configuration: Path, target: str) -> None:
    """Run snakemake to its end on this machine, without SLURM."""
    command = ["snakemake", "--profile", ROOT / "workflow/profiles/smoke", "-s", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", configuration, "--", target]
    subprocess.run(command, check=True, capture_output=True, timeout=900)


def until(condition: Callable[[], object], workflow: Workflow, seconds: float = 300) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, workflow.said()[-3000:]
        time.sleep(0.2)
