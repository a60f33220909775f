"""The explorers as a reader meets them: JupyterLab in a headless Chromium, real keys and pointer.

Every explorer of every notebook is found, run and moved; a new one needs no new test. Without a
Chromium these tests skip, except where CI is set: there they must run.
"""

import contextlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import nbformat
import pytest
from explorer_cells import needed_cells, shows_explorer
from jupyter_browser import (
    EXPLORER,
    NO_CHROMIUM,
    READY_MS,
    chromium,
    find_chromium,
    jupyterlab,
    needs_chromium,
    open_notebook,
    quiet_page,
    run_all,
    run_last_cell,
    write_notebook,
)
from notebook_rules import code_cells
from playwright.sync_api import expect

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FAILED = '[data-mime-type="application/vnd.jupyter.error"]'
VALUES = """
import json
from ipywidgets.widgets import widget
made = [each for each in widget._instances.values() if hasattr(each, "moving")]
now = [{name: getattr(each, name) for name in each.moving} for each in made]
print(json.dumps([now, [each.starting for each in made]]))
"""

pytestmark = [needs_chromium, pytest.mark.browser]


# --- which cells show an explorer, and what they need ----------------------------------------


def explorer_cells(path: Path) -> list[str]:
    """Return a notebook's cells that show an explorer, and the cells that those depend on."""
    return [*needed_cells(nbformat.read(path, as_version=4)).values()]


WITH_EXPLORERS = [path for path in NOTEBOOKS if explorer_cells(path)]


# --- the browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    assert find_chromium(), NO_CHROMIUM
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    served, settings = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("settings")
    (served / "notebooks").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, served / "notebooks")
    shutil.copytree(NOTEBOOKS[0].parents[1] / "data" / "runs", served / "data" / "runs")
    with jupyterlab(served, settings) as running:
        yield running


@contextlib.contextmanager
def run_cells(lab, browser, name, cells, **options):
    """Run cells in JupyterLab; give the page, with every explorer in it and a last cell to run."""
    write_notebook(lab.folder / "notebooks" / name, *cells, VALUES)
    with quiet_page(browser, **options) as page:
        open_notebook(page, lab, f"notebooks/{name}")
        run_all(page, lab)
        page.wait_for_function(
            """([count, failed]) => document.querySelector(failed)
            || document.querySelectorAll(".muon-explorer").length >= count""",
            arg=[sum(map(shows_explorer, cells)), FAILED],
            timeout=2 * READY_MS,
        )
        assert page.locator(FAILED).all_inner_texts() == []
        yield page
    lab.end_kernels()


def show(root) -> None:
    """Scroll to an explorer, which is drawn when it is first seen."""
    root.scroll_into_view_if_needed()
    expect(root).to_have_attribute("data-drawn", re.compile(r"\d+"), timeout=READY_MS)


def look(root) -> tuple[str, str, int]:
    """Return what an explorer says, the pixels of what it draws, and how many pictures it drew."""
    return root.evaluate(
        """root => [root.querySelector("output").innerText,
        root.querySelectorAll("canvas")[1].toDataURL(), Number(root.dataset.drawn)]"""
    )


def after(page, root, act, patience: float = 15.0) -> tuple[str, str, int]:
    """Do something; return what is seen when a new picture, or a few seconds, have come to rest."""
    before = look(root)[2]
    act()
    root.evaluate(
        """async (root, [before, patience]) => {
        const frame = () => new Promise(requestAnimationFrame);
        const until = performance.now() + 1000 * patience;
        while (Number(root.dataset.drawn) === before && performance.now() < until) await frame();
        for (let quiet = 0, last; quiet < 3; last = root.dataset.drawn) {
            await frame();
            quiet = last === root.dataset.drawn ? quiet + 1 : 0;
        }}""",
        [before, patience],
    )
    return look(root)


def slide_by_keys(page, control):
    """Move a slider some steps towards its farther end, with the arrow keys."""
    slider = control.locator("input[type=range]")
    slider.focus()
    low, high, now = (float(slider.evaluate(f"e => e.{part}")) for part in ("min", "max", "value"))
    for _ in range(3):
        page.keyboard.press("ArrowRight" if now < (low + high) / 2 else "ArrowLeft")


