"""On a real SLURM: the same scores as without it, and the same adapter whatever happens to the job in mid-run."""

import csv
import json
import os
import signal

import pytest
from safetensors.torch import load_file

from slurm import cluster
from slurm.workflow_folder import ROOT, RUN, Workflow, run_locally, until

pytestmark = pytest.mark.slurm

ADAPTER = f"{RUN}/adapter"


def read(path):
    """A file's rows as text without the time that sampling took, the one thing that may differ."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def check_scores(ours, theirs):
    """Two results' folders have the same scores and the same table."""
    for name in ("scores/main.csv", "tables/main.csv"):
        assert read(ours / name)
        assert read(ours / name) == read(theirs / name)


def test_main_makes_the_scores_of_a_local_run(make_workflow, tmp_path):
    workflow = make_workflow()
    half = {"scales": {"smoke": {"tasks": ["sudoku"]}}}
    workflow.write(half)
    bundle = ["--groups", "evaluate_policy=evaluations", "--group-components", "evaluations=4"]
    code, said = workflow.run("--jobs", "4", *bundle, "--", "main")
    assert code == 0, said
    run_locally(tmp_path / "local", workflow.folder / "profile/scale.yaml", "main")
    check_scores(workflow.folder / "results/smoke", tmp_path / "local/results/smoke")


def test_main_at_laptop_scale_makes_the_scores_of_make_reproduce(make_workflow):
    """Half an hour: run where `make reproduce` has been, and skipped elsewhere."""
    local = ROOT / "results/laptop"
    if not (local / "tables/main.csv").exists():
        pytest.skip("compares with results/laptop: `make reproduce` first")
    workflow = make_workflow()
    workflow.write({}, scale="laptop")
    code, said = workflow.run("--jobs", "2", "--", "main", seconds=7200)
    assert code == 0, said
    check_scores(workflow.folder / "results/laptop", local)


def test_a_job_told_to_end_is_retried_to_the_same_adapter(prepared, undisturbed):
    workflow = prepared()
    process = workflow.start("--", ADAPTER)
    workflow.ask("scancel", "--signal=TERM", workflow.holder()["job"])
    assert process.wait(timeout=600) == 0, workflow.said()
    assert [state for _, state in workflow.jobs()] == ["FAILED", "COMPLETED"]
    assert "stopped by a signal after update" in workflow.training_log()
    assert "resumed after update" in workflow.training_log()
    assert workflow.adapter() == undisturbed.adapter()


def test_a_cancelled_job_goes_on_after_one_more_start(prepared, undisturbed):
    workflow = prepared()
    process = workflow.start("--", ADAPTER)
    job = workflow.holder()["job"]
    workflow.ask("scancel", job)
    until(lambda: dict(workflow.jobs())[job].startswith("CANCELLED"), workflow)
    until(lambda: "stopped by a signal after update" in workflow.training_log(), workflow)
    os.kill(process.pid, signal.SIGINT)  # the plugin reads "CANCELLED by <user>" as "still running"
    process.wait(timeout=60)
    code, said = workflow.run("--", ADAPTER)
    assert code == 0, said
    assert "resumed after update" in workflow.training_log()
    assert workflow.adapter() == undisturbed.adapter()


def test_a_training_longer_than_the_time_limit_finishes_over_several_jobs(prepared, undisturbed):
    workflow = prepared(train_policy__runtime="2", train_policy__slurm_extra='"--signal=TERM@5"', __retries="9")
    process = workflow.start("--", ADAPTER)
    holder = workflow.holder()
    os.kill(holder["pid"], signal.SIGSTOP)  # as if it were slow; at the limit SLURM sends SIGCONT and SIGTERM
    assert process.wait(timeout=900) == 0, workflow.said()
    assert len(workflow.jobs()) >= 2
    assert "stopped by a signal after update" in workflow.training_log()
    assert "resumed after update" in workflow.training_log()
    assert workflow.adapter() == undisturbed.adapter()


def test_a_killed_training_process_is_retried_to_the_same_adapter(prepared, undisturbed, kill):
    workflow = prepared()
    process = workflow.start("--", ADAPTER)
    kill(workflow.holder()["pid"])
    assert process.wait(timeout=600) == 0, workflow.said()
    assert [state for _, state in workflow.jobs()] == ["FAILED", "COMPLETED"]
    assert "resumed after update" in workflow.training_log()
    assert workflow.adapter() == undisturbed.adapter()


