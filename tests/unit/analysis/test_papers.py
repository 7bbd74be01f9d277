"""The pages on papers: who claims what, how checkpoints were chosen, and when a printed number stands next to ours."""

import json
import re

import pandas as pd
import pytest
import yaml

from helpers.paths import ROOT
from helpers.planted_report import config, plant, render
from unmask.analysis import claim_entries, paper_entries, paper_results
from unmask.analysis.claim_tables import from_differences
from unmask.analysis.html_report import papers
from unmask.analysis.html_report.links import Folders
from unmask.analysis.html_report.printed_numbers import numbers, printed_by_checkpoints
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand

RESOURCES = ROOT / "workflow/resources"
NUMBER = {
    "source": "DMPO, arXiv 2510.08233v3, Table 2", "model": "llada-8b-instruct", "steps": "L", "temperature": 0.0,
    "order": "confidence", "differs": "", "method": "dmpo", "task": "sudoku", "first_stage": "", "length": 24,
    "paper": 63.8, "evaluation": "", "metric": "accuracy", "selection": "not stated",
}  # fmt: skip


@pytest.fixture(scope="module")
def known():
    return paper_entries.read(RESOURCES / "papers.yaml")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "smoke"
    plant(folder)
    return folder


@pytest.fixture(scope="module")
def grid():
    return expand(config())


@pytest.fixture(scope="module")
def pages(results, grid):
    """The pages of DMPO and d1, as the step makes them."""
    about = paper_entries.read(results / "papers.yaml")
    files = [
        papers.findings_of(results / "claims.yaml", results / "claims.csv"),
        papers.findings_of(results / "further.yaml", None),
    ]
    printed = paper_results.read(results / "published.yaml", about)
    return papers.pages(about, files, printed, grid, ["main", "steps"], Folders(results, results))


# --- papers.yaml ------------------------------------------------------------------------------------------------------


def test_every_claim_and_every_printed_number_is_of_a_paper(known):
    sources = [
        one.source
        for name in ("claims", "surrogate_claims", "field_claims")
        if (RESOURCES / f"{name}.yaml").exists()
        for one in claim_entries.read(RESOURCES / f"{name}.yaml")
    ]
    sources += list(paper_results.read(RESOURCES / "published_results.yaml", known)["source"])
    assert len(set(sources)) > 20
    for source in sources:
        if "arXiv" in source:
            assert paper_entries.paper_of(source, known), source


def test_methods_and_tables_of_the_papers_exist(known):
    headings = (ROOT / "docs/method/fidelity.md").read_text(encoding="utf-8")
    for paper in known:
        assert all((ROOT / f"src/unmask/methods/{name}.py").is_file() for name in paper.methods), paper.name
        assert f"\n### {paper.fidelity}\n" in headings or not paper.fidelity, paper.name
    named = {name for paper in known for name in paper.methods}
    files = {path.stem for path in (ROOT / "src/unmask/methods").glob("*.py")}
    assert files - named == {"__init__", "base"}
    assert len({paper.name for paper in known}) == len(known)


