"""MkDocs hooks: README becomes the page Overview, and links to files outside docs/ become plain names after a check."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = "overview.md"  # its page; README.md itself would be taken for the index of the folder
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md as a page in docs/, with its links relative to that folder."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    # README is one level above docs/, so what remains relative starts there.
    text = LINK.sub(lambda m: m[0] if "://" in m[3] or (DOCS / m[3]).exists() else _link(m, f"../{m[3]}"), text)
    files.append(File.generated(config, README, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links that leave docs/ by their text; MkDocs checks the others. Raises PluginError for a missing file."""
    folder = (DOCS / page.file.src_uri).parent

    def plain(match: re.Match[str]) -> str:
        target = match[3]
        if "://" in target:
            return match[0]
        place = (folder / target).resolve()
        if place == ROOT / "README.md":
            return _link(match, target.replace("../README.md", README))
        if place.is_relative_to(DOCS):
            return match[0]
        if not place.exists():
            raise PluginError(f"{page.file.src_uri}: {target} does not exist; correct the link")
        return f"{match[2]} (`{place.relative_to(ROOT).as_posix()}`)" if "`" not in match[2] else match[2]

    return LINK.sub(plain, markdown)


def _link(match: re.Match[str], target: str) -> str:
    return f"{match[1]}[{match[2]}]({target}{match[4] or ''})"
