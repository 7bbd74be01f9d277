"""Content of the HTML report of a scale: each experiment's figures with captions, and tables, by section. Torch-free.

All text comes from files and is escaped: Markdown is parsed with tables, headings and code only, without links or HTML,
and Jinja escapes what the template prints. Figures are embedded as data URIs.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup

from unmask.analysis.html_report.png import description
from unmask.common.errors import InputError
from unmask.config.grid.grid import Experiment

SECTIONS = {
    "main": "Main results",
    "methods": "Methods",
    "ablations": "Ablations",
    "samplers": "Samplers",
    "diagnostics": "Diagnostics",
}
SHRINK = 0.65  # CSS pixels per pixel of a figure
# Start from no syntax at all: a table may hold text that a model wrote.
MARKDOWN = MarkdownIt("zero").enable(["table", "heading", "backticks"])
MARKDOWN.add_render_rule("table_open", lambda *_: '<div class="wide"><table class="sortable">')
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>")


@dataclass(frozen=True)
class Figure:
    """Figure of the page."""

    name: str
    source: str  # a data URI
    width: int  # in the page, CSS pixels
    caption: str


@dataclass(frozen=True)
class Part:
    """Figures and tables of one experiment."""

    name: str
    title: str
    figures: list[Figure]
    table: Markup
    comparisons: Markup


def parts(root: Path, experiments: list[Experiment], captions: Environment) -> dict[str, list[Part]]:
    """Return the experiments of each section that has any; the exact toy is always among the diagnostics."""
    found: dict[str, list[Part]] = {section: [] for section in SECTIONS}
    for experiment in experiments:
        found[experiment.section].append(part(root, experiment, captions))
    found["diagnostics"].append(_exact_toy(root, captions))
    return {section: its_parts for section, its_parts in found.items() if its_parts}


def _exact_toy(root: Path, captions: Environment) -> Part:
    text = caption(captions, "exact_toy", "exact_toy")
    figure = read_figure(root / "figures/exact_toy.png", text)
    return Part(
        name="exact_toy",
        title="Matching a distribution against maximising the reward, where every response can be enumerated",
        figures=[figure],
        table=markdown(read(root / "tables/exact_toy.md")),
        comparisons=Markup(),
    )


def part(root: Path, experiment: Experiment, captions: Environment) -> Part:
    """Read the figures and tables of one experiment; a diagnosis has no comparisons."""
    name = experiment.name
    question = experiment.question
    figures = []
    for figure in experiment.figures:
        file = root / f"figures/{name}/{figure}.png"
        text = caption(captions, "figure", name, figure)
        figures.append(read_figure(file, text))

    # The page has title and question already, as a heading.
    heading = f"# {name}\n\n{question}\n\n"
    table = read(root / f"tables/{name}.md").removeprefix(heading)
    compared = ""
    if experiment.rows != "steps":
        compared = without_title(read(root / f"tables/{name}-comparisons.md"))
    return Part(
        name=name,
        title=question,
        figures=figures,
        table=markdown(table),
        comparisons=markdown(compared),
    )


def caption(captions: Environment, file: str, experiment: str, figure: str = "") -> str:
    """Render a caption of workflow/report as plain text; Snakemake's report uses the same files."""
    wildcards = {"experiment": experiment, "figure": figure}
    template = captions.get_template(f"{file}.rst")
    rendered = template.render(snakemake={"wildcards": wildcards})
    words = rendered.replace("**", "").split()
    return " ".join(words)


def markdown(text: str) -> Markup:
    """Render our tables as HTML, with headings below the levels that the page uses."""
    html = re.sub(r"(</?h)[12]>", r"\g<1>4>", MARKDOWN.render(text))
    # Markup is safe here: the renderer has escaped the text.
    return Markup(html)


def without_title(text: str) -> str:
    """Remove the first line of Markdown if it is a title."""
    return re.sub(r"\A# .*\n", "", text)


def read_figure(file: Path, caption: str) -> Figure:
    """Read a PNG file as a data URI, scaled so that fonts have one size in the page, with its counts in the caption.

    Raises InputError if it is missing.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _absent(file, error) from error
    # The header of every PNG has its width at byte 16. All figures have one resolution, so one factor fits all.
    pixels = int.from_bytes(data[16:20])
    encoded = base64.b64encode(data).decode()
    return Figure(
        name=file.stem,
        source=f"data:image/png;base64,{encoded}",
        width=round(SHRINK * pixels),
        caption=f"{caption} {description(data)}".rstrip(),
    )


def read(file: Path) -> str:
    """Read a text file of the results. Raises InputError that says how to make it."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _absent(file, error) from error


def _absent(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: {error}. Run snakemake for its experiment again.")