def test_checkpoints_were_chosen_as_the_catalogue_says(known):
    """Where a paper or its model card is the source; a user's number is about the released adapter."""
    catalogue = yaml.safe_load((ROOT / "workflow/config/checkpoints.yaml").read_text(encoding="utf-8"))["checkpoints"]
    checked = set()
    for block in catalogue.values():
        for printed in block.get("printed", []):
            paper = paper_entries.find(printed["source"], known)
            if paper and block["method"].startswith(paper.name):
                assert printed.get("selection", "not stated") == paper.selection, printed["source"]
                checked.add(paper.name)
    assert checked == {"ESPO", "EGSPO", "JustGRPO"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "the best"}, r"paper 1 \(A\): `selection` needs a `selection_source`"),
        ({"arxiv": "2510.1"}, r"paper 1 \(A\)\.arxiv"),
        ({"titel": "x"}, r"unknown 'titel'; did you mean 'title'"),
    ],
)
def test_a_wrong_paper_is_named(tmp_path, changes, message):
    (tmp_path / "papers.yaml").write_text(yaml.safe_dump([{"name": "A", "title": "B"} | changes]), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        paper_entries.read(tmp_path / "papers.yaml")


def test_a_source_belongs_to_the_paper_that_it_begins_with(known):
    source = "d1, arXiv 2504.12216, as printed in SPG, arXiv 2510.09541, Table 8"
    assert paper_entries.paper_of(source, known).name == "d1"
    assert paper_entries.place_in(source) == "as printed in SPG, arXiv 2510.09541, Table 8"
    assert paper_entries.place_in("DMPO, arXiv 2510.08233v3, Table 1 (against d1)") == "v3, Table 1 (against d1)"
    assert paper_entries.paper_of("JustGRPO", known).name == "JustGRPO"
    assert paper_entries.paper_of("a question of our own", known) is None
    with pytest.raises(InputError, match=r"New, arXiv 2599\.00001, Table 1: none of the papers has this number"):
        paper_entries.paper_of("New, arXiv 2599.00001, Table 1", known)


# --- the pages --------------------------------------------------------------------------------------------------------


def test_claims_stand_with_their_paper_and_are_counted(pages):
    dmpo, other = pages
    assert [page.anchor for page in pages] == ["paper-dmpo", "paper-d1"]
    none = dict.fromkeys(("supported", "contradicted", "equivalent", "inconclusive", "not tested"), 0)
    assert dmpo.counts == none | {"supported": 1, "not tested": 1}
    assert other.counts == none | {"contradicted": 1, "not tested": 1}
    (row,) = dmpo.tested
    assert (row["Verdict"], row["Place"], row["Survives Holm"]) == ("supported", "v3, Table 1", "yes")
    assert row["Effect"].startswith("+50.0 [")
    assert [row["Claim"] for row in other.tested] == ["It needs fewer passes"]


def test_a_claim_without_numbers_says_what_is_missing(pages, results, grid):
    assert [page.untested[0]["Why"] for page in pages] == [
        "not tested at this scale: it has no experiment far",
        "no results of target surrogates here",
    ]
    # The same planted claims in a report that leaves out their experiment, and for a task that it does not have.
    claims = claim_entries.read(results / "claims.yaml")[:2]
    claims[1] = claims[1].model_copy(update={"task": "gsm8k"})
    findings = from_differences(claims, pd.read_csv(results / "claims.csv").iloc[:0])
    about = paper_entries.read(results / "papers.yaml")
    dmpo, other = papers.pages(about, [findings], pd.DataFrame(), grid, ["steps"], Folders(results, results))
    assert dmpo.untested[0]["Why"] == "no results of target main here"
    assert other.untested[0]["Why"] == "not tested at this scale: main does not have both policies on GSM8K"


def test_the_choice_of_a_checkpoint_has_its_source(pages):
    assert pages[0].selection == "by chance. Source: run.sh:3 at 0123456."
    assert pages[1].selection == "not stated in the sources read."


def test_differences_of_other_claims_are_refused(results):
    claims = claim_entries.read(results / "claims.yaml")[:1]
    with pytest.raises(InputError, match=r"differences are of claims that .* does not have: main sudoku"):
        from_differences(claims, pd.read_csv(results / "claims.csv"))


# --- printed numbers --------------------------------------------------------------------------------------------------


def test_no_difference_is_formed_across_protocols(pages):
    found = pages[0].numbers
    assert found.compared == []
    assert found.note.startswith("No difference to ours is formed for 2 of the printed numbers (")
    assert "our test problems are generated" in found.note
    assert "no run of ours has method, task and length: 1" in found.note
    (row,) = found.all
    assert (row["Method"], row["L = 24"], row["L = 256"], row["Source"]) == ("DMPO", "63.8", "60.1", "v3, Table 1")


def test_a_number_stands_next_to_ours_where_nothing_differs(results, grid, monkeypatch):
    """By hand: 75.0 % is 11.2 points above 63.8. The rule itself is tested in test_paper_results.py."""
    cell = {"task": "sudoku", "sampler": "top1", "method": "dmpo", "variant": "default", "length": 24, "seeds": 2}
    cell |= {"published": 0.75, "published_low": 0.7, "published_high": 0.8, "interval": "seeds"}
    others = [cell | {"sampler": "top2", "published": 0.1}, cell | {"variant": "alpha~0.2", "published": 0.2}]
    (results / "tables/main.csv").write_text(pd.DataFrame([*others, cell]).to_csv(index=False), encoding="utf-8")
    rule = paper_results.differences

    def equal(row, sampler, protocol):
        return [] if row.length == 24 and sampler == "top1" else rule(row, sampler, protocol)

    monkeypatch.setattr(paper_results, "differences", equal)

    printed = pd.DataFrame([NUMBER, NUMBER | {"length": 32}, NUMBER | {"method": "d1", "paper": 8.7}])
    found = numbers(printed, grid, ["steps", "main"], Folders(results, results))
    (row,) = found.compared
    assert (row["Printed"], row["Ours"], row["Ours − printed"]) == ("63.8", "75.0 ± 5.0", "+11.2")
    assert (row["Experiment"], row["Decoding"], row["Place"]) == ("main", "one token a step", "v3, Table 2")
    assert found.note.startswith("No difference to ours is formed for 2 of the printed numbers (")
    assert len(found.all) == 2


def test_numbers_of_model_cards_are_added_once_and_never_compared(known, grid, results):
    printed = paper_results.read(RESOURCES / "published_results.yaml", known)
    added = printed_by_checkpoints(json.loads(json.dumps(config()["checkpoints"])), printed, known)
    new = added.iloc[len(printed) :]
    cards = new[new["source"].str.startswith("EGSPO")]
    assert set(zip(cards["method"], cards["task"], cards["paper"], strict=True)) >= {("EGSPO-SA", "sudoku", 94.3)}
    assert not new.duplicated(["source", "method", "task", "length"]).any()
    # Numbers that published_results.yaml has already, and a user's report, which is no paper's.
    assert not new["source"].str.startswith("DMPO").any()
    assert not new["source"].str.startswith("ML-GSAI").any()
    found = numbers(cards, grid, ["main"], Folders(results, results))
    assert found.compared == []
    assert f"is formed for {len(cards)} of" in found.note


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_the_file_has_the_same_pages(results):
    done = render(results)
    assert done.returncode == 0, done.stderr
    text = (results / "papers.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["DMPO", "d1"]
    index = [re.sub(r" +", " ", line) for line in text.splitlines() if line.startswith("| [")]
    assert index == ["| [DMPO](#dmpo) | 1 | | | | 1 |", "| [d1](#d1) | | 1 | | | 1 |"]
    assert "[arXiv 2510.08233](https://arxiv.org/abs/2510.08233), code a/b." in text
    assert "How its printed checkpoint was chosen: by chance. Source: run.sh:3 at 0123456." in text
    for target in re.findall(r"\]\((\.\.[^)#]*)", text):
        assert (results / target).is_file(), target
    assert text.index("| supported") < text.index("### DMPO: claims without numbers here") < text.index("## d1")
