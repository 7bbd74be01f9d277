"""Publishing experiment by experiment, from planted results of two runs at the smoke scale."""

import json
import os
import runpy
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from helpers.paths import ROOT
from unmask.analysis import claim_entries, claim_tables, paper_entries
from unmask.analysis.paper_entries import paper_of
from unmask.analysis.publication import Publication, lacking, pages
from unmask.common.manifest import signed
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

STEP = ROOT / "src" / "publish_results.py"
RESOURCES = ROOT / "workflow/resources"
CLAIMS = claim_entries.read(RESOURCES / "claims.yaml")
ENUMERATED = claim_entries.read(RESOURCES / "surrogate_claims.yaml")
PAPERS = paper_entries.read(RESOURCES / "papers.yaml")
OLD, NEW = "aaaaaaa", "bbbbbbb"
GRID = expand(load_config() | {"scale": "smoke"})
PAGES = pages(GRID)
PROBLEMS, STEPS = 6, 8


def plant(results, experiment, commit=OLD, gain=0.2, weights="1"):
    """Everything that a finished experiment leaves; DMPO is better than the rest by `gain`."""
    page = PAGES[experiment]
    for path in page.files.values():
        write(results / path, f"{path} of {commit}")
    for job in page.jobs:
        write(results / job.manifest, json.dumps(signed(manifest(job, commit, weights))))

    for path in GRID.samples(experiment):
        run = GRID.runs[GRID.run_of(path)]
        policy = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
        level = 0.3 + gain * (run.method == "dmpo")
        folder = results / "runs" / run.name
        run.write(folder / "spec.yaml")
        write_rows(results / path.removeprefix(f"{GRID.root}/"), answers(policy, level))
        rng = np.random.default_rng(run.seed)
        steps = [{"step": step, "entropy": level + 0.001 * rng.random()} for step in range(1, STEPS + 1)]
        write(folder / "metrics.csv", pd.DataFrame(steps).assign(reward=0.5, nfe=8.0).to_csv(index=False))


def manifest(job, commit, weights):
    """Manifest of a planted run or evaluation, an hour and a minute long."""
    return {
        "spec": job.digest, "inputs": {"weights": f"{weights}{job.model}", "adapter": "x"}, "outputs": {"adapter": "x"},
        "git": {"commit": commit, "dirty": False}, "device": "AMD EPYC (AVX2)", "python": "3.11.7",
        "seconds": 3600.0 if job.trains else 60.0, "finished": "2020-01-02T03:04:05+00:00",
        "packages": {"torch": "2.13.0" if job.trains else "2.14.0"},
    }  # fmt: skip


def answers(policy, level):
    rng = np.random.default_rng(policy["seed"])
    rows = []
    for sampler in ("top1", "top2"):
        for example in range(PROBLEMS):
            score = level + 0.02 * rng.random()
            scores = {"published": score, "strict": score, "points": 1.0, "nfe": 8.0, "tokens": 16.0, "seconds": 1.0}
            rows.append(policy | {"sampler": sampler, "length": 24, "example": example} | scores)
    return rows


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def publish(tmp_path, monkeypatch, capsys):
    """Runs the step on a folder of results; returns its output and why it refused, empty if it did not."""

    def run(folder, *options):
        results, target = tmp_path / folder / "smoke", tmp_path / "target"
        monkeypatch.setattr(sys, "argv", [str(STEP), str(results), str(target), *options])
        why = ""
        try:
            runpy.run_path(str(STEP), run_name="__main__")
        except SystemExit as end:
            why = str(end.code)
        return capsys.readouterr().out, why

    return run


