"""manifest.json: written last, it records that a job is done and what its outputs were made from.

Its last key, `digest`, is the hash of all others.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

from unmask.common.atomic import atomic_write
from unmask.common.checksums import fingerprint
from unmask.common.errors import InputError

Manifest = dict[str, Any]  # content of a manifest; steps add entries of their own
SOURCE = Path(__file__).parents[1]
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "datasets",
    "math-verify",
    "snakemake",
)
# Flags of the processor for the vector instructions that torch distinguishes, under torch's names, the widest first.
INSTRUCTIONS = {
    "AVX512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "AVX2": {"avx2", "fma"},
}


class GitState(TypedDict):
    """State of the checkout that a job ran from."""

    commit: str
    dirty: bool  # whether the work tree differs from the commit


def identity(digest: str, inputs: dict[str, Path]) -> str:
    """Return one string that names everything that decides a result: the spec's digest and the inputs' content."""
    parts = [digest]
    for name, path in sorted(inputs.items()):
        parts.append(f"{name}:{fingerprint(path)[:12]}")
    return "-".join(parts)


def write_manifest(
    path: Path,
    digest: str,
    inputs: dict[str, Path],
    outputs: list[Path],
    began: float,
    source: dict[str, str] | None = None,
    **more: Any,
) -> None:
    """Write the manifest of a job that began at monotonic time `began`; `more` are further entries of the step.

    `digest` is that of the job's spec, or a joint one if it has several. `source` has the hashes of the files that can
    affect the result, as `provenance.code_of` gives them; without it, the whole library is hashed.
    """
    content = {
        "spec": digest,
        "inputs": {name: fingerprint(file) for name, file in inputs.items()},
        "outputs": {file.name: fingerprint(file) for file in outputs},
        "device": device_name(),
        **more,
        "source": source or sha256_of_source(),
        "git": git_state(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - began, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "deterministic": os.environ.get("UNMASK_DETERMINISTIC") == "1",  # common/determinism.py
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(signed(content), indent=2) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises InputError if it is missing, damaged or edited."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rest = dict(content) if isinstance(content, dict) else {}
        rest.pop("digest", None)
        if content != signed(rest):
            raise ValueError("damaged or edited: its digest does not match its content")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}. Delete it and run snakemake again.") from error
    return content


def made_of(path: Path) -> str | None:
    """Return the spec digest in a manifest; None if the manifest is missing or damaged."""
    try:
        return str(read_manifest(path).get("spec"))
    except InputError:
        return None


def signed(content: Manifest) -> Manifest:
    """Return the content with the hash of all its entries appended as `digest`."""
    text = json.dumps(content)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return content | {"digest": digest}


def seconds_of(manifest: Manifest) -> float:
    """Return the seconds a job took; for a resumed training run, the updates before each interruption count too."""
    # `seconds` covers only the last process; `seconds_training` sums all updates but not the time to load the model.
    return max(manifest.get("seconds", 0.0), manifest.get("seconds_training", 0.0))


def summary(manifests: list[Manifest]) -> dict[str, str]:
    """Summarise the manifests of training runs: their number, hardware, commits and packages."""
    commits = {commit_name(manifest["git"]) for manifest in manifests if manifest["git"]}
    devices = {manifest["device"] for manifest in manifests}
    hours = sum(seconds_of(manifest) for manifest in manifests) / 3600
    last = max(manifests, key=lambda manifest: manifest["finished"])
    day = last["finished"][:10]
    packages = [f"{name} {version}" for name, version in last["packages"].items()]
    return {
        "training runs": f"{len(manifests)}, {hours:.1f} hours in all, the last finished on {day}",
        "device": f"{', '.join(sorted(devices))}; Python {last['python']}",
        "commit": ", ".join(sorted(commits)) or "none: outside a git checkout",
        "packages": ", ".join(packages),
    }


def commit_name(git: GitState) -> str:
    """Return the short form of a commit, and whether there were changes to it."""
    commit = git["commit"][:7]
    if git["dirty"]:
        return f"{commit} and changes"
    return commit


def device_name(device: Any = None) -> str:
    """Return the name of the GPU that a torch device is, else of the processor and its vector instructions."""
    if device is not None and device.type == "cuda":
        import torch  # not at the top: most users of manifests work without torch

        return torch.cuda.get_device_name(device)
    return processor_name()


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return a name such as `AMD EPYC (AVX2)`; only the architecture where the system does not tell more.

    Rounding, and with it every trained weight, depends on the vector instructions that torch uses.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:  # only Linux has the file
        text = ""
    found = dict(re.findall(r"^(model name|flags)\s*: *(.*)$", text, re.MULTILINE))
    name = found.get("model name", "cpu").strip()

    # What torch says counts, because it can be set below what the processor has. It names them in the same way.
    if "torch" in sys.modules:
        instructions = sys.modules["torch"].backends.cpu.get_cpu_capability()
    else:
        flags = set(found.get("flags", "").split())
        instructions = next((label for label, needed in INSTRUCTIONS.items() if needed <= flags), "")
    return f"{name} ({instructions if instructions not in ('', 'DEFAULT') else platform.machine()})"


def sha256_of_source() -> str:
    """Return the SHA-256 of the library's source files."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def git_state() -> GitState | None:
    """Return the commit and whether the work tree differs from it; None outside a git checkout."""

    # safe.directory: the clone may belong to another user, whose git config must not make us run an fsmonitor hook.
    def ask(*words: str) -> str:
        command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(SOURCE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        commit = ask("rev-parse", "HEAD").strip()
        changes = ask("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}
