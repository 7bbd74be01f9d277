"""The HTML report: on planted results with hostile text, read back by a parser."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest

from helpers.planted_report import EVIL, LINK, PNG, config, plant, render
from unmask.analysis.claim_entries import Claim
from unmask.analysis.claims import Finding
from unmask.analysis.html_report.curves import curve, curves
from unmask.analysis.html_report.links import with_papers
from unmask.analysis.html_report.page import markdown
from unmask.analysis.html_report.runs import changed
from unmask.analysis.html_report.verdicts import summary
from unmask.config.grid.expand import expand
from unmask.methods import method_colour

VOID = {"meta", "img", "br", "input", "hr", "link"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and the text; refuses elements that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("results") / "smoke"
    plant(results)
    done = render(results)
    assert done.returncode == 0, done.stderr
    return results


@pytest.fixture(scope="module")
def page(results):
    return (results / "report.html").read_text(encoding="utf-8")


def data(page):
    """What the script of the page reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


def test_sections_stand_in_order(page):
    ids = [attrs["id"] for attrs in Page(page).all("section")]
    assert ids == ["short", "main", "diagnostics", "claims", "papers", "speed", "runs", "made"]
    links = [attrs["href"] for attrs in Page(page).all("a")]
    assert links[: len(ids) + 1] == ["#short", *(f"#{name}" for name in ids)]


def test_every_figure_is_in_the_page_at_one_scale(page):
    images = Page(page).all("img")
    data = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images]
    names = ("main/accuracy_by_length", "main/training_curves", "steps/kl_per_step", "exact_toy")
    assert data == [PNG + name.encode() for name in names]
    assert {image["width"] for image in images} == {"130"}
    assert [image["alt"] for image in images[:2]] == [
        f"{name} of main, as the caption describes it" for name in ("accuracy by length", "training curves")
    ]


def test_nothing_is_loaded_from_outside(page):
    seen = Page(page)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in seen.elements}
    assert seen.all("script") == [{"type": "application/json", "id": "data"}, {}, {}]
    for _, attrs in seen.elements:
        assert not attrs.keys() & {"srcset", "action", "onerror", "onclick", "xlink:href"}
        assert re.match(r"data:image/png;", attrs.get("src", "data:image/png;"))
        # Followed by a click only: places in the page, files next to it, papers.
        assert re.match(r"#|[\w./~-]+(#[\w-]+)?$|https://arxiv\.org/abs/[\d.]+(v\d+)?$", attrs.get("href", "#"))
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(attrs["content"] for attrs in seen.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_link_to_a_file_leads_to_one(results, page):
    files = [attrs["href"] for attrs in Page(page).all("a") if not re.match("#|https:", attrs["href"])]
    files += [file["href"] for run in data(page)["runs"].values() for file in run["files"]]
    assert {"tables/main.tex", "figures/main/training_curves.pdf", "claims.csv", "speed.md"} <= set(files)
    assert "runs/dmpo/sudoku/alpha~0.2/seed-0/metrics.csv" in files
    assert "papers.md" in files
    assert [file for file in files if not (results / unquote(file).partition("#")[0]).is_file()] == []


def test_papers_are_linked_and_nothing_else_becomes_a_link(page):
    # In the sources of the tested and the untested claims, at the head of two papers, and in the exact toy's table.
    outside = [attrs["href"] for attrs in Page(page).all("a") if ":" in attrs["href"]]
    paper = "https://arxiv.org/abs/2510.08233v3"
    other = "https://arxiv.org/abs/2504.12216"
    assert outside == [paper, paper, other, paper, paper.removesuffix("v3"), other]
    assert with_papers("<arXiv 2510.1> arXiv 2510.12345x") == (
        '&lt;arXiv 2510.1&gt; <a href="https://arxiv.org/abs/2510.12345">arXiv 2510.12345</a>x'
    )


def test_text_from_files_stays_text(page):
    seen = Page(page)
    # The question above the scores and above the figures, a cell of each of four tables, a claim three times, its
    # notes, and the title of its paper.
    text = "".join(seen.text)
    stored = json.dumps(data(page))
    assert text.replace(stored, "").count(EVIL) == 2 + 4 + 3 + 1 + 1
    assert LINK in text
    assert "cpu <b>" in text
    assert "snakemake <x>" in text
    assert len(seen.all("script")) == 3
    # What models wrote is in the block of JSON alone, where no character could end it.
    block = re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1)
    assert not set("<>&'") & set(block)
    assert "base answers 0: " not in page.replace(block, "")
    answers = data(page)["runs"]["base/sudoku/default/seed-0"]["answers"]["kept"]
    assert answers[0]["completion"] == f"base answers 0: {EVIL}"