def verdicts(table):
    """Cells of each tested claim in a published table, by heading."""
    lines = [line for line in table.read_text().splitlines() if line.startswith("|")]
    heads, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_experiment_is_published_next_to_earlier_ones(tmp_path, publish):
    plant(tmp_path / "first/smoke", "main")
    assert publish("first") == ("published: main\n", "")
    docs = tmp_path / "target"
    first = contents(docs)
    plant(tmp_path / "second/smoke", "entropy", NEW)
    assert publish("second") == ("published: entropy\nkept: main\n", "")

    # The pages of the first run are the same bytes, and both are in the table.
    assert {name: (docs / name).read_bytes() for name in PAGES["main"].files} == {
        name: first[name] for name in PAGES["main"].files
    }
    assert (docs / "entropy-rollout_entropy.png").read_text() == f"figures/entropy/rollout_entropy.png of {NEW}"
    text = (docs / "README.md").read_text()
    assert f"[training curves](main-training_curves.png) | {OLD} | 8, 8.0 h; evaluations 0.2 h | 2020-01-02 |" in text
    assert f"[training curves](entropy-training_curves.png) | {NEW} | 6, 6.0 h; evaluations 0.1 h |" in text
    assert "| smoke/sudoku/seed-0 | 1smoke/sudok | main, entropy |" in text
    assert "- Python 3.11.7, torch 2.13.0, 2.14.0: main, entropy" in text
    assert "older recipe" not in text

    # Verdicts follow from the rows of both runs; Holm's correction is for all tested claims of a paper.
    rows = pd.read_csv(docs / "all_claims.csv")
    assert set(rows["claim"].str.split().str[0]) == {"main", "entropy"}
    found = claim_tables.from_differences(CLAIMS, rows)
    commits = {"main": OLD, "entropy": NEW}
    both = claim_tables.markdown(found, "smoke", ["main", "entropy"], commits)
    assert (docs / "all_claims.md").read_text() == both
    assert [one["Commit"] for one in verdicts(docs / "all_claims.md")] == [OLD] * 6 + [NEW] * 2
    assert {one["Commit"] for one in verdicts(docs / "claims.md")} == {OLD}
    assert "1 of experiments without scores here" not in both


def test_verdicts_are_published_by_paper(tmp_path, publish):
    """Of runs and of enumeration; the latter stay when another experiment is published."""
    for folder, experiment in (("first", "main"), ("second", "entropy")):
        plant(tmp_path / folder / "smoke", experiment)
    first = tmp_path / "first/smoke"
    for path in PAGES["surrogates"].files.values():
        write(first / path, "enumerated")
    GRID.surrogates.write(first / "surrogates/spec.yaml")
    rows = [
        {"claim": claim.key, "metric": part.metric, "seed": seed, "base_once": False, "0": 1 + seed / 10}
        for claim in ENUMERATED
        for part in claim.parts
        for seed in range(3)
    ]
    write(first / "tables/surrogates-claims.csv", pd.DataFrame(rows).to_csv(index=False))

    for folder in ("first", "second"):
        assert publish(folder)[1] == ""
        of_runs = pd.read_csv(tmp_path / "target/all_claims.csv")["claim"].unique()
        sources = [claim.source for claim in CLAIMS if claim.key in of_runs] + [claim.source for claim in ENUMERATED]
        expected = Counter(paper.name for source in sources if (paper := paper_of(source, PAPERS)))
        text = (tmp_path / "target/papers.md").read_text()
        assert text.startswith("# The papers, at scale `smoke`")
        assert counts_by_paper(text) == expected
        assert len(expected) > 3


def test_nothing_is_kept_of_enumerated_claims_if_asked(tmp_path, publish):
    """A stored row of a claim that is gone is left out; with --replace-all, so are all that are not made again."""
    plant(tmp_path / "first/smoke", "main")
    for path in PAGES["surrogates"].files.values():
        write(tmp_path / "target" / path.rpartition("/")[2], "enumerated")
    row = {"claim": ENUMERATED[0].key, "metric": ENUMERATED[0].parts[0].metric, "base_once": False, "0": 1.0}
    rows = [row | {"seed": 0}, row | {"seed": 1, "0": 1.1}, row | {"seed": 0, "claim": "gone"}]
    write(tmp_path / "target/surrogates-claims.csv", pd.DataFrame(rows).to_csv(index=False))
    write(tmp_path / "target/provenance.json", Publication(scale="smoke").text())
    own = paper_of(ENUMERATED[0].source, PAPERS).name

    assert publish("first") == ("published: main\nkept: surrogates\n", "")
    assert counts_by_paper((tmp_path / "target/papers.md").read_text())[own] == 1 + (own == "DMPO") * 4
    publish("first", "--replace-all")
    assert counts_by_paper((tmp_path / "target/papers.md").read_text())[own] == (own == "DMPO") * 4
    assert not (tmp_path / "target/surrogates-claims.csv").exists()


def counts_by_paper(text):
    """Number of tested claims of each paper that has any, from the list at the start of the page."""
    found = Counter()
    for line in text.splitlines():
        if line.startswith("| ["):
            name, *counts = [cell.strip() for cell in line.split("|")[1:-1]]
            found[name[1:].partition("]")[0]] = sum(int(count or 0) for count in counts[:-1])
    return +found


