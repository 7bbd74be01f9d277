"""Starting steps with several processes: no option is lost to torchrun, no reserved GPU idles, two processes start."""

import ast
import os
import subprocess
import sys

import pytest
import yaml

import launch
from helpers.paths import ROOT
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest

RUN = "dmpo/sudoku/default/seed-0"


def options(step):
    """The options that a step adds to its parser, read from its source."""
    calls = [n for n in ast.walk(ast.parse((ROOT / f"src/{step}.py").read_text())) if isinstance(n, ast.Call)]
    words = [c.args[0].value for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_argument"]
    return [word for word in words if word.startswith("--")]


@pytest.mark.parametrize("step", ["train_policy", "evaluate_policy"])
def test_torchrun_leaves_every_option_to_the_step(step):
    """torchrun matches abbreviations of its own options before it hands anything on: `--start` was ambiguous."""
    from torch.distributed.run import get_args_parser

    found = options(step)
    assert {"--weights", "--data", "--adapter"} <= set(found)
    for option in found:
        for words in ([option, "value"], [f"{option}=value"]):
            known = get_args_parser().parse_args(["--standalone", f"src/{step}.py", "spec.yaml", *words])
            assert known.training_script_args == ["spec.yaml", *words]
        abbreviated = [known for known in get_args_parser()._option_string_actions if known.startswith(option)]
        assert not abbreviated, f"{option}: read by torchrun as {' or '.join(abbreviated)}"


def test_processes_are_those_that_share_the_prompts_evenly(grid, config, tmp_path):
    from unmask.config.grid.expand import expand

    config["scales"]["smoke"]["training"] |= {"prompts_per_buffer": 8, "prompts_per_decode_batch": 1}
    expand(config).runs[RUN].write(tmp_path / "spec.yaml")
    words = [str(tmp_path / "spec.yaml"), "--weights", "w"]
    found = {gpus: launch.processes("src/train_policy.py", words, gpus) for gpus in (0, 1, 2, 3, 4, 6, 8, 16)}
    assert found == {0: 1, 1: 1, 2: 2, 3: 1, 4: 4, 6: 2, 8: 8, 16: 8}
    assert launch.processes("src/evaluate_policy.py", words, 3) == 3
    with pytest.raises(InputError, match=r"none\.yaml"):
        launch.processes("src/train_policy.py", [str(tmp_path / "none.yaml")], 2)


def test_one_process_needs_no_torchrun_and_several_nodes_need_srun():
    assert launch.launcher(1) == [sys.executable]
    assert "--standalone" in launch.launcher(8)
    assert "--nproc-per-node=8" in launch.launcher(8)
    words = launch.launcher(8, 2)
    assert words[0] == "srun"
    assert {"--nnodes=2", "--nproc-per-node=4"} <= set(words)


def snakemake(folder, *words):
    command = ["snakemake", "--profile", str(ROOT / "workflow/profiles/smoke"), "-s", str(ROOT / "Snakefile")]
    done = subprocess.run(
        [*command, "--directory", str(folder), "--configfile", str(folder / "mine.yaml"), *words],
        capture_output=True, text=True, check=False, timeout=600, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_two_processes_train_a_run_that_starts_from_another(tmp_path):
    """Through the workflow, on two CPU processes (gloo): d1, from the adapter of SFT."""
    change = {"scale": "smoke", "scales": {"smoke": {"training": {"prompts_per_decode_batch": 1}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(change), encoding="utf-8")
    run = "results/smoke/runs/d1/sudoku/default/seed-0"
    code, output = snakemake(tmp_path, "--set-resources", "train_policy:gpu=2", "--", f"{run}/manifest.json")
    assert code == 0, output
    assert read_manifest(tmp_path / run / "manifest.json")["processes"] == 2
    assert "start" in read_manifest(tmp_path / run / "manifest.json")["inputs"]
    code, output = snakemake(tmp_path, "-n", "--", f"{run}/manifest.json")
    assert "Nothing to be done" in output, output
