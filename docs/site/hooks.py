"""MkDocs hooks: README is the home page, and links to files outside docs/ become plain names after a check."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md as index.md, with its links relative to docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    # README is one level above docs/, so what remains relative starts there.
    text = LINK.sub(lambda m: m[0] if "://" in m[3] or (ROOT / "docs" / m[3]).exists() else _outside(m, "../"), text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links that leave docs/ by their text; MkDocs checks the others. Raises PluginError for a missing file."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def plain(match: re.Match[str]) -> str:
        target = match[3]
        if "://" in target:
            return match[0]
        place = (folder / target).resolve()
        if place.is_relative_to(ROOT / "docs"):
            return match[0]
        if not place.exists():
            raise PluginError(f"{page.file.src_uri}: {target} does not exist; correct the link")
        return f"{match[2]} (`{place.relative_to(ROOT).as_posix()}`)" if "`" not in match[2] else match[2]

    return LINK.sub(plain, markdown)


def _outside(match: re.Match[str], prefix: str) -> str:
    return f"{match[1]}[{match[2]}]({prefix}{match[3]}{match[4] or ''})"
