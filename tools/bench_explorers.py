"""Measure how long a picture takes after its slider moved, beside matplotlib's own ways.

`python tools/bench_explorers.py` starts JupyterLab and a headless Chromium, moves each slider 60
times by its arrow key, and prints the median and the 90th percentile: from the key's event to the
frame that shows a changed picture. "work" is the part that the browser computes and draws.
"""

import os
import platform
import statistics
import tempfile
from importlib.util import find_spec
from pathlib import Path

from jupyter_browser import (
    EXPLORER,
    NO_CHROMIUM,
    chromium,
    find_chromium,
    jupyterlab,
    open_notebook,
    run_all,
    write_notebook,
)

CHANGES = 60
SETUP = """
import ipywidgets, matplotlib.pyplot as plt, numpy as np
from muon_lab.explorers import *
from muon_lab.polynomials import apply_schedule
x, starts = np.linspace(0, 1.3, 500), np.linspace(0.01, 0.25, 64)

def curves(a):
    triple = (a, -4.775, 2.0315)
    return apply_schedule(x, triple), [apply_schedule(starts, triple, k) for k in range(1, 6)]
"""
HANDLE = '[role="slider"], .noUi-handle'
EXPLORERS = {
    "PolynomialExplorer": ("PolynomialExplorer()", "a"),
    "DescentExplorer, one rule of three": ("DescentExplorer(steps=500)", "lr3"),
    "DescentExplorer, all three (start)": ("DescentExplorer(steps=500)", "x"),
    "DescentExplorer, 8 × 6 matrix": ("DescentExplorer('matrix', steps=200)", "lr3"),
    "MatrixExplorer": ("MatrixExplorer()", "towards"),
    "LogitExplorer": ("LogitExplorer(count=64)", "scale"),
    "ClipExplorer": ("ClipExplorer(np.geomspace(1, 400, 960).reshape(60, 4, 4))", "tau"),
}
# The same two axes and 65 lines, as a notebook without an explorer would draw them.
OUTPUT = """
slider, output = ipywidgets.FloatSlider(3.4, min=3, max=4, step=0.005), ipywidgets.Output()

def redraw(change):
    with output:
        output.clear_output(wait=True)
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4))
        whole, steps = curves(change.new)
        left.plot(x, whole), right.plot(steps)
        left.set_ylim(0, 1.6)
        plt.show()

slider.observe(redraw, "value")
ipywidgets.VBox([slider, output])
"""
IN_PLACE = """
%matplotlib widget
slider = ipywidgets.FloatSlider(3.4, min=3, max=4, step=0.005)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4))
whole, steps = curves(3.4)
(curve,), lines = left.plot(x, whole), right.plot(steps)
left.set_ylim(0, 1.6)

def redraw(change):
    whole, steps = curves(change.new)
    curve.set_ydata(whole)
    for line, values in zip(lines, np.array(steps).T):
        line.set_ydata(values)
    figure.canvas.draw_idle()

slider.observe(redraw, "value")
display(slider)
plt.show()
"""
# From a key's event to the end of the drawing that it led to, in the frame that shows it.
WATCH_EXPLORER = """([root]) => {
    root.took = new Promise((resolve) => {
        root.addEventListener("keydown", () => {
            const began = performance.now();
            const drawn = new MutationObserver(() => {
                drawn.disconnect();
                resolve([performance.now() - began, Number(root.dataset.work)]);
            });
            drawn.observe(root, { attributes: true, attributeFilter: ["data-drawn"] });
        }, { capture: true, once: true });
    });
}"""
# From each move of a dragging pointer to the end of the drawing that it led to.
WATCH_DRAG = """([root]) => {
    root.took = [];
    let moved = null;
    root.addEventListener("pointermove", () => { moved ??= performance.now(); }, true);
    new MutationObserver(() => {
        if (moved !== null) root.took.push([performance.now() - moved, Number(root.dataset.work)]);
        moved = null;
    }).observe(root, { attributes: true, attributeFilter: ["data-drawn"] });
}"""
# From a key's event to the first frame with another picture in the cell.
WATCH_CELL = """([cell]) => {
    const seen = () => {
        const canvas = cell.querySelector(".jupyter-matplotlib-canvas-container canvas");
        if (canvas) return canvas.toDataURL();
        return cell.querySelector(".jp-OutputArea-output img")?.src;
    };
    const before = seen();
    cell.took = new Promise((resolve) => {
        cell.addEventListener("keydown", () => {
            const began = performance.now();
            const look = () => {
                const now = seen();
                if (now && now !== before) resolve([performance.now() - began, NaN]);
                else requestAnimationFrame(look);
            };
            requestAnimationFrame(look);
        }, { capture: true, once: true });
    });
}"""


