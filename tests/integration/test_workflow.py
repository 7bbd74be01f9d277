"""The workflow itself, at the smoke scale: it runs to the end, then has nothing to do, and remakes what is deleted."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import yaml
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan

from helpers.paths import ROOT
from helpers.workflow import snakemake
from unmask.planning.pins import loose_revisions, pinned
from unmask.planning.readiness import FETCHED

TOKEN = "hf_thisIsASecret"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the main experiment has run at the smoke scale, shared by the tests of this file."""
    folder = tmp_path_factory.mktemp("workflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        code, output = snakemake(folder, "all", "--verbose")
    assert TOKEN not in output
    assert code == 0, output
    (folder / "snakemake.txt").write_text(output, encoding="utf-8")
    return folder


def test_main_makes_tables_figures_and_claims(finished):
    results = finished / "results/smoke"
    for name in ("tables/main.md", "tables/main.tex", "tables/main.csv", "claims.md", "scores/main.csv"):
        assert (results / name).stat().st_size > 0
    for figure in ("accuracy_by_length", "training_curves"):
        assert (results / f"figures/main/{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (results / f"figures/main/{figure}.pdf").read_bytes().startswith(b"%PDF")


def test_snakemake_looks_for_jobs_only_when_one_has_ended(finished):
    """Snakemake's own limit on submissions would add many more, which keep a core busy (Snakefile, onstart).

    Each look prints a line in verbose mode. No rule starts a snakemake of its own, which would add its looks.
    """
    output = (finished / "snakemake.txt").read_text(encoding="utf-8")
    looks, ended = output.count("Ready jobs: "), output.count("Finished jobid: ")
    assert 0 < looks <= ended + 1, f"{looks} looks for jobs, {ended} jobs ended"


@pytest.mark.parametrize(("limit", "holds"), [("100/1s", False), ("100/1m", True), ("20/1s", True)])
def test_only_the_default_limit_on_submissions_is_removed(limit, holds):
    block = (ROOT / "Snakefile").read_text(encoding="utf-8").split("\nonstart:\n")[1].split("\n\n")[0]
    limiter = JobRateLimiter(MaxJobsPerTimespan.parse_choice(limit))
    scheduler = SimpleNamespace(job_rate_limiter=limiter)
    exec(textwrap.dedent(block), {"workflow": SimpleNamespace(scheduler=scheduler)})
    assert scheduler.job_rate_limiter is (limiter if holds else None)


def test_no_file_holds_the_token(finished):
    """Logs, manifests and what snakemake keeps say nothing of the environment's secrets."""
    files = [file for file in finished.rglob("*") if file.is_file()]
    assert {"manifest.json", "metrics.csv"} <= {file.name for file in files}
    assert {".log", ".tsv", ".yaml", ".safetensors"} <= {file.suffix for file in files}
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_a_question_is_text_and_never_a_command(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    question = """-h $(touch pwned) `touch pwned`; touch pwned # 'a" {scale} \\ ü"""
    config = {"experiments": {"main": {"question": question}}}
    (copy / "mine.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    code, output = snakemake(copy, "results/smoke/tables/main.md", "--configfile", str(copy / "mine.yaml"))
    assert code == 0, output
    assert question in (copy / "results/smoke/tables/main.md").read_text(encoding="utf-8")
    assert not list(copy.rglob("pwned"))


def test_a_second_run_has_nothing_to_do(finished):
    code, output = snakemake(finished, "-n", "main")
    assert code == 0
    assert "Nothing to be done" in output


def test_four_tasks_adds_only_its_two_stand_ins(finished):
    code, output = snakemake(finished, "-n", "four_tasks")
    assert code == 0, output
    counts = {line.split()[0]: int(line.split()[1]) for line in output.splitlines() if is_job_count(line)}
    assert (counts["prepare_dataset"], counts["prepare_model"]) == (2, 4)  # two tasks, two seeds
    assert (counts["train_policy"], counts["evaluate_policy"]) == (8, 12)


def test_deleting_an_adapter_remakes_that_run_and_what_hangs_on_it(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    shutil.rmtree(copy / "results/smoke/runs/dmpo/sudoku/default/seed-0/adapter")
    code, output = snakemake(copy, "-n", "main")
    assert code == 0
    counts = {line.split()[0]: int(line.split()[1]) for line in output.splitlines() if is_job_count(line)}
    assert counts["train_policy"] == 1
    assert counts["evaluate_policy"] == 1
    assert "prepare_model" not in counts


def is_job_count(line):
    words = line.split()
    return len(words) == 2 and words[1].isdigit() and words[0].islower()


def test_a_single_run_is_addressable(finished):
    code, output = snakemake(finished, "-n", "results/smoke/runs/dmpo/sudoku/default/seed-1/adapter")
    assert code == 0
    assert "Nothing to be done" in output


def test_plan_says_how_far_the_runs_are(finished, tmp_path):
    code, output = snakemake(finished, "plan")
    assert code == 0, output
    rows = [line.split() for line in output.splitlines() if "/default/seed-" in line]
    trained = [row for row in rows if not row[0].startswith("base/")]
    assert (len(rows), len(trained)) == (12, 8)
    assert all(row[1:4] == ["done", "4/4", "1/1"] for row in trained)
    assert all(row[1:3] == ["done", "1/1"] for row in rows if row not in trained)
    assert "~" not in output  # every method has runs that are done
    assert "8 runs: 8 done" in output
    code, output = snakemake(tmp_path, "plan_methods")
    assert code == 0, output
    assert "12 runs: 12 to do" in output  # six methods that train, two seeds; d1 starts from the runs of sft


def test_the_report_is_one_file(finished):
    page = (finished / "results/smoke/report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == page.count('<img src="data:image/png;base64,') == 3
    assert page.count("data-run=") == 12
    assert "snakemake --cores 2 results/smoke/report.html --config scale=smoke fidelity=corrected" in page


def test_the_command_in_the_report_has_nothing_to_do(finished):
    words = [
        "snakemake",
        "-n",
        "--cores",
        "2",
        "results/smoke/report.html",
        "--config",
        "scale=smoke",
        "fidelity=corrected",
    ]
    words += ["-s", str(ROOT / "Snakefile"), "--directory", str(finished)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_snakemake_makes_its_own_report_too(finished):
    code, output = snakemake(finished, "main", "--report", "report.html")
    assert code == 0, output
    page = (finished / "report.html").read_text(encoding="utf-8")
    # Its categories and labels, and captions that know the figure of their job.
    for text in ("Tables", "Figures", "accuracy_by_length", "main, comparisons"):
        assert text in page
    for caption in (
        "Correct answers (strict scoring) against",
        "Mean reward of the rollouts against",
        "Scores of experiment",
    ):
        assert caption in page


def test_an_experiment_has_a_report_of_its_own(finished):
    code, output = snakemake(finished, "report_main")
    assert code == 0, output
    folder = finished / "results/smoke/reports/main"
    assert sorted(file.name for file in folder.iterdir()) == [
        "claims.csv", "claims.md", "papers.md", "report.html", "speed.csv", "speed.md"
    ]  # fmt: skip
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "unmask: main at scale smoke" in page
    assert page.count("data-run=") == 12
    links = re.findall(r'href="([^#:"]+)"', page)
    assert len(links) > 10
    assert [link for link in links if not (folder / link).exists()] == []
    code, output = snakemake(finished, "-n", "report_main")
    assert "Nothing to be done" in output


def test_the_papers_scale_plans_where_its_files_and_commits_are(tmp_path):
    for name in FETCHED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not read by a dry run", encoding="utf-8")
    text = (ROOT / "workflow/config/tasks.yaml").read_text(encoding="utf-8")
    text = pinned(text, {one.key: "a" * 40 for one in loose_revisions(text)})
    (tmp_path / "pinned.yaml").write_text(text, encoding="utf-8")
    words = ["--configfile", str(tmp_path / "pinned.yaml"), "--quiet", "host", "--", "all"]
    code, output = snakemake(tmp_path, "-n", *words, profile="slurm")
    assert code == 0, output
    assert "train_policy" in output
    gpus: dict[str, set[str]] = {}
    for rule, resources in re.findall(r"^rule (\w+):$.*?^ +resources: (.*?)$", output, re.MULTILINE | re.DOTALL):
        gpus.setdefault(rule, set()).update(re.findall(r"\bgpu=(\d+)", resources))
    assert (gpus["train_policy"], gpus["evaluate_policy"]) == ({"8"}, {"1"})


PROFILES = [("slurm", "llada-8b"), ("laptop", "laptop"), ("one-gpu", "one-gpu"), ("smoke", "smoke")]


@pytest.mark.parametrize(("profile", "scale"), PROFILES)
def test_a_profile_keeps_its_scale_beside_other_settings(tmp_path, profile, scale):
    (tmp_path / "mine.yaml").write_text("fidelity: paper\n", encoding="utf-8")
    curves = f"results/{scale}-paper/exact_toy/curves.csv"  # no rule makes it at another scale or fidelity
    for words in (["--config", "fidelity=paper"], ["--configfile", str(tmp_path / "mine.yaml")]):
        code, output = snakemake(tmp_path, "-n", curves, *words, profile=profile)
        assert code == 0, output


def test_the_workflow_runs_from_a_folder_with_a_space(tmp_path):
    clone = tmp_path / "my clone"
    for name in ("src", "workflow", "envs"):
        shutil.copytree(ROOT / name, clone / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy2(ROOT / name, clone)
    spec = "results/smoke/exact_toy/spec.yaml"
    code, output = snakemake(clone / "here", spec, root=clone)
    assert code == 0, output
    assert (clone / "here" / spec).exists()


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        ("collect_scores", "samples-papers.parquet", ["{broken}", "--scores", "out.csv"]),
        (
            "render_figure",
            "metrics.csv",
            ["training_curves", "--scores", "none.csv", "--metrics", "{broken}", "--pdf", "a.pdf", "--png", "a.png"],
        ),
    ],
)
def test_a_broken_file_is_named_with_the_way_out(finished, tmp_path, script, name, words):
    run = finished / "results/smoke/runs/dmpo/sudoku/default/seed-0"
    shutil.copy2(run / "spec.yaml", tmp_path)
    broken = tmp_path / name
    broken.write_bytes((run / name).read_bytes()[:20])
    command = [sys.executable, str(ROOT / f"src/{script}.py"), *(word.format(broken=broken) for word in words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: {broken}: ")
    assert done.stderr.endswith("Delete it and run snakemake again.\n")


def test_environments_pin_what_constraints_pin():
    pinned = pins(ROOT / "constraints.txt")
    for file in sorted((ROOT / "envs").glob("*.yaml")):
        assert pins(file), file
        assert pins(file).items() <= pinned.items(), file


def pins(file):
    """Versions by normalised name."""
    found = re.findall(r"^[ -]*([\w.-]+)==(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_mistakes_in_the_config_stop_a_dry_run(tmp_path):
    (tmp_path / "mine.yaml").write_text("methods: {dmpo: {alhpa: 0.04}}", encoding="utf-8")
    code, output = snakemake(tmp_path, "-n", "--configfile", str(tmp_path / "mine.yaml"))
    assert code != 0
    assert "methods.dmpo: unknown 'alhpa'; did you mean 'alpha'?" in output


@pytest.mark.parametrize(
    "command",
    ["snakemake --lint", "snakefmt --check Snakefile workflow", "ruff check", "ruff format --check"],
)
def test_the_tree_is_clean(command):
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_scale_tunes_without_further_sweeps(tmp_path):
    """The laptop has both; elsewhere the only sweep has no name, and its files no ending."""
    settings = "{learning_rate: 1e-3}, {learning_rate: 1e-4}"
    tuning = f"tuning={{seeds: [1000], candidates: {{dmpo: {{tasks: [sudoku], settings: [{settings}]}}}}}}"
    code, output = snakemake(tmp_path, "-n", "tune", "--config", f"set=scales.smoke.{tuning}")
    assert code == 0, output
    assert "render_tuning" in output