def slide_by_pointer(page, control):
    """Drag a slider's thumb across a part of its track."""
    box = control.locator("input[type=range]").bounding_box()
    height = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], height)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.65 * box["width"], height, steps=3)
    page.mouse.up()


def values_shown(root) -> dict:
    """Return what the controls of an explorer show, by trait."""
    return root.evaluate(
        """root => Object.fromEntries([...root.querySelectorAll(".control")].map(control => {
        const [field] = control.querySelectorAll("input[type=number], select, [type=checkbox]");
        const value = field.type === "checkbox" ? field.checked
            : field.type === "number" ? field.valueAsNumber : field.value;
        return [control.dataset.trait, value]; }))"""
    )


def move_everything(page, root) -> tuple[bool, bool]:
    """Move each control of an explorer; return whether text and pixels ever changed.

    Every slider must change what is seen. A choice need not: it may have no effect on this setting.
    """
    start = look(root)
    for control in root.locator(".control").all():
        kind = control.get_attribute("class").split()[-1]
        for act in ACTS[kind] if control.locator(":disabled").count() == 0 else []:
            before = look(root)
            patience = 15.0 if kind == "slider" else 1.0
            seen = after(page, root, partial(act, page, control), patience)
            moved = seen[2] > before[2] and seen[:2] != before[:2]
            assert moved or kind != "slider", f"{control.get_attribute('data-trait')}: no change"
    return seen[0] != start[0], seen[1] != start[1]


def choose_another(page, control):
    """Choose the first option that is not the present one."""
    select = control.locator("select")
    options = select.locator("option").all_inner_texts()
    now = select.input_value()
    select.select_option(next(option for option in options if option != now))


ACTS = {
    "slider": [slide_by_keys, slide_by_pointer],
    "choice": [choose_another],
    "toggle": [lambda page, control: control.locator("input").click()],
}


@pytest.mark.parametrize("path", WITH_EXPLORERS, ids=lambda path: path.stem)
def test_every_explorer_of_a_notebook_moves(lab, browser, path):
    cells = explorer_cells(path)
    with run_cells(lab, browser, f"run_{path.name}", cells) as page:
        found = page.locator(EXPLORER).all()
        assert len(found) == sum(map(shows_explorer, cells))
        for root in found:
            show(root)
            assert root.get_attribute("aria-label")
            assert move_everything(page, root) == (True, True)
            now, starting = json.loads(run_last_cell(page))
            place = place_of(values_shown(root), now)
            show(root)
            after(page, root, root.locator("button.reset").click)
            assert place_of(values_shown(root), starting) == place


def place_of(shown: dict, kept: list[dict]) -> int:
    """Find which of Python's explorers has just the values that the browser shows."""
    close = [
        place
        for place, each in enumerate(kept)
        if set(shown) <= set(each)
        and all(
            each[name] == pytest.approx(value, rel=1e-5, abs=1e-9)
            if isinstance(value, float | int)
            else each[name] == value
            for name, value in shown.items()
        )
    ]
    assert close, f"Python has {kept}, the browser shows {shown}"
    return close[0]


def stored_pictures(path: Path) -> list[str]:
    """Return the picture that each explorer of a stored notebook left."""
    cells = [cell for _, cell in code_cells(nbformat.read(path, as_version=4))]
    shown = [cell for cell in cells if shows_explorer(cell.source)]
    assert all(cell.outputs for cell in shown), "an explorer's cell has no stored output"
    return [cell.outputs[-1].data["image/png"].replace("\n", "") for cell in shown]


@pytest.mark.parametrize("path", WITH_EXPLORERS, ids=lambda path: path.stem)
def test_a_stored_notebook_opens_with_pictures_and_no_error(lab, browser, path):
    with quiet_page(browser) as page:
        open_notebook(page, lab, f"notebooks/{path.name}")
        page.wait_for_function(
            """pictures => pictures.every(picture =>
            [...document.querySelectorAll(".jp-RenderedImage img")].some(image =>
            image.naturalWidth > 500 && image.src.replaceAll("\\n", "").endsWith(picture)))""",
            arg=stored_pictures(path),
        )
        text = page.locator(".jp-Notebook").inner_text()
        assert "Error displaying widget" not in text
        assert "model not found" not in text
    lab.end_kernels()


