"""After a failed job: refusals are not tried again, other failures are, and the end says what failed and why."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import yaml

from helpers.paths import ROOT
from unmask.common.errors import REFUSED, InputError, TransientError, refused, run_step
from unmask.planning.failures import last_line, table

GATE = {"models": {"smoke": {"pretraining": {"countdown": {"gate": [0.99, 1.0]}}}}}
MODEL = "results/smoke/models/smoke/countdown/seed-0"


@dataclass
class Job:
    name: str
    wildcards_dict: dict
    log: list = field(default_factory=list)


def snakemake(folder, *words):
    command = ["snakemake", "--profile", ROOT / "workflow/profiles/smoke", "-s", ROOT / "Snakefile"]
    command += ["--directory", folder, "--keep-going", "--retries", "2", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_refusal_is_not_tried_again_and_the_end_says_what_failed(tmp_path):
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(GATE), encoding="utf-8")
    words = ["--configfile", tmp_path / "gate.yaml", "--", f"{MODEL}/weights"]
    adapter = "results/smoke/runs/dmpo/countdown/default/seed-0/adapter"
    code, output = snakemake(tmp_path, *words, adapter)
    assert code == 1
    assert output.count("not a usable base for countdown") == 2  # by the step and in the table
    assert "Trying to restart" not in output
    assert re.search(
        r"^prepare_model +smoke/countdown/seed-0 +prepare_model: smoke.* logs/prepare_model/", output, re.M
    )
    assert "Not started, because they need a failed job or the workflow was stopped: 1 train_policy." in output


def test_a_refused_data_setting_is_not_tried_again(tmp_path):
    change = {"scales": {"smoke": {"task_settings": {"countdown": {"train": 10**6}}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(change), encoding="utf-8")
    words = ["--configfile", tmp_path / "mine.yaml", "--", "results/smoke/data/countdown/train.parquet"]
    code, output = snakemake(tmp_path, *words)
    assert code == 1
    assert output.count("prepare_dataset: tasks.countdown: only ") == 2  # by the step and in the table
    assert "Trying to restart" not in output


def test_what_dies_without_a_word_is_tried_again_beside_an_old_refusal(tmp_path):
    """A file in place of the base model's folder of data: the step ends with a traceback."""
    log = tmp_path / "logs/prepare_model/smoke/smoke/countdown/seed-0.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"prepare_model: no\n{REFUSED}\n", encoding="utf-8")
    (tmp_path / "bin").mkdir()
    # python is killed before it says anything, and tee writes nothing
    for name in ("python", "tee"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    rule = ["--allowed-rules", "prepare_model", "--", f"{MODEL}/weights"]
    assert snakemake(tmp_path, "--", f"{MODEL}/spec.yaml", "results/smoke/data/countdown/train.parquet")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        code, output = snakemake(tmp_path, *rule)
    assert code == 1
    assert output.count("Trying to restart") == 2, output


def test_only_in_a_workflow_a_step_says_that_it_refuses(monkeypatch, capsys, tmp_path):
    def step(error):
        def main():
            raise error

        with pytest.raises(SystemExit) as caught:
            run_step(main)
        return str(caught.value)

    assert REFUSED not in step(InputError("no"))
    monkeypatch.setenv("UNMASK_WORKFLOW", "1")
    assert step(InputError("no")).endswith(f": no\n{REFUSED}")
    assert REFUSED not in step(TransientError("no"))
    log = tmp_path / "x.log"
    assert not refused(log)
    log.write_text(f"no\n{REFUSED}\n", encoding="utf-8")
    assert refused(log)


def test_a_step_whose_reader_has_left_exits_quietly():
    code = "from unmask.common.errors import run_step; run_step(lambda: print('x'))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "src", stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_line_that_tells_most(tmp_path):
    log = tmp_path / "x.log"
    assert last_line([str(log)]) == "its log is empty; see logs/slurm"
    log.write_text(f"step\nthe reason\n{REFUSED}\ntorchrun's own\n", encoding="utf-8")
    assert last_line([str(log)]) == "the reason"
    log.write_text(f"step\n{'x' * 200}\n\n", encoding="utf-8")
    assert last_line([str(log)]) == "x" * 71 + "…"


def test_the_table_counts_what_was_not_tried():
    said = table([Job("b", {"scale": "s", "run": "r"}), Job("a", {})], [Job("c", {}), Job("c", {})])
    assert [line.split()[0] for line in said.splitlines()[3:5]] == ["a", "b"]
    assert said.splitlines()[4].split()[1] == "r"
    assert "2 c." in said
    assert "No job failed" in table([], [])
