"""claims.yaml and field_claims.yaml against the runs there are, the papers' numbers and the published verdicts."""

import re

import pandas as pd
import pytest

from helpers.paths import ROOT
from unmask.analysis import claim_entries, claim_tables, paper_entries, paper_results, published_papers
from unmask.analysis.lineage import Lineage
from unmask.analysis.publication import pages, read_publication
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

RESOURCE = ROOT / "workflow/resources/claims.yaml"
RESULTS = ROOT / "docs/results"


FIELD = ROOT / "workflow/resources/field_claims.yaml"


@pytest.mark.parametrize(
    ("resource", "scale", "absent"),
    [
        (RESOURCE, "laptop", 23),
        (RESOURCE, "one-gpu", 22),
        (RESOURCE, "llada-8b", 0),
        (FIELD, "laptop", 0),
        (FIELD, "one-gpu", 10),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_every_claim_is_about_runs_that_there_are(config, resource, scale, absent):
    """The papers' scale has all claims of the two papers; the others lack tasks, and methods of `main`."""
    grid, without = expand(config | {"scale": scale}), 0
    for one in claim_entries.read(resource):
        experiment = grid.experiments[one.experiment]
        runs = [grid.runs[name] for name in experiment.runs]
        policies = {
            (run.method, task, run.variant)
            for run in runs
            for task in (experiment.transfers[run.name] if run.corpus else [run.task])
        }
        # A claim may compare a policy with a number.
        asked = [who for who in (one.better, one.worse) if isinstance(who, str)]
        methods = [re.split("[@/]", who)[0] for who in asked]
        if any((method, one.task) not in {policy[:2] for policy in policies} for method in methods):
            without += 1
            continue
        for who in asked:
            policy, _, part = who.partition("@")
            method, _, variant = policy.partition("/")
            # Some claims of the field name variants by settings that only the laptop scale gives them.
            if (method, one.task, variant or "default") not in policies and (resource, scale) == (FIELD, "one-gpu"):
                without += 1
                break
            assert (method, one.task, variant or "default") in policies, (one.claim, who)
            # The step mode of a claim on samples; after the @ of a diagnosis is a surrogate.
            mode = part if part and one.metric != "kl" else one.sampler
            if mode:
                evaluation = grid.evaluations[experiment.evaluation_stem.removeprefix("samples-")]
                assert mode in evaluation.samplers, (one.claim, one.experiment, mode)
    assert without == absent


def test_the_papers_scale_tests_claims_on_all_of_its_tasks(config):
    tasks = {one.task for one in claim_entries.read(RESOURCE)}
    assert set(config["scales"]["llada-8b"]["tasks"]) <= tasks


def test_claims_about_accuracies_follow_from_the_printed_numbers():
    """Of claims without variants on `main` and `dream`: the mean over lengths in the table that the claim names."""
    papers = paper_entries.read(ROOT / "workflow/resources/papers.yaml")
    numbers, checked = paper_results.read(ROOT / "workflow/resources/published_results.yaml", papers), 0
    models = {"main": "llada-8b-instruct", "dream": "dream-7b-instruct"}
    for one in claim_entries.read(RESOURCE):
        if one.metric != "published" or one.experiment not in models or "against d1" in one.source:
            continue
        printed = numbers[(numbers["model"] == models[one.experiment]) & (numbers["task"] == one.task)]
        paper = re.match(r"\w+, arXiv [\d.]+", one.source)[0]
        ours, theirs = (
            printed[(printed["method"] == who) & printed["source"].str.startswith(paper)].set_index("length")["paper"]
            for who in (one.better, one.worse)
        )
        if ours.empty or theirs.empty:
            assert (one.better, one.task) == ("diffu_grpo", "sudoku"), one  # d1's own row is not in the file
            continue
        assert (ours - theirs).dropna().mean() > 0, one
        checked += 1
    assert checked > 20


def test_claims_of_the_field_name_sources_experiments_and_margins(config):
    """Each has a margin, a source (arXiv number or "own question"), and an experiment with at least five seeds."""
    grid = expand(config | {"scale": "laptop"})
    for one in claim_entries.read(FIELD):
        # Few runs never show that shares of collapsed ones are equal.
        assert all(part.margin or part.equal_within or "collapsed" in part.metric for part in one.parts), one.claim
        assert one.source.startswith("own question") or re.match(r"\w+, arXiv \d{4}\.\d{5}", one.source), one.source
        experiment = grid.experiments[one.experiment]
        assert experiment.apart, one.experiment
        assert len({grid.runs[name].seed for name in experiment.runs}) >= 5, one.experiment


def test_the_fields_claims_are_tested_on_what_they_name_and_in_no_other_table(config):
    lineage = Lineage(expand(config | {"scale": "laptop"}), ROOT)
    named = {one.experiment for one in claim_entries.read(FIELD)}
    assert set(lineage.experiments_of("field_claims")) == named
    assert lineage.claims_file("field_claims") == lineage.claims_file("reports/field/claims")
    assert ROOT / lineage.claims_file("field_claims") == FIELD
    for other in ("claims", "all_claims", "reports/main/claims"):
        assert ROOT / lineage.claims_file(other) == RESOURCE
    assert not named & set(lineage.experiments_of("all_claims"))


def test_no_two_claims_are_about_the_same_numbers():
    keys = [claim.key for claim in claim_entries.read(RESOURCE)]
    assert len(set(keys)) == len(keys)


def test_published_verdicts_by_paper_follow_from_the_published_differences():
    grid = expand(load_config() | {"scale": "laptop"})
    known = pages(grid)
    commits = {name: made.commit(known[name]) for name, made in read_publication(RESULTS).experiments.items()}
    found = [
        claim_tables.from_differences(claim_entries.read(resource), pd.read_csv(RESULTS / f"{name}.csv"))
        for resource, name in ((RESOURCE, "all_claims"), (FIELD, "field_claims"))
    ]
    found.append(published_papers.enumerated(None, RESULTS / published_papers.DIFFERENCES))
    text = published_papers.text(found, grid, RESULTS, commits, field=True)
    assert text == (RESULTS / "papers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["claims", "all_claims"])
def test_published_verdicts_follow_from_the_published_differences(name):
    claims, rows = claim_entries.read(RESOURCE), pd.read_csv(RESULTS / "all_claims.csv")
    record = read_publication(RESULTS)
    published = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    # claims.md is on the experiments that `make reproduce` makes.
    wanted = {"main"} if name == "claims" else {claim.experiment for claim in claims}
    of_wanted = rows[rows["claim"].str.split().str[0].isin(wanted)]
    known = pages(expand(load_config() | {"scale": "laptop"}))
    commits = {experiment: made.commit(known[experiment]) for experiment, made in record.experiments.items()}
    text = claim_tables.markdown(claim_tables.from_differences(claims, of_wanted), "laptop", commits=commits)
    # All but the last line, which names the experiments that are not published.
    assert text.splitlines()[:-1] == published.splitlines()[:-1]
