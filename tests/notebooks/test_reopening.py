"""A learner's notebook, saved and opened again in JupyterLab, shows no broken widget."""

import json

import pytest
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
    wait_for_kernel,
    write_notebook,
)

from muon_lab.my_course import WIDGET_VIEW, copy_of

CELLS = ["from muon_lab.explorers import PolynomialExplorer", "PolynomialExplorer()"]

pytestmark = [needs_chromium, pytest.mark.browser]


@pytest.fixture(scope="module")
def browser():
    assert find_chromium(), NO_CHROMIUM
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.fixture
def notebook(lab, tmp_path):
    """Serve a copy of a notebook as a learner has it."""
    path = lab.folder / "mine.ipynb"
    path.write_text(json.dumps(copy_of(write_notebook(tmp_path / "original.ipynb", *CELLS))))
    yield path
    lab.end_kernels()


def outputs(path):
    return json.loads(path.read_text())["cells"][-1]["outputs"]


def save(page, path):
    """Save the notebook, and wait until it is written."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        if path.stat().st_mtime_ns != before:
            return
        page.wait_for_timeout(100)
    raise TimeoutError("the notebook was not saved")


def run_and_save(page, lab, path):
    open_notebook(page, lab, path.name)
    run_all(page, lab)
    page.wait_for_selector(EXPLORER, timeout=READY_MS)
    page.wait_for_selector(f"{EXPLORER}[data-drawn]", timeout=READY_MS)
    save(page, path)


def test_opening_a_copy_does_not_change_it(lab, browser, notebook):
    with quiet_page(browser) as page:
        open_notebook(page, lab, notebook.name)
        wait_for_kernel(page, lab)
        page.wait_for_timeout(1000)
        assert page.locator(".jp-mod-dirty").count() == 0


def test_an_explorer_is_alive_when_it_is_opened_again(lab, browser, notebook):
    with quiet_page(browser) as page:
        run_and_save(page, lab, notebook)
    lab.end_kernels()
    with quiet_page(browser) as page:
        open_notebook(page, lab, notebook.name)
        root = page.locator(EXPLORER)
        page.wait_for_selector(f"{EXPLORER}[data-drawn]", timeout=READY_MS)
        before = root.locator("output").inner_text()
        root.locator("input[type=range]").first.press("ArrowRight")
        page.wait_for_function(
            "([output, before]) => output.innerText !== before",
            arg=[root.locator("output").element_handle(), before],
        )
        assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()


def test_an_explorer_saved_after_a_restart_is_a_picture(lab, browser, notebook):
    with quiet_page(browser) as page:
        run_and_save(page, lab, notebook)
        page.get_by_role("menuitem", name="Kernel", exact=True).first.click()
        page.get_by_text("Restart Kernel…", exact=True).click()
        with page.expect_response("**/restart*"):
            page.locator(".jp-Dialog .jp-mod-accept").click()
        for _ in range(100):  # the page forgets its widgets when the kernel has restarted
            save(page, notebook)
            if WIDGET_VIEW not in outputs(notebook)[0]["data"]:
                break
            page.wait_for_timeout(200)
    lab.end_kernels()
    with quiet_page(browser) as page:
        open_notebook(page, lab, notebook.name)
        page.wait_for_selector(".jp-RenderedImage img", timeout=READY_MS)
        text = page.locator(".jp-Notebook").inner_text()
        assert "Run this cell again to make it live." in text
        assert "Error displaying widget" not in text
