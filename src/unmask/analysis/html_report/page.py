"""Content of the HTML report of a scale: each experiment's figures with captions, and tables, by section. Torch-free.

All text comes from files and is escaped: Markdown is parsed with tables, headings and code only, without links or HTML,
and Jinja escapes what the template prints. Only numbers of arXiv become links. Figures are embedded as data URIs.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from unmask.analysis.html_report.links import File, Folders, with_papers
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


def _table_open(_: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    """Return a table in a box that scrolls, which screen readers name by the heading above it."""
    above = [tokens[at + 1].content for at in range(place) if tokens[at].type == "heading_open"]
    label = ": ".join([env["label"], *above[-1:]])
    return f'<div class="wide" role="region" aria-label="{escape(label)}"><table class="sortable">'


def _heading_cell(renderer: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    tokens[place].attrSet("scope", "col")
    return renderer.renderToken(tokens, place, options, env)


def _text(_: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    return with_papers(tokens[place].content)


MARKDOWN.add_render_rule("text", _text)
MARKDOWN.add_render_rule("table_open", _table_open)
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>")
MARKDOWN.add_render_rule("th_open", _heading_cell)


@dataclass(frozen=True)
class Figure:
    """Figure of the page."""

    name: str
    source: str  # a data URI
    width: int  # in the page, CSS pixels
    caption: str
    pdf: File


@dataclass(frozen=True)
class Part:
    """Figures and tables of one experiment."""

    name: str
    title: str
    figures: list[Figure]
    table: Markup
    comparisons: Markup
    files: list[File]


def parts(
    folders: Folders,
    experiments: list[Experiment],
    captions: Environment,
    with_toy: bool,
) -> dict[str, list[Part]]:
    """Return the experiments of each section that has any; the exact toy, if it is shown, is among the diagnostics."""
    found: dict[str, list[Part]] = {section: [] for section in SECTIONS}
    for experiment in experiments:
        found[experiment.section].append(part(folders, experiment, captions))
    if with_toy:
        found["diagnostics"].append(_exact_toy(folders, captions))
    return {section: its_parts for section, its_parts in found.items() if its_parts}


def _exact_toy(folders: Folders, captions: Environment) -> Part:
    text = caption(captions, "exact_toy", "exact_toy")
    figure = read_figure(folders, "figures/exact_toy", text)
    return Part(
        name="exact_toy",
        title="Matching a distribution against maximising the reward, where every response can be enumerated",
        figures=[figure],
        table=markdown(read(folders.results / "tables/exact_toy.md"), "exact_toy"),
        comparisons=Markup(),
        files=folders.files(*(f"tables/exact_toy.{ending}" for ending in ("md", "tex", "csv"))),
    )


def part(folders: Folders, experiment: Experiment, captions: Environment) -> Part:
    """Read the figures and tables of one experiment; a diagnosis has no comparisons."""
    root = folders.results
    name = experiment.name
    question = experiment.question
    figures = []
    for figure in experiment.figures:
        text = caption(captions, "figure", name, figure)
        figures.append(read_figure(folders, f"figures/{name}/{figure}", text))

    # The page has title and question already, as a heading.
    heading = f"# {name}\n\n{question}\n\n"
    table = read(root / f"tables/{name}.md").removeprefix(heading)
    compared = ""
    files = [f"tables/{name}.{ending}" for ending in ("md", "tex", "csv")]
    if experiment.rows != "steps":
        compared = without_title(read(root / f"tables/{name}-comparisons.md"))
        files += [f"tables/{name}-comparisons.{ending}" for ending in ("md", "csv")]
    return Part(
        name=name,
        title=question,
        figures=figures,
        table=markdown(table, name),
        comparisons=markdown(compared, f"{name}, comparisons"),
        files=[*folders.files(*files), folders.file(f"scores/{name}.csv", "scores")],
    )


def caption(captions: Environment, file: str, experiment: str, figure: str = "") -> str:
    """Render a caption of workflow/report as plain text; Snakemake's report uses the same files."""
    wildcards = {"experiment": experiment, "figure": figure}
    template = captions.get_template(f"{file}.rst")
    rendered = template.render(snakemake={"wildcards": wildcards})
    words = rendered.replace("**", "").split()
    return " ".join(words)


def markdown(text: str, label: str) -> Markup:
    """Render our tables as HTML, with headings below the levels that the page uses; `label` names them aloud."""
    html = re.sub(r"(</?h)[1-6]>", r"\g<1>4>", MARKDOWN.render(text, {"label": label}))
    # Markup is safe here: the renderer has escaped the text.
    return Markup(html)


def without_title(text: str) -> str:
    """Remove the first line of Markdown if it is a title."""
    return re.sub(r"\A# .*\n", "", text)


def read_figure(folders: Folders, stem: str, caption: str) -> Figure:
    """Read a figure's PNG file as a data URI, scaled so that fonts have one size, with its counts in the caption.

    `stem` is its path below the results without the ending. Raises InputError if the PNG or the PDF file is missing.
    """
    file = folders.results / f"{stem}.png"
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
        pdf=folders.file(f"{stem}.pdf", "PDF"),
    )


def read(file: Path) -> str:
    """Read a text file of the results. Raises InputError that says how to make it."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _absent(file, error) from error


def _absent(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: {error}. Run snakemake for its experiment again.")
