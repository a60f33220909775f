"""The polynomial explorer's JavaScript against the Python that it repeats, in a bare page."""

import itertools

import numpy as np
import pytest
from jupyter_browser import NO_CHROMIUM, chromium, find_chromium, needs_chromium, quiet_page

from muon_lab.explorers import PolynomialExplorer
from muon_lab.polynomials import SCHEDULES

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def bare_page():
    assert find_chromium(), NO_CHROMIUM
    with chromium() as browser, quiet_page(browser) as page:
        page.evaluate(
            """async source => {
            const file = new Blob([source], { type: "text/javascript" });
            window.explorer = await import(URL.createObjectURL(file)); }""",
            PolynomialExplorer._esm,
        )
        yield page


def drawn_by_javascript(page, explorer) -> dict:
    """Compute an explorer's scene in the browser, from its traits."""
    traits = ["schedule", "schedules", "spectrum", "tolerance", "steps", "a", "b", "c"]
    state = {name: getattr(explorer, name) for name in traits}
    state["backdrop"] = {"axes": explorer.backdrop["axes"]}
    state["spectra"] = {name: found.tolist() for name, found in explorer.spectra.items()}
    return page.evaluate(
        """state => {
        const scene = window.explorer.scene({ get: name => state[name] });
        const plain = value => ArrayBuffer.isView(value) ? [...value] : value;
        for (const mark of scene.marks) Object.assign(mark, { x: plain(mark.x), y: plain(mark.y) });
        return scene; }""",
        state,
    )


def assert_same_scene(page, explorer) -> None:
    """The browser draws and says what Python does, numbers to 1e-6."""
    here, there = explorer.scene, drawn_by_javascript(page, explorer)
    assert there["readouts"] == here["readouts"]
    assert len(there["marks"]) == len(here["marks"])
    for mine, its in zip(here["marks"], there["marks"], strict=True):
        assert (its["kind"], its["axes"], its["ink"]) == (mine["kind"], mine["axes"], mine["ink"])
        assert its.get("text") == mine.get("text")
        for key in {"x", "y", "low", "high"} & set(mine):
            numbers = np.clip(np.array(its[key], dtype=float), -1e6, 1e6)
            np.testing.assert_allclose(numbers, mine[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_javascript_agrees_with_python_on_every_schedule(bare_page, name):
    explorer = PolynomialExplorer(schedule=name, spectrum="nearly low-rank")
    for steps, log in itertools.product((1, 5, 20), (False, True)):
        explorer.steps, explorer.log = steps, log
        assert_same_scene(bare_page, explorer)


def test_javascript_agrees_with_python_at_every_extreme(bare_page):
    explorer = PolynomialExplorer()
    sliders = [control for control in explorer.controls if control["kind"] == "slider"]
    ends = [(control["low"], control["high"]) for control in sliders]
    for log, *corner in itertools.product((False, True), *ends):
        explorer.log = log
        for control, value in zip(sliders, corner, strict=True):
            setattr(explorer, control["trait"], value)
        assert_same_scene(bare_page, explorer)


def test_javascript_agrees_with_python_on_random_triples(bare_page):
    generator = np.random.default_rng(0)
    explorer = PolynomialExplorer()
    for _ in range(25):
        explorer.a = float(generator.uniform(0.5, 4.5))
        explorer.b = float(generator.uniform(-6, 0))
        explorer.c = float(generator.uniform(0, 3))
        explorer.steps = int(generator.integers(1, 8))
        assert_same_scene(bare_page, explorer)