def test_the_result_stands_first_and_tested_claims_before_the_others(page):
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page[page.index("<main>") :])))
    # By hand: the first claim's differences are all above 0, the second's too, where lower is claimed.
    order = [
        "Of 2 tests of the papers' claims, 1 is supported, 1 is contradicted. 1 claim is not tested here.",
        "supported It is better",
        "contradicted It needs fewer passes",
        "Right answers main",
        "Base one token a step 50.0",
        "DMPO one token a step 75.0",
        "Main results",
        "Claims Tested How effects and verdicts are formed How to read it",
        "It needs fewer passes d1,",
        "Not tested Claims without numbers here: 1",
        "It is better elsewhere DMPO, arXiv 2510.08233v3 not tested at this scale: it has no experiment far",
    ]
    places = [text.find(words) for words in order]
    assert -1 not in places, [words for words in order if words not in text]
    assert places == sorted(places)
    assert text.count("+50.0 [") == 3


def test_without_a_claim_the_page_says_so():
    assert summary([]) == "No claim of the papers is about these runs."


@pytest.mark.parametrize(
    ("sources", "whose"),
    [
        (["DMPO, arXiv 2510.08233", "d1, arXiv 2504.12216"], "the papers' claims"),
        (["own question"], "our own questions"),
        (["own question on diversity", "d1, arXiv 2504.12216"], "the papers' claims and our own questions"),
    ],
)
def test_the_first_sentence_says_who_asks(sources, whose):
    about = {"experiment": "main", "task": "sudoku", "better": "dmpo", "worse": "base"}
    about |= {"metric": "published", "sampler": "top1", "length": "mean"}
    tested = [Finding(Claim(claim="more", source=source, **about), "supported") for source in sources]
    count = {1: "the one test", 2: "2 tests"}[len(tested)]
    assert summary(tested).startswith(f"Of {count} of {whose}, ")


def test_tables_can_be_sorted_and_say_what_they_are(page):
    seen = Page(page)
    tables = [attrs.get("class", "").split() for attrs in seen.all("table")]
    # All but the verdicts in short and the settings that differ.
    assert [("sortable" in names) for names in tables].count(False) == 2
    assert all(attrs["scope"] in ("col", "row") for attrs in seen.all("th"))
    regions = [attrs for attrs in seen.all("div") if attrs.get("class") == "wide"]
    assert len(regions) == len(tables) == 20
    assert all(attrs["role"] == "region" and attrs["aria-label"] for attrs in regions)
    assert 'heading.setAttribute("aria-sort"' in page


def test_runs_are_listed_once_with_what_was_set_and_how_it_ended(page):
    runs = [attrs["data-run"] for attrs in Page(page).all("tr") if "data-run" in attrs]
    default, other = "dmpo/sudoku/default/seed-", "dmpo/sudoku/alpha~0.2/seed-"
    assert runs == [f"{start}{seed}" for start in ("base/sudoku/default/seed-", default, other) for seed in (0, 1)]
    assert list(data(page)["runs"]) == runs
    assert [attrs["href"] for attrs in Page(page).all("a") if attrs["href"].startswith("#run=")] == [
        f"#run={name}" for name in runs
    ]
    cells = re.findall(r'<tr data-run="[^"]*">(.*?)</tr>', page, re.DOTALL)
    text = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "|", row)) for row in cells]
    found = [[cell for cell in re.findall(r"[^| ][^|]*", row) if cell != "overlay"] for row in text]
    assert found[0] == ["base", "sudoku", "default", "0", "37.5"]
    assert found[2] == ["dmpo", "sudoku", "default", "0", "0.250", "37.5", "0.500"]
    assert found[4] == ["dmpo", "sudoku", "alpha~0.2", "0", "alpha 0.2", "0.250", "0.500"]
    run = data(page)["runs"][runs[4]]
    assert "alpha: 0.2\n" in run["spec"]
    assert run["settings"]["method_settings.alpha"] == "0.2"
    assert run["commit"] == "0123456"


def test_right_and_wrong_answers_are_kept(page):
    runs, problems = data(page)["runs"], data(page)["problems"]
    for name, first_wrong in (("base", 20), ("dmpo", 30)):
        answers = runs[f"{name}/sudoku/default/seed-1"]["answers"]
        kept = [int(problems[one["problem"]]["prompt"].split()[1]) for one in answers["kept"]]
        # The first 24, and later ones until there are eight wrong ones.
        assert kept == [*range(24), *range(max(24, first_wrong), first_wrong + 8)]
        assert [one["right"] for one in answers["kept"]] == [number < first_wrong for number in kept]
        assert (answers["total"], answers["wrong"]) == (40, 40 - first_wrong)
    assert runs["dmpo/sudoku/alpha~0.2/seed-0"]["answers"] is None  # a diagnosis
    assert len(problems) == 24 + 4 + 8