BOTH = ["from muon_lab.explorers import *", "PolynomialExplorer()", "DescentExplorer()"]


@pytest.fixture(scope="module")
def small_page(lab, browser):
    """A narrow window on a screen of double density, with two explorers."""
    narrow = {"viewport": {"width": 800, "height": 900}, "device_scale_factor": 2}
    with run_cells(lab, browser, "narrow.ipynb", BOTH, **narrow) as page:
        yield page


def test_a_narrow_page_on_a_sharp_screen_shows_all(small_page):
    for root in small_page.locator(EXPLORER).all():
        show(root)
        width, shown, drawn = root.evaluate(
            """root => { const [, above] = root.querySelectorAll("canvas");
            return [root.clientWidth, root.scrollWidth, above.width / above.clientWidth]; }"""
        )
        assert shown <= width < 800
        assert drawn == pytest.approx(2, rel=0.01)
        for control in root.locator(".control").all():
            box, field = control.bounding_box(), control.locator("input, select").last
            right = field.bounding_box()["x"] + field.bounding_box()["width"]
            assert right <= box["x"] + box["width"] + 1


def test_a_narrow_page_shows_controls_and_picture_together(small_page):
    height = small_page.locator(".jp-WindowedPanel-outer").first.bounding_box()["height"]
    for root in small_page.locator(EXPLORER).all():
        show(root)
        controls, picture = (
            root.locator(f".{part}").bounding_box() for part in ("controls", "picture")
        )
        rows = 2 if picture["height"] > picture["width"] else 1  # of panels, one below the other
        assert controls["height"] + picture["height"] / rows < height
        for wide in root.locator(".wide input[type=range]").all():
            assert wide.bounding_box()["width"] > 0.65 * picture["width"]


def test_the_start_is_dragged_by_pointer_and_by_keys(small_page):
    root = small_page.locator(EXPLORER).nth(1)
    show(root)
    before = values_shown(root)
    picture = root.locator(".picture canvas").last
    box = picture.bounding_box()

    def drag():
        small_page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.2 * box["height"])
        small_page.mouse.down()
        small_page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
        small_page.mouse.up()

    first = look(root)
    dragged = after(small_page, root, drag)
    here = values_shown(root)
    assert here["x"] > before["x"] and dragged[:2] != first[:2]
    picture.focus()
    after(small_page, root, lambda: small_page.keyboard.press("ArrowUp"))
    assert values_shown(root)["y"] > here["y"]
    assert values_shown(root)["x"] == pytest.approx(here["x"], abs=0.01)


def test_a_number_typed_counts_when_enter_is_pressed(small_page):
    root = small_page.locator(EXPLORER).first
    show(root)
    before = look(root)
    box = root.locator('[data-trait="a"] input[type=number]')

    def enter():
        box.click()
        small_page.keyboard.press("Control+A")
        small_page.keyboard.type("3.1")
        small_page.keyboard.press("Enter")

    seen = after(small_page, root, enter)
    assert "(3.1, −4.775, 2.0315)" in seen[0]
    assert seen[1] != before[1]


def test_every_label_names_a_control_of_its_own(small_page):
    named = small_page.evaluate(
        """() => [...document.querySelectorAll(".muon-explorer .control")].map(control =>
        control.contains(control.querySelector("label").control))"""
    )
    assert len(named) > 15 and all(named)


def test_a_dark_theme_is_dark_here_too(small_page):
    root = small_page.locator(EXPLORER).first
    show(root)
    light = look(root)
    small_page.get_by_role("menuitem", name="Settings", exact=True).click()
    small_page.get_by_text("Theme", exact=True).first.hover()
    small_page.get_by_text("JupyterLab Dark", exact=True).click()
    small_page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    small_page.wait_for_function(
        "root => root.style.getPropertyValue('--color-text').startsWith('#e')",
        arg=root.element_handle(),
    )
    small_page.wait_for_timeout(300)
    dark = look(root)
    assert dark[0] == light[0] and dark[1] != light[1]
