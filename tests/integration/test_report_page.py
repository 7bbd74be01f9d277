"""The HTML report as a browser shows it: narrow, on paper, by keyboard, and the run browser with its links.

On planted results with hostile text, in a headless Chromium from the system's packages, which Playwright drives.
"""

import itertools
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from helpers.planted_report import EVIL, plant, render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: install Debian's package `chromium`")
DMPO, OTHER, BASE = "dmpo/sudoku/default/seed-0", "dmpo/sudoku/alpha~0.2/seed-1", "base/sudoku/default/seed-0"
PAPER = 1032  # CSS pixels: A4 landscape without its margins
CONTROLS = "a[href], button, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    results = tmp_path_factory.mktemp("results") / "smoke"
    plant(results)
    done = render(results)
    assert done.returncode == 0, done.stderr
    return results / "report.html"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, file):
    """Open the page at a width and a fragment; afterwards it must have been silent and have loaded nothing else."""
    said, pages = [], []

    def opened(width=1440, fragment=""):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(known) else None)
        page.goto(f"{file.as_uri()}{fragment}")
        return page

    known = (file.as_uri(), "data:")
    yield opened
    for page in pages:
        page.close()
    assert said == []


def test_at_400_pixels_only_tables_scroll_and_verdicts_are_in_sight(visit):
    page = visit(400, f"#run={DMPO}&with={BASE}")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    boxes = page.evaluate(
        "[...document.querySelectorAll('table')].map(table => table.closest('.wide'))"
        ".map(box => [box.scrollWidth > box.clientWidth, getComputedStyle(box).overflowX])"
    )
    assert {overflow for _, overflow in boxes} == {"auto"}
    assert [True, "auto"] in boxes  # so that the test would see a box that cannot be scrolled
    page.wait_for_function("[...document.querySelectorAll('.wide')].every(box => "
        "box.scrollWidth <= box.clientWidth || box.tabIndex === 0)")  # fmt: skip
    names = (".verdict", ".stack td[data-heading=Effect]", ".claims td[data-heading=Source]", ".counts th a")
    cells = page.locator(", ".join([*names, ".counts td:not(:empty)"]))
    # Two claims in short, among the claims and with their papers; the sources of three; the list of two papers.
    assert cells.count() == 3 * (2 + 2) + 3 + 2 * 3
    for box in (cell.bounding_box() for cell in cells.all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400
        assert box["height"] > 0


def test_headings_tables_and_pictures_say_what_they_are(visit):
    page = visit(fragment=f"#run={DMPO}&with={OTHER}")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4, h5')].map(one => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("th").count() > 50
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("svg:not([role=img][aria-label]):not([aria-hidden=true])").count() == 0
    assert page.locator("html[lang=en]").count() == 1
    names = page.evaluate("[...document.querySelectorAll('a, button, input')].map(one => one.ariaLabel || "
        "one.textContent.trim() || one.closest('label')?.textContent.trim())")  # fmt: skip
    assert all(names)
    regions = page.evaluate("[...document.querySelectorAll('section')].map(one => one.getAttribute('aria-labelledby'))")
    assert all(page.locator(f"h2#{name}").count() == 1 for name in regions)


def test_every_control_is_reached_by_keyboard_and_shows_it(visit):
    page = visit(400, f"#run={DMPO}&with={BASE}")
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.activeElement.blur()")
    # A group of radio buttons is one stop: its chosen one, from which the arrow keys lead on.
    page.evaluate(f"""[...document.querySelectorAll("{CONTROLS}")]
        .filter(one => one.checkVisibility() && (one.type !== "radio" || one.checked))
        .forEach((one, number) => {{ one.dataset.stop = number; }})""")
    expected = page.locator("[data-stop]").count()
    reached = set()
    for _ in range(expected + 5):
        page.keyboard.press("Tab")
        stop, outline = page.evaluate(
            "[document.activeElement.dataset.stop, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if stop is None:
            break
        reached.add(int(stop))
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
    assert expected > 50
    assert reached == set(range(expected))


@pytest.mark.parametrize("width", [1440, 400])
def test_the_list_of_papers_leads_to_each_by_keyboard_and_back(visit, width):
    page = visit(width)
    assert page.locator("nav a[href='#papers']").count() == 1
    page.locator("nav a[href='#papers']").focus()
    page.keyboard.press("Enter")
    assert page.locator("#papers .counts tbody tr").count() == 2
    for name, anchor, verdict in (("DMPO", "paper-dmpo", "supported"), ("d1", "paper-d1", "contradicted")):
        row = page.locator(".counts tbody tr", has=page.get_by_role("link", name=name, exact=True))
        assert row.locator(f"td[data-heading='{verdict}']").inner_text().endswith("1")
        row.get_by_role("link").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == f"#{anchor}"
        heading = page.locator(f"h3#{anchor}")
        assert heading.inner_text() == name
        # In sight, below the bar of the sections where it stays on top.
        assert -1 < heading.bounding_box()["y"] < 450
        assert heading.evaluate("one => document.elementFromPoint(...(box => [box.x + 5, box.y + 5])"
            "(one.getBoundingClientRect())).closest('h3')?.id") == anchor  # fmt: skip
        # The rest of a paper follows its heading, up to the link back; what is folded opens by keyboard.
        folded = heading.locator("xpath=following-sibling::details[1]")
        folded.locator("summary").focus()
        page.keyboard.press("Enter")
        assert folded.evaluate("one => one.open")
        assert folded.locator("td[data-heading=Why]").first.is_visible()
        heading.locator("xpath=following-sibling::p[a[@href='#papers']][1]").get_by_role("link").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#papers"


def test_an_address_leads_to_one_paper_with_its_verdict_and_choice(visit):
    page = visit(fragment="#paper-dmpo")
    assert -1 < page.locator("#paper-dmpo").bounding_box()["y"] < 450
    text = page.locator("#papers").inner_text()
    assert "How its printed checkpoint was chosen: by chance. Source: run.sh:3 at 0123456." in text
    table = page.get_by_role("region", name="DMPO, tested claims")
    assert table.locator(".verdict").all_inner_texts() == ["supported"]
    assert "+50.0 [" in table.locator("td[data-heading=Effect]").inner_text()


def test_sorting_by_keyboard_orders_the_runs(visit):
    page = visit()
    heading = page.locator("#browser th", has_text="Right (%)").locator("button")
    heading.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("#browser th[aria-sort=descending]").inner_text().startswith("Right")
    shown = page.locator("#browser tbody td:nth-child(8)").all_inner_texts()
    assert shown == ["37.5"] * 4 + [""] * 2  # those without a number stay last


def test_a_run_shows_every_logged_column(visit):
    page = visit()
    assert page.locator("#detail").is_hidden()
    page.get_by_label(f"Show {DMPO}").click()
    assert page.locator("#chosen").inner_text() == DMPO
    titles = page.locator("#curves figcaption strong").all_inner_texts()
    assert titles == ["reward", "nfe", "entropy", "loss", "validation"]
    # The planted rewards are 0, 0.5 and 0.25, in a box of 240 × 90 whose y counts from the top.
    points = page.locator("#curves figure").first.locator("polyline").get_attribute("points")
    assert points == "0.0,90.0 120.0,0.0 240.0,45.0"
    assert page.locator("#legend a").all_inner_texts()[1:3] == ["metrics.csv", "manifest.json"]


def test_two_runs_are_overlaid_and_the_address_leads_back_to_them(visit):
    page = visit()
    page.get_by_label(f"Show {DMPO}").click()
    page.get_by_label(f"Overlay {OTHER}").click()
    page.get_by_label("right", exact=True).check()
    page.locator("#find").fill("dmpo seed-1")
    link = page.evaluate("location.hash")
    assert link == f"#run={DMPO}&with={OTHER}&answers=right&find=dmpo%20seed-1"

    again = visit(fragment=link)
    for shown in (page, again):
        assert shown.locator("#chosen").inner_text() == f"{DMPO} and {OTHER}"
        assert shown.locator("#legend li").count() == 2
        lines = shown.locator("#curves figure").first.locator("polyline")
        assert [line.get_attribute("stroke-dasharray") for line in lines.all()] == ["none", "5 3"]
        cells = shown.locator("#differences tbody tr").first.locator("th, td").all_inner_texts()
        assert cells == ["variant", "default", "alpha~0.2"]
        rows = shown.locator("#differences tbody").inner_text()
        assert "method_settings.alpha\t0.04\t0.2" in rows
        assert shown.locator("#browser tbody tr:visible").count() == 2
        assert shown.locator("#count").inner_text() == "2 of 6 runs"
        assert shown.locator("input[name=answers]:checked").input_value() == "right"

    page.go_back()
    assert page.locator("input[name=answers]:checked").input_value() == "all"
    page.get_by_role("button", name="Remove the second run").click()
    assert page.locator("#legend li").count() == 1
    unknown = visit(fragment="#run=dmpo/nowhere/seed-0")
    assert unknown.locator("#missing").inner_text() == "This page has no run dmpo/nowhere/seed-0."


def test_answers_are_filtered_by_their_grade(visit):
    page = visit(fragment=f"#run={DMPO}")
    problems = page.locator("#answers article")
    # Kept are the answers to problems 0 to 23, which are right, and 30 to 37, the first eight of ten wrong ones.
    assert problems.count() == 32
    page.get_by_label("wrong", exact=True).check()
    assert problems.count() == 8
    assert set(page.locator("#answers strong").all_inner_texts()) == {"wrong"}
    assert "10 of 40 answers wrong" in page.locator("#answered").inner_text()
    # The base model is wrong from problem 20 on, and shows its first eight wrong answers, too.
    page.get_by_label(f"Overlay {BASE}").click()
    assert problems.count() == 16
    first = problems.filter(has_text="problem 20 4231")
    assert first.locator("strong").all_inner_texts() == ["right", "wrong"]
    page.get_by_label("right", exact=True).check()
    assert problems.count() == 24


def test_what_a_model_wrote_stays_text(visit):
    page = visit(fragment=f"#run={BASE}&answers=wrong")
    assert page.locator("pre.completion").first.inner_text() == f"base answers 20: {EVIL}"
    assert page.locator("script").count() == 3
    assert page.locator("img").count() == 4
    assert page.locator("main *").evaluate_all("all => all.filter(one => one.onerror || one.onclick).length") == 0


def test_links_to_files_lead_to_them(visit):
    page = visit(fragment=f"#run={OTHER}")
    addresses = page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.href)")
    files = {urlsplit(address).path for address in addresses if address.startswith("file:")}
    assert len(files) > 20
    assert {address for address in files if not Path(unquote(address)).exists()} == set()


def test_paper_has_every_column(visit):
    page = visit(PAPER, f"#run={DMPO}&with={OTHER}")
    page.emulate_media(media="print")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    ends = page.locator("th, td").evaluate_all(
        "all => all.map(one => [one.getBoundingClientRect().right, one.innerText])"
    )
    assert len(ends) > 100
    assert [text for right, text in ends if right > PAPER] == []
    clipped = (
        "[...document.querySelectorAll('.wide, pre')].filter(one => getComputedStyle(one).overflowX !== 'visible')"
    )
    assert page.evaluate(f"{clipped}.length") == 0
    assert page.locator("#browser").is_visible()


def test_printing_opens_what_is_folded_away(visit):
    page = visit()
    folded = "document.querySelectorAll('details:not([open])').length"
    before = page.evaluate(folded)
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.seen = {folded}; }})")
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert page.evaluate("window.seen") == 0
    assert page.evaluate(folded) == before > 0