def test_after_a_killed_controller_the_twin_leaves_the_run_to_the_first(prepared, undisturbed, kill):
    workflow = prepared()
    process = workflow.start("--", ADAPTER)
    holder = workflow.holder()
    os.kill(holder["pid"], signal.SIGSTOP)  # so that it is still there when its twin comes
    kill(process.pid)
    process.wait()
    assert workflow.run("--unlock", log="unlock.txt")[0] == 0
    process = workflow.start("--", ADAPTER)
    until(lambda: len(workflow.jobs()) == 2, workflow)
    plan = workflow.run("--nolock", "--", "plan", log="plan.txt")[1]
    (line,) = [line for line in plan.splitlines() if line.startswith("dmpo/sudoku/default/seed-0")]
    twin = workflow.jobs()[1][0]
    assert line.split()[1] == "running"
    assert line.endswith(f"keep job {holder['job']}, cancel duplicates: scancel {twin}")
    until(lambda: "waiting 60 s for a heartbeat" in workflow.training_log(), workflow)
    os.kill(holder["pid"], signal.SIGCONT)
    assert process.wait(timeout=900) == 0, workflow.said()
    assert f"SLURM job {holder['job']}, process {holder['pid']} on" in workflow.training_log()
    assert "is already running this job" in workflow.training_log()
    states = dict(workflow.jobs())
    assert states[holder["job"]] == "COMPLETED"
    assert states[twin] == "FAILED"
    assert workflow.adapter() == undisturbed.adapter()


def test_a_training_on_two_nodes_makes_the_adapter_of_one_process(make_workflow, slurm, tmp_path):
    """But for rounding; each node has two of the four processes."""
    workflow = make_workflow()
    training = {"prompts_per_buffer": 4, "prompts_per_decode_batch": 1, "validate_every": 0}
    training["micro_batch_size"] = 4  # a share, so that dropout is drawn alike
    halves = {"training": training, "cost": {"gpus": 4, "gpus_per_node": 2}}
    workflow.write({"scales": {"smoke": halves}})
    code, said = workflow.run("--", ADAPTER)
    assert code == 0, said
    assert json.loads((workflow.folder / RUN / "manifest.json").read_text())["processes"] == 4
    (nodes,) = {nodes for _, nodes in workflow.jobs("NNodes") if nodes != "1"}
    assert nodes == "2"
    (job,) = [number for number, nodes in workflow.jobs("NNodes") if nodes == "2"]
    assert "TresPerNode=gres:gpu:2" in workflow.ask("scontrol", "show", "job", job)
    alone = Workflow(tmp_path / "alone", os.environ.copy())
    (tmp_path / "alone.yaml").write_text(json.dumps({"scale": "smoke", "scales": {"smoke": {"training": training}}}))
    run_locally(alone.folder, tmp_path / "alone.yaml", ADAPTER)
    assert workflow.adapter()
    assert alone.adapter()
    ours, theirs = (load_file(one.folder / ADAPTER / "adapter_model.safetensors") for one in (workflow, alone))
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max() for name in ours) < 1e-6


def test_a_node_set_down_in_mid_run_gives_its_job_to_another(prepared, undisturbed):
    workflow = prepared()
    process = workflow.start("--", ADAPTER)
    job = workflow.holder()["job"]
    node = workflow.ask("squeue", "-h", "-j", job, "-o", "%N")
    workflow.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        assert process.wait(timeout=900) == 0, workflow.said()
    finally:
        if "down" in workflow.ask("sinfo", "-hN", "-n", node, "-o", "%T"):  # it may have come back by itself
            workflow.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert [number for number, _ in workflow.jobs()][-1] == job  # SLURM's own requeue: no attempt is spent
    assert workflow.jobs()[-1][1] == "COMPLETED"
    assert workflow.adapter() == undisturbed.adapter()


def test_a_job_that_needs_more_memory_gets_more_at_its_next_attempt(prepared, undisturbed):
    workflow = prepared(train_policy__mem_mb="200 + 3800 * (attempt - 1)")
    code, said = workflow.run("--", ADAPTER)
    assert code == 0, said
    assert len(workflow.jobs()) == 2
    assert workflow.adapter() == undisturbed.adapter()


def test_what_fails_for_good_stops_only_what_hangs_on_it(make_workflow):
    workflow = make_workflow()
    gate = {"models": {"smoke": {"pretraining": {"countdown": {"gate": [0.99, 1.0]}}}}}
    workflow.write(gate)
    models = [f"results/smoke/models/smoke/{task}/seed-0/weights" for task in ("countdown", "sudoku")]
    code, said = workflow.run("--", f"{RUN}/adapter", *models)
    assert code == 1
    assert (workflow.folder / models[1]).exists()
    assert workflow.adapter()
    assert not (workflow.folder / models[0]).exists()
    assert "not a usable base" in said
    assert "logs/prepare_model/smoke/smoke/countdown/seed-0.log" in said
    assert "Trying to restart" not in said
    assert [state for _, state in workflow.jobs()].count("FAILED") == 1  # refused once, in spite of `retries: 3`
    names = {name.partition("_")[0] for _, name in workflow.jobs("JobName")}
    assert names == {"unmask"}


def test_the_cluster_says_why_it_cannot_be_started(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    assert cluster.missing().startswith("munged, mariadbd, slurmdbd, slurmctld, slurmd not installed: apt-get install")
