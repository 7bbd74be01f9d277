"""What the HTML report says of a scale's experiments: pictures with captions and tables, by section. Torch-free.

Everything that is shown is text from files and is escaped: Markdown is read with tables, headings and code alone,
no links and no HTML, and what the template prints is escaped by Jinja. Pictures stand in the page as data.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markdown_it import MarkdownIt
from markupsafe import Markup

from unmask.files import InputError
from unmask.grid.work import Experiment

SECTIONS = {
    "main": "Main results",
    "methods": "Methods",
    "ablations": "Ablations",
    "samplers": "Samplers",
    "diagnostics": "Diagnostics",
}
SHRINK = 0.65  # CSS pixels for a pixel of a figure
MARKDOWN = MarkdownIt("zero").enable(["table", "heading", "backticks"])
MARKDOWN.add_render_rule("table_open", lambda *_: '<div class="wide"><table class="sortable">')
MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>")


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    name: str
    source: str  # a data URI
    width: int  # in the page, CSS pixels
    caption: str


@dataclass(frozen=True)
class Part:
    """What an experiment has in the page."""

    name: str
    title: str
    pictures: list[Picture]
    table: Markup
    comparisons: Markup


def parts(root: Path, experiments: list[Experiment], captions: Environment) -> dict[str, list[Part]]:
    """Section -> its experiments; the exact laboratory, which every scale has, is among the diagnostics."""
    found: dict[str, list[Part]] = {section: [] for section in SECTIONS}
    for experiment in experiments:
        found[experiment.section].append(part(root, experiment, captions))
    title = "Matching a distribution against maximising the reward, where every response can be enumerated"
    toy = picture(root / "figures/exact_toy.png", caption(captions, "exact_toy", "exact_toy"))
    found["diagnostics"].append(Part("exact_toy", title, [toy], markdown(read(root / "tables/exact_toy.md")), Markup()))
    return {section: some for section, some in found.items() if some}


def part(root: Path, experiment: Experiment, captions: Environment) -> Part:
    """One experiment; a diagnosis has no comparisons."""
    name = experiment.name
    pictures = [
        picture(root / f"figures/{name}/{figure}.png", caption(captions, "figure", name, figure))
        for figure in experiment.figures
    ]
    table = read(root / f"tables/{name}.md").removeprefix(f"# {name}\n\n{experiment.question}\n\n")
    compared = "" if experiment.rows == "steps" else without_title(read(root / f"tables/{name}-comparisons.md"))
    return Part(name, experiment.question, pictures, markdown(table), markdown(compared))


def caption(captions: Environment, file: str, experiment: str, figure: str = "") -> str:
    """A caption of workflow/report as plain text; the same files are Snakemake's captions."""
    wildcards = {"experiment": experiment, "figure": figure}
    text = captions.get_template(f"{file}.rst").render(snakemake={"wildcards": wildcards})
    return " ".join(text.replace("**", "").split())


def markdown(text: str) -> Markup:
    """Our tables as HTML. Headings of a table stand below those of the page."""
    return Markup(re.sub(r"(</?h)[12]>", r"\g<1>4>", MARKDOWN.render(text)))  # what it renders is escaped


def without_title(text: str) -> str:
    """Markdown without its first line, where that is a title."""
    return re.sub(r"\A# .*\n", "", text)


def picture(file: Path, caption: str) -> Picture:
    """A PNG file as data; all are drawn at one resolution, so that letters are of one size in the page."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _absent(file, error) from error
    pixels = int.from_bytes(data[16:20])  # the width, in the header of every PNG
    return Picture(
        file.stem, f"data:image/png;base64,{base64.b64encode(data).decode()}", round(SHRINK * pixels), caption
    )


def read(file: Path) -> str:
    """A text file of the results."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _absent(file, error) from error


def _absent(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: {error}. Run snakemake for its experiment again.")
