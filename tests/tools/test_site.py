"""The pages as a reader meets them: in Chromium, from a file or a server, with no network."""

import contextlib
import functools
import http.server
import json
import threading
import time
from pathlib import Path

import nbformat
import pytest
from build_site import CHECK, build, caption, prepared
from explorer_cells import run_explorers, shows_explorer
from jupyter_browser import chromium, needs_chromium, quiet_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import code_cells
from playwright.sync_api import expect

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PAGES = ["index", *(f"notebooks/{path.stem}" for path in NOTEBOOKS)]
PICTURE = new_output("display_data", {"image/png": "stored"})
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:'myst_parser")]


def explorers_in(path: Path) -> int:
    cells = code_cells(nbformat.read(path, as_version=4))
    return sum(shows_explorer(cell.source) for _, cell in cells)


WITH_EXPLORERS = [path for path in NOTEBOOKS if explorers_in(path)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    began = time.process_time()
    build(folder)
    assert time.process_time() - began < 120
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module", params=["file", "server"])
def address(request, site):
    if request.param == "file":
        yield site.as_uri()
    else:
        with served(site) as place:
            yield place


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser, address):
    """Open pages; fail if one asks for anything outside the site or its console has an error."""
    outside = []

    def block(route):
        outside.append(route.request.url)
        route.abort()

    @contextlib.contextmanager
    def opened(name):
        with quiet_page(browser) as page:
            inside = (address, "blob:", "data:")
            page.route(lambda url: not url.startswith(inside), block)
            page.goto(f"{address}/{name}")
            yield page

    yield opened
    assert outside == []


def test_a_site_fits_25_megabytes(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 25e6


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_way_pictures_formulas_and_a_dark_theme_on_a_phone(visit, name):
    with visit(f"{name}.html") as page:
        assert page.locator("h1").count() == 1
        assert page.locator(".sidebar-tree a").count() == len(NOTEBOOKS)
        assert page.locator("a.next-page").count() == (name != PAGES[-1])
        assert page.locator("a.prev-page").count() == (name != PAGES[0])
        for picture in page.locator("article img").all():
            assert len(picture.get_attribute("alt")) > 10
            assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        formulas = page.locator(".math").count()
        expect(page.locator(".math mjx-container > svg")).to_have_count(formulas)
        assert page.locator("mjx-merror, [data-mml-node=merror]").count() == 0
        page.set_viewport_size({"width": 400, "height": 800})
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 400
        text, ground = page.evaluate(
            """["color", "backgroundColor"].map(part =>
            Number(getComputedStyle(document.body)[part].match(/\\d+/)[0]))"""
        )
        assert ground < 50 < 150 < text


def in_python(explorer) -> list[str]:
    return [*explorer.readouts.values()]


def move_slider(control) -> tuple[str, float]:
    """Move a slider half-way to its farther end; return its trait and the value it then has."""
    slider, box = control.locator("[type=range]"), control.locator("[type=number]")
    low, high, now = (float(slider.evaluate(f"e => e.{part}")) for part in ("min", "max", "value"))
    slider.fill(str((now + (high if now < (low + high) / 2 else low)) / 2))
    return control.get_attribute("data-trait"), box.evaluate("e => e.valueAsNumber")


@needs_chromium
@pytest.mark.parametrize("path", WITH_EXPLORERS, ids=lambda path: path.stem)
def test_every_explorer_says_what_python_says(visit, path):
    with visit(f"notebooks/{path.stem}.html") as page:
        roots = page.locator(".muon-explorer")
        expect(roots).to_have_count(explorers_in(path))
        sent = [
            json.loads(text)["traits"]["data"]
            for text in page.locator(".explorer-data").all_text_contents()
        ]
        pairs = zip(roots.all(), run_explorers(path), sent, strict=True)
        for root, (_, explorer), data in pairs:
            # What a notebook measures, here and when the site was built, never agrees.
            measured = {k: v for k, v in data.items() if isinstance(v, float)}
            explorer.data = explorer.data | measured
            first, said = in_python(explorer), []
            expect(root.locator("output p")).to_have_text(first)
            for control in root.locator(".control:not(:has(:disabled)):has([type=range])").all():
                trait, value = move_slider(control)
                assert value != getattr(explorer, trait)
                setattr(explorer, trait, value)
                said.append(in_python(explorer))
                expect(root.locator("output p")).to_have_text(said[-1])
                root.locator("button.reset").click()
                expect(root.locator("output p")).to_have_text(first)
                explorer.reset()
            assert any(sentences != first for sentences in said)
        expect(page.locator(".alive img").first).to_be_hidden()


@needs_chromium
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_unfolds_a_hint_and_a_solution(visit, path):
    cells = code_cells(nbformat.read(path, as_version=4))
    checks = [".".join(check) for _, cell in cells for check in CHECK.findall(cell.source)]
    with visit(f"notebooks/{path.stem}.html") as page:
        expect(page.locator(".admonition").first).to_contain_text("needs a kernel")
        assert page.locator(".exercise").count() == len(checks) > 0
        for name in checks:
            box = page.locator(f'.exercise[data-name="{name}"]')
            assert box.locator("details:not([open])").count() >= 2
            assert f"{name}.check(" in box.locator("details .highlight").text_content()
        hint, *_, solution = page.locator(".exercise").last.locator("details").all()
        for folded in (hint, solution):
            expect(folded.locator("p").last).to_be_hidden()
            folded.locator("summary").click()
            expect(folded.locator("p").last).to_be_visible()


@needs_chromium
def test_the_search_finds_a_page_by_a_word_of_its_text(visit):
    with visit("search.html?q=Remez") as page:
        expect(page.locator("#search-results a").first).to_be_visible()
        assert "04_polynomials" in "".join(
            page.locator("#search-results a").evaluate_all("links => links.map(link => link.href)")
        )


def test_a_caption_is_the_first_text_in_stars_before_the_next_picture():
    told = new_markdown_cell("*A curve\nof $f$.* More text.")
    assert caption([new_code_cell("x = 1"), told]) == "A curve of f."
    assert caption([new_code_cell("plot()", outputs=[PICTURE]), told]) == ""
    assert caption([new_markdown_cell("**Bold** text.")]) == ""


def test_a_picture_without_a_caption_is_refused():
    cells = [new_markdown_cell("# Title\n\nText."), new_code_cell("plot()", outputs=[PICTURE])]
    with pytest.raises(ValueError, match="cell 1"):
        prepared(new_notebook(cells=cells), {})
