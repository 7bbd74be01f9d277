"""The HTML report: on planted results with hostile text, read back by a parser."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from helpers.paths import ROOT
from unmask.analysis.html_report.page import markdown
from unmask.analysis.html_report.runs import changed, curve
from unmask.common.manifest import signed
from unmask.common.parquet import write_rows
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.methods import method_colour

EVIL = """</pre></script><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"{{ 7 * 7 }}"""
LINK = "![x](https://example.org/x.png) [y](javascript:alert(3)) <https://example.org>"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (200).to_bytes(4) + (100).to_bytes(4)
MANIFEST = {
    "git": {"commit": "0123456789", "dirty": True}, "device": "cpu <b>", "python": "3.11.7", "seconds": 1800,
    "finished": "2026-01-02T03:04:05+00:00", "packages": {"torch": "2.13.0"},
}  # fmt: skip
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


def config():
    values = load_config() | {"scale": "smoke"}
    main = {"question": EVIL, "section": "main", "methods": ["base", "dmpo"], "tasks": ["sudoku"]}
    main |= {"evaluation": "papers", "figures": ["accuracy_by_length", "training_curves"]}
    steps = {"question": "How far?", "section": "diagnostics", "methods": ["dmpo"], "tasks": ["sudoku"]}
    steps |= {"diagnosis": "surrogates", "figures": ["kl_per_step"], "grid": {"alpha": [0.04, 0.2]}}
    return values | {"experiments": {"main": main, "steps": steps}, "scales": scales(values["scales"])}


def scales(given):
    return {name: scale | {"experiments": ["main"], "experiment_changes": {}} for name, scale in given.items()}


def plant(results):
    """Everything that the report reads, for the experiments of `config`."""
    grid = expand(config())
    table = f"| Method | L = 24 |\n|:--|:--|\n| DMPO {EVIL} | 3 ± 1 |\n"
    texts = {"main": f"# main\n\n{EVIL}\n\nnote {LINK}\n\n## Block\n\n{table}", "main-comparisons": f"# x\n\n{table}"}
    texts |= {"steps": f"# steps\n\nHow far?\n\n{table}", "exact_toy": table}
    for name, text in texts.items():
        write(results / f"tables/{name}.md", text)
    for name in ("main/accuracy_by_length", "main/training_curves", "steps/kl_per_step", "exact_toy"):
        write(results / f"figures/{name}.png", PNG + name.encode())
    write(results / "claims.md", f"# Claims\n\n{table}")
    scores = []
    for name in dict.fromkeys(run for one in grid.experiments.values() for run in one.runs):
        run, folder = grid.runs[name], results / "runs" / name
        run.write(folder / "spec.yaml")
        columns = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
        if run.trains:
            write(folder / "metrics.csv", "step,reward,accuracy,nfe\n1,0.0,nan,4\n2,0.5,nan,4\n3,0.25,nan,4\n")
            write(folder / "manifest.json", json.dumps(signed(MANIFEST)))
        scores += [columns | {"sampler": "top1", "length": 24, "strict": strict} for strict in (0.25, 0.5)]
        sample = {"sampler": "top1", "length": 24, "prompt": "4231", "completion": EVIL, "gold": "1", "strict": 1.0}
        write_rows(folder / "samples-papers.parquet", [columns | sample] * 5)
    write(results / "scores/main.csv", pd.DataFrame(scores).to_csv(index=False))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def render(results):
    command = [
        sys.executable,
        str(ROOT / "src/render_report.py"),
        json.dumps(config()),
        "--experiments",
        "main",
        "steps",
    ]
    command += ["--claims", str(results / "claims.md"), "--templates", str(ROOT / "workflow/report")]
    command += ["--command", "snakemake <x>", "--out", str(results / "report.html")]
    command += ["--speed-md", str(results / "speed.md"), "--speed-csv", str(results / "speed.csv")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    results = tmp_path_factory.mktemp("results") / "smoke"
    plant(results)
    done = render(results)
    assert done.returncode == 0, done.stderr
    return (results / "report.html").read_text(encoding="utf-8")


def test_sections_stand_in_order(page):
    ids = [attrs["id"] for attrs in Page(page).all("section")]
    assert ids == ["main", "diagnostics", "claims", "speed", "runs", "made"]
    assert [attrs["href"] for attrs in Page(page).all("a")] == [f"#{name}" for name in ids]


def test_every_figure_is_in_the_page_at_one_scale(page):
    images = Page(page).all("img")
    data = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images]
    names = ("main/accuracy_by_length", "main/training_curves", "steps/kl_per_step", "exact_toy")
    assert data == [PNG + name.encode() for name in names]
    assert {image["width"] for image in images} == {"130"}
    assert images[0]["alt"].startswith(
        "accuracy by length: Correct answers (strict scoring) against generation length,"
    )