def test_the_speed_of_older_runs_has_empty_cells(page):
    section = re.search(r'<section id="speed"[^>]*>(.*?)</section>', page, re.DOTALL).group(1)
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)
    text = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "|", row)) for row in rows]
    cells = [re.findall(r"[^| ][^|]*", row) for row in text]
    # The planted metrics have neither tokens nor FLOPs, the manifests no processes, the scores no seconds.
    assert cells[1] == ["DMPO", "2", "3", "4.00", "1800", "cpu &lt;b&gt;"]
    assert cells[2] == ["DMPO (alpha 0.2)", "2", "3", "4.00", "1800", "cpu &lt;b&gt;"]
    assert cells[4] == ["Base", "one token a step", "24", "2"]
    assert cells[5] == ["DMPO", "one token a step", "24", "2"]
    assert len(cells) == 6
    assert section.count('<span style="width: 0.0%') == 4


def test_every_logged_column_with_a_value_has_a_curve(page):
    assert data(page)["columns"] == ["reward", "nfe", "entropy", "loss", "validation"]  # accuracy is NaN in all runs
    run = data(page)["runs"]["dmpo/sudoku/default/seed-0"]
    assert run["curves"] == {
        "reward": {"x": [1, 2, 3], "y": [0, 0.5, 0.25]},
        "nfe": {"x": [1, 2, 3], "y": [4, 4, 4]},
        "entropy": {"x": [1, 2, 3], "y": [1, 2, 3]},
        "loss": {"x": [2, 3], "y": [1, 2]},
        "validation": {"x": [2], "y": [0.25]},
    }
    assert run["colour"] == method_colour("dmpo")


def test_a_long_curve_is_smoothed_and_thinned_but_ends_where_the_run_does():
    steps = list(range(1, 1001))
    found = curves(pd.DataFrame({"step": steps, "reward": steps, "flops": steps}))
    assert found["reward"].steps == list(range(10, 1001, 10))
    assert found["reward"].values[-1] == 938  # the mean of 876 to 1000 is 938
    assert found["flops"].values[-1] == 1000  # a count
    assert curve(pd.DataFrame({"step": steps, "reward": [float("nan")] * 1000}), "reward") is None


def test_a_run_of_equal_updates_says_what_else_changed():
    values = config()
    values["experiments"]["main"] |= {"grid": {"updates_per_buffer": [1]}, "equal_updates": True}
    values["experiments"]["steps"]["grid"] = {}
    run = "dmpo/sudoku/updates_per_buffer~1/seed-0"
    assert changed(expand(values), run) == "buffers 4, updates per buffer 1"
    del values["experiments"]["steps"]
    assert changed(expand(values), run) == "updates_per_buffer 1"


def test_markdown_has_tables_headings_and_code_alone():
    assert markdown("# a\n\n`<b>` *c*\n", "x") == "<h4>a</h4>\n<p><code>&lt;b&gt;</code> *c*</p>\n"


def test_a_missing_file_is_named(tmp_path):
    results = tmp_path / "smoke"
    plant(results)
    missing = results / "figures/main/training_curves.png"
    missing.unlink()
    done = render(results)
    assert done.returncode == 1
    assert done.stderr.startswith(f"render_report: {missing}: ")
    assert "Traceback" not in done.stderr
    assert not (results / "report.html").exists()


def test_a_missing_file_that_is_only_linked_is_named_too(tmp_path):
    results = tmp_path / "smoke"
    plant(results)
    missing = results / "tables/main.tex"
    missing.unlink()
    done = render(results)
    assert done.returncode == 1
    assert done.stderr.startswith(f"render_report: {missing}: missing, but the report links to it.")


def test_a_report_on_one_experiment_links_up_to_its_files(results):
    done = render(results, "reports/steps/report.html", ("steps",), ())
    assert done.returncode == 0, done.stderr
    folder = results / "reports/steps"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert [attrs["id"] for attrs in Page(page).all("section")] == [
        "short",
        "diagnostics",
        "claims",
        "papers",
        "speed",
        "runs",
        "made",
    ]
    assert "unmask: steps at scale smoke" in page
    assert "exact_toy" not in page
    files = [attrs["href"] for attrs in Page(page).all("a") if not re.match("#|https:", attrs["href"])]
    assert {"speed.md", "../../tables/steps.md", "../../claims.md"} <= set(files)
    assert [file for file in files if not (folder / unquote(file).partition("#")[0]).is_file()] == []