def test_a_repeated_experiment_replaces_its_verdicts_alone(tmp_path, publish):
    plant(tmp_path / "first/smoke", "main")
    plant(tmp_path / "first/smoke", "entropy")
    publish("first")
    before = verdicts(tmp_path / "target/all_claims.md")
    plant(tmp_path / "second/smoke", "main", NEW, gain=-0.2)
    publish("second")
    after = verdicts(tmp_path / "target/all_claims.md")
    of_dmpo = [one["Verdict"] for one in after if one["Claim"].startswith("DMPO improves")]
    assert of_dmpo == ["contradicted"] * 4
    assert {one["Verdict"] for one in before if one["Claim"].startswith("DMPO improves")} == {"supported"}
    assert [one["Effect"] for one in after[6:]] == [one["Effect"] for one in before[6:]]
    assert [one["Commit"] for one in after] == [NEW] * 6 + [OLD] * 2


def test_publishing_twice_changes_nothing(tmp_path, publish):
    for folder in ("first", "second"):
        plant(tmp_path / folder / "smoke", "main" if folder == "first" else "entropy")
        publish(folder)
    before = contents(tmp_path / "target")
    publish("second")
    assert contents(tmp_path / "target") == before


def test_other_weights_of_a_base_model_are_refused(tmp_path, publish):
    plant(tmp_path / "first/smoke", "main")
    publish("first")
    before = contents(tmp_path / "target")
    plant(tmp_path / "second/smoke", "entropy", NEW, weights="2")
    out, why = publish("second")
    assert (out, why.count("\n")) == ("", 0)
    assert "smoke/sudoku/seed-0, the base model of main and entropy, has different weights in their runs" in why
    assert contents(tmp_path / "target") == before

    # The same experiment may have other weights than before, and nothing is mixed where all is replaced.
    out, why = publish("second", "--replace-all")
    gone = [line.rpartition("/")[2] for line in out.splitlines() if line.startswith("removed: ")]
    assert (sorted(gone), why) == (sorted(PAGES["main"].files), "")
    assert out.endswith("published: entropy\n")
    assert not any(name.startswith("main") for name in contents(tmp_path / "target"))
    assert {one["Commit"] for one in verdicts(tmp_path / "target/all_claims.md")} == {NEW}
    plant(tmp_path / "second/smoke", "entropy", NEW, weights="3")
    assert publish("second")[1] == ""


def test_different_weights_within_an_experiment_are_refused(tmp_path, publish):
    results = tmp_path / "first/smoke"
    plant(results, "main")
    job = next(job for job in PAGES["main"].jobs if job.trains)
    write(results / job.manifest, json.dumps(signed(manifest(job, OLD, "2"))))
    assert f"its base model {job.model} has other weights" in publish("first")[1]


def test_files_that_nothing_makes_any_more_are_removed(tmp_path, publish):
    plant(tmp_path / "first/smoke", "main")
    publish("first")
    docs = tmp_path / "target"
    for name in ("old.md", "old.csv", "main-a_figure_of_old.png"):
        (docs / name).write_text("old")
    record = json.loads((docs / "provenance.json").read_text())
    record["experiments"]["old"] = record["experiments"]["main"]
    (docs / "provenance.json").write_text(json.dumps(record))
    rows = pd.read_csv(docs / "all_claims.csv", dtype=str)
    gone = rows.iloc[:1].assign(claim="old sudoku dmpo base metric=published")
    pd.concat([gone, rows]).to_csv(docs / "all_claims.csv", index=False)
    plant(tmp_path / "second/smoke", "entropy")
    out, why = publish("second")
    assert why == ""
    removed = ["main-a_figure_of_old.png", "old.csv", "old.md"]
    assert out == "".join(f"removed: {docs / name}\n" for name in removed) + "published: entropy\nkept: main\n"
    assert set(json.loads((docs / "provenance.json").read_text())["experiments"]) == {"main", "entropy"}
    assert "old" not in set(pd.read_csv(docs / "all_claims.csv")["claim"].str.split().str[0])