def time_keys(page, place, slider, watch: str) -> list[tuple[float, float]]:
    """Press a slider's key again and again; return (milliseconds, of these the browser's work)."""
    slider.scroll_into_view_if_needed()
    slider.focus()
    taken = []
    for _ in range(CHANGES + 5):
        page.evaluate(watch, [place.element_handle()])
        page.keyboard.press("ArrowRight")
        taken.append(tuple(place.evaluate("place => place.took")))
        page.wait_for_timeout(40)
    return taken[5:]  # the first ones still compile


def time_explorer(page, number: int, trait: str) -> list[tuple[float, float]]:
    """Time one slider of an explorer."""
    root = page.locator(EXPLORER).nth(number)
    root.scroll_into_view_if_needed()
    slider = root.locator(f'[data-trait="{trait}"] input[type=range]')
    page.wait_for_timeout(1000)  # drawn when first seen
    return time_keys(page, root, slider, WATCH_EXPLORER)


def time_drag(page, number: int) -> list[tuple[float, float]]:
    """Time the drag of a descent's start across its picture."""
    root = page.locator(EXPLORER).nth(number)
    root.scroll_into_view_if_needed()
    box = root.locator(".picture").bounding_box()
    page.evaluate(WATCH_DRAG, [root.element_handle()])
    place = [box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"]]
    page.mouse.move(*place)
    page.mouse.down()
    for _ in range(CHANGES):
        place[0] += 2
        page.mouse.move(*place)
        page.wait_for_timeout(16)
    page.mouse.up()
    return [tuple(each) for each in root.evaluate("root => root.took")]


def time_cell(page, number: int) -> list[tuple[float, float]]:
    """Time a cell with an ipywidgets slider and a matplotlib picture."""
    cell = page.locator(".jp-CodeCell").nth(number)
    return time_keys(page, cell, cell.locator(HANDLE).first, WATCH_CELL)


def report(name: str, taken: list[tuple[float, float]]) -> None:
    """Print one line of the table."""
    times, works = zip(*taken, strict=True)
    ninth = statistics.quantiles(times, n=10)[-1]
    work = statistics.median(works)
    shown = f"{work:6.1f}" if work == work else "      "
    print(f"{name:42} {statistics.median(times):7.1f} {ninth:7.1f} {shown}", flush=True)


def open_cells(lab, browser, name: str, cells: list[str]):
    """Run cells in a notebook of their own; return its page when all widgets are there."""
    write_notebook(lab.folder / name, *cells)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, lab, name)
    run_all(page, lab)
    page.locator(".jp-CodeCell").last.locator(HANDLE).first.wait_for(timeout=120_000)
    page.wait_for_timeout(3000)
    return page


def measure(lab, browser) -> None:
    """Time every way and print the table."""
    head = f"milliseconds, {CHANGES} changes"
    print(f"{head:42} {'median':>7} {'90 %':>7} {'work':>6}")
    cells = [SETUP, *(made for made, _ in EXPLORERS.values()), OUTPUT]
    page = open_cells(lab, browser, "bench.ipynb", cells)
    for number, (name, (_, trait)) in enumerate(EXPLORERS.items()):
        report(name, time_explorer(page, number, trait))
        if trait == "x":
            report("the same, by dragging the start", time_drag(page, number))
    report("matplotlib redrawn in an Output", time_cell(page, len(cells) - 1))
    page.close()
    lab.end_kernels()
    name = "ipympl, artists updated in place"
    if find_spec("ipympl") is None:
        print(f"{name}: ipympl is not installed")
    else:
        report(name, time_cell(open_cells(lab, browser, "ipympl.ipynb", [SETUP, IN_PLACE]), 1))


def main() -> None:
    """Start JupyterLab and Chromium, and measure."""
    if find_chromium() is None:
        raise SystemExit(NO_CHROMIUM)
    print(f"{platform.machine()}, {os.cpu_count()} cores; from the slider to a changed picture")
    with tempfile.TemporaryDirectory() as place:
        served, settings = Path(place, "served"), Path(place, "settings")
        served.mkdir()
        settings.mkdir()
        with jupyterlab(served, settings) as lab, chromium() as browser:
            measure(lab, browser)


if __name__ == "__main__":
    main()
