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


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        (1.0, 0.0, 0.0),  # stays
        (1.01, 0.0, 0.0),  # creeps to infinity
        (1.0, -0.5, 0.0),  # creeps to 0
        (1.64, -4.63, 2.31),  # settles on either side of 0
        (2.23, -2.09, 0.25),  # escapes from a fringe of intervals
        (0.0, -0.02, 0.7),  # reaches -0
    ],
)
def test_javascript_agrees_with_python_on_odd_triples(bare_page, a, b, c):
    explorer = PolynomialExplorer(a=a, b=b, c=c, steps=9, tolerance=1e-6)
    assert_same_scene(bare_page, explorer)


@pytest.mark.parametrize("matrix", [[[1, 2, 3]], np.diag([1.0, 0.0])], ids=["a row", "singular"])
def test_javascript_agrees_with_python_on_small_matrices(bare_page, matrix):
    for log in (False, True):
        assert_same_scene(bare_page, PolynomialExplorer(matrix=matrix, log=log))


def test_a_matrix_that_has_yet_to_come_is_not_made_up(bare_page):
    explorer = PolynomialExplorer()
    explorer.spectra = {}
    scene = drawn_by_javascript(bare_page, explorer)
    assert scene["readouts"]["values"] == "This matrix has yet to come from Python."
    assert {mark["kind"] for mark in scene["marks"] if mark["axes"] == 1} == {"label"}