def test_pages_without_a_record_stay_and_say_so(tmp_path, publish):
    docs = tmp_path / "target"
    docs.mkdir()
    for name in PAGES["dream"].files:
        (docs / name).write_text("as it was")
    plant(tmp_path / "first/smoke", "main")
    assert publish("first") == ("published: main\nkept: dream\n", "")
    assert (docs / "dream.md").read_text() == "as it was"
    assert (
        "[training curves](dream-training_curves.png) | not recorded | – | – | – |" in (docs / "README.md").read_text()
    )
    # Its claims have no numbers, so it is none of the experiments that have.
    assert "of experiments without scores here (`methods`, `from_sft`, `dream`," in (docs / "all_claims.md").read_text()


@pytest.mark.parametrize("change", [{"older_recipe": True}, {"settings": "of another time"}])
def test_results_of_other_settings_are_marked(tmp_path, publish, change):
    plant(tmp_path / "first/smoke", "main")
    publish("first")
    docs = tmp_path / "target"
    record = json.loads((docs / "provenance.json").read_text())
    record["experiments"]["main"] |= change
    (docs / "provenance.json").write_text(json.dumps(record))
    plant(tmp_path / "second/smoke", "entropy", NEW)
    publish("second")
    text = (docs / "README.md").read_text()
    assert f"| {OLD}, **older recipe** |" in text
    assert "**older recipe**: made with settings or base models that the configuration does not have any more" in text
    commits = [one["Commit"] for one in verdicts(docs / "all_claims.md")]
    assert commits == [f"{OLD}, older recipe"] * 6 + [NEW] * 2


def test_tables_without_an_experiment_are_published(tmp_path, publish):
    results = tmp_path / "first/smoke"
    for path in PAGES["exact_toy"].files.values():
        write(results / path, "toy")
    GRID.exact_toy.write(results / "exact_toy/spec.yaml")
    assert publish("first") == ("published: exact_toy\n", "")
    assert "[table](exact_toy.md), [figure](exact_toy.png)" in (tmp_path / "target/README.md").read_text()
    assert "47 not tested" in (tmp_path / "target/all_claims.md").read_text()


def test_what_is_not_finished_is_not_published(tmp_path, publish):
    results, page = tmp_path / "smoke", PAGES["main"]
    assert lacking(page, results) == "20 of 20 runs and evaluations are missing or have other settings"
    plant(results, "main")
    assert lacking(page, results) == ""
    training = next(job for job in page.jobs if job.trains)
    evaluation = next(job for job in page.jobs if job.trained_by == training.manifest)
    good = manifest(evaluation, OLD, "1")

    for entry, why in (
        ({"spec": "other"}, "1 of 20 runs and evaluations are missing or have other settings"),
        ({"inputs": {"adapter": "y"}}, f"{evaluation.manifest} is about another adapter than the run has now"),
        ({"finished": "2999-01-01T00:00:00+00:00"}, f"older than the runs: {', '.join([*page.files.values()])}"),
    ):
        write(results / evaluation.manifest, json.dumps(signed(good | entry)))
        assert lacking(page, results).startswith(why)
    write(results / evaluation.manifest, json.dumps(signed(good)))
    os.remove(results / "figures/main/training_curves.png")
    assert lacking(page, results) == "no figures/main/training_curves.png"

    out, why = publish(".")
    assert out == "not finished: main: no figures/main/training_curves.png\n"
    assert "no finished experiment in this folder" in why
    assert not (tmp_path / "target").exists()


def test_a_folder_of_other_documents_is_refused(tmp_path, publish):
    """Such as docs in place of docs/results: pages that nothing makes are removed."""
    plant(tmp_path / "first/smoke", "main")
    docs = tmp_path / "target"
    docs.mkdir()
    (docs / "index.md").write_text("a page that somebody wrote")
    assert "has no provenance.json, but index.md, which is no file of results" in publish("first")[1]
    assert contents(docs) == {"index.md": b"a page that somebody wrote"}


def test_results_of_another_scale_are_refused(tmp_path, publish):
    plant(tmp_path / "first/smoke", "main")
    docs = tmp_path / "target"
    docs.mkdir()
    (docs / "provenance.json").write_text(Publication(scale="laptop").text())
    assert "has results of laptop, not of smoke" in publish("first")[1]
    (docs / "provenance.json").write_text("{")
    assert "provenance.json: cannot be read" in publish("first")[1]
    assert publish("first", "--replace-all")[1] == ""
    assert "not results/laptop; pass --scale and --fidelity" in publish("first", "--scale", "laptop")[1]
