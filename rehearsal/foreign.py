"""Foreign adapters, as trained with the published model's own code: its module names, and no SHA256SUMS."""

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


def evaluated(project: Project, run: str, task: str) -> list[str]:
    """Check that a run's adapter in foreign form gives the same samples, and not those of the base model."""
    ours, theirs, samples = project.path(f"runs/{run}"), project.folder / "foreign", project.folder / "foreign.parquet"
    before = ours / f"samples-papers-on-{task}.parquet"
    # An adapter without effect would pass the comparison below even if it were not loaded at all.
    if same_samples(before, project.path(f"runs/base/{task}/default/seed-0/samples-papers.parquet")):
        return [f"{run}: its samples are those of the base model"]
    write(ours / "adapter", theirs)
    words: list[str | Path] = ["python", project.folder / "src/evaluate_policy.py", ours / "spec.yaml"]
    words += ["--evaluation", project.path(f"evaluations/papers-on-{task}/spec.yaml")]
    words += ["--weights", project.path("models/rehearsal-llada/weights"), "--adapter", theirs]
    words += ["--data", next(project.path(f"data/{task}").rglob("test.parquet")), "--samples", samples]
    words += ["--test-spec", project.path(f"data/{task}/test/spec.yaml")]
    with (project.said / "foreign adapter.log").open("wb") as said:
        done = subprocess.run(words, cwd=project.folder, env=project.environment, stdout=said, stderr=said, check=False)
    if done.returncode:
        return ["an adapter with the published model's module names cannot be evaluated: said/foreign adapter.log"]
    if not same_samples(samples, before):
        return [f"{run}: its adapter under the published model's names gives different samples"]
    return []


def write(adapter: Path, folder: Path) -> None:
    """Write the same weights under LLaDA's own module names."""
    folder.mkdir()
    renamed = {}
    # LLaDA's own code names attention and MLP projections differently and has no `self_attn` or `mlp` level.
    for name, value in load_file(adapter / "adapter_model.safetensors").items():
        name = name.replace("model.layers.", "model.transformer.blocks.")
        for mine, their in THEIRS.items():
            name = name.replace(f".{mine}.", f".{their}.")
        renamed[name] = value
    save_file(renamed, folder / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config |= {"target_modules": sorted(THEIRS.values()), "base_model_name_or_path": "GSAI-ML/LLaDA-8B-Instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