def test_nothing_is_loaded_from_outside(page):
    seen = Page(page)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in seen.elements}
    assert seen.all("script") == [{}]
    for _, attrs in seen.elements:
        assert not attrs.keys() & {"srcset", "action", "onerror", "onclick", "xlink:href"}
        assert all(re.match(r"#|data:image/png;", attrs[key]) for key in ("src", "href") if key in attrs)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    policy = next(attrs["content"] for attrs in seen.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_text_from_files_stays_text(page):
    text = "".join(Page(page).text)
    # the question, a cell of each of five tables, and three answers of each of four evaluated runs
    assert text.count(EVIL) == 1 + 5 + 3 * 4
    assert LINK in text
    assert "cpu <b>" in text
    assert "snakemake <x>" in text


def test_tables_can_be_sorted(page):
    seen = Page(page)
    # five of results, speed of training and of evaluation, runs
    assert [attrs["class"].split()[0] for attrs in seen.all("table")] == ["sortable"] * 8
    assert len(seen.all("thead")) == 8
    assert 'heading.setAttribute("aria-sort"' in page


def test_runs_are_listed_once_with_what_was_set_and_how_it_ended(page):
    runs = [attrs["data-run"] for attrs in Page(page).all("tbody") if "data-run" in attrs]
    default, other = "dmpo/sudoku/default/seed-", "dmpo/sudoku/alpha~0.2/seed-"
    assert runs == [f"{start}{seed}" for start in ("base/sudoku/default/seed-", default, other) for seed in (0, 1)]
    cells = re.findall(r'<tbody id="run-\d+" data-run="[^"]*">\s*<tr>(.*?)</tr>', page, re.DOTALL)
    text = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "|", row)) for row in cells]
    assert re.findall(r"[^| ][^|]*", text[0]) == ["base", "sudoku", "default", "0", "37.5"]
    assert re.findall(r"[^| ][^|]*", text[2]) == ["dmpo", "sudoku", "default", "0", "0.250", "37.5", "0.500"]
    assert re.findall(r"[^| ][^|]*", text[4]) == ["dmpo", "sudoku", "alpha~0.2", "0", "alpha 0.2", "0.250", "0.500"]
    assert page.count("alpha: 0.2\n") == 2  # in the specs
    assert "run by commit 0123456" in page


def test_the_speed_of_older_runs_has_empty_cells(page):
    section = re.search(r'<section id="speed">(.*?)</section>', page, re.DOTALL).group(1)
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


def test_curves_are_drawn_from_the_metrics(page):
    lines = Page(page).all("polyline")  # accuracy is NaN here: one curve for each of four trained runs
    assert [line["points"] for line in lines] == ["0.0,100.0 160.0,0.0 320.0,50.0"] * 4
    assert {line["stroke"] for line in lines} == {method_colour("dmpo")}


def test_a_long_curve_is_thinned_and_a_flat_one_is_drawn():
    steps = range(1, 1001)
    long = curve(pd.DataFrame({"step": steps, "reward": [0.5] * 1000, "nfe": 4}), "reward", "")
    assert len(long.points.split()) == 100
    assert (long.low, long.high, long.last) == (0.5, 0.5, 1000)
    assert {point.split(",")[1] for point in long.points.split()} == {"0.0"}
    assert curve(pd.DataFrame({"step": steps, "reward": 0.5, "nfe": 0}), "reward", "") is None  # demonstrations


def test_a_run_of_equal_updates_says_what_else_changed():
    values = config()
    values["experiments"]["main"] |= {"grid": {"updates_per_buffer": [1]}, "equal_updates": True}
    values["experiments"]["steps"]["grid"] = {}
    run = "dmpo/sudoku/updates_per_buffer~1/seed-0"
    assert changed(expand(values), run) == "buffers 4, updates per buffer 1"
    del values["experiments"]["steps"]
    assert changed(expand(values), run) == "updates_per_buffer 1"


def test_markdown_has_tables_headings_and_code_alone():
    assert markdown("# a\n\n`<b>` *c*\n") == "<h4>a</h4>\n<p><code>&lt;b&gt;</code> *c*</p>\n"


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
