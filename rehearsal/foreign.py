"""An adapter as one trained with the published model's own code would have it: its module names, and no SHA256SUMS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from checks import same_samples
from project import Project
from safetensors.torch import load_file, save_file

THEIRS = {"self_attn.q_proj": "q_proj", "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj",
          "self_attn.o_proj": "attn_out", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj",
          "mlp.down_proj": "ff_out"}  # fmt: skip


def evaluated(project: Project, run: str) -> list[str]:
    """The samples of such an adapter are those of ours."""
    ours, theirs = project.path(f"runs/{run}"), project.folder / "foreign"
    base = project.path(f"runs/base/{run.split('/')[1]}/default/seed-0/samples-papers.parquet")
    write(ours / "adapter", theirs)
    task = run.split("/")[1]
    tests = sorted(project.path(f"data/{task}").rglob("test.parquet"))
    words: list[str | Path] = ["python", project.folder / "src/evaluate_policy.py", ours / "spec.yaml"]
    words += ["--evaluation", project.path("evaluations/papers/spec.yaml")]
    words += ["--weights", project.path("models/rehearsal-llada/weights"), "--adapter", theirs]
    words += ["--data", tests[0], "--samples", project.folder / "foreign.parquet"]
    with (project.said / "foreign adapter.log").open("wb") as said:
        done = subprocess.run(words, cwd=project.folder, env=project.environment, stdout=said, stderr=said, check=False)
    if done.returncode:
        return ["an adapter with the published model's module names cannot be evaluated: said/foreign adapter.log"]
    if same_samples(ours / "samples-papers.parquet", base):
        return [f"{run}: its samples are those of the base model, so nothing is learnt from its adapter elsewhere"]
    if not same_samples(project.folder / "foreign.parquet", ours / "samples-papers.parquet"):
        return [f"{run}: its adapter under the published model's names gives other samples"]
    return []


def write(adapter: Path, folder: Path) -> None:
    """The same numbers under LLaDA's module names."""
    folder.mkdir()
    renamed = {}
    for name, value in load_file(adapter / "adapter_model.safetensors").items():
        name = name.replace("model.layers.", "model.transformer.blocks.")
        for mine, their in THEIRS.items():
            name = name.replace(f".{mine}.", f".{their}.")
        renamed[name] = value
    save_file(renamed, folder / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"target_modules": sorted(THEIRS.values()), "base_model_name_or_path": "GSAI-ML/LLaDA-8B-Instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
