"""Make the README's moving picture from real frames of the polynomial explorer in a browser.

`python tools/moving_picture.py` writes data/explorer.gif: JupyterLab and a headless Chromium are
started, the slider of a goes from a cubic's value to Jordan's and on, and each frame is a
screenshot of what a reader sees.
"""

import io
import itertools
import tempfile
from pathlib import Path

from jupyter_browser import (
    EXPLORER,
    chromium,
    jupyterlab,
    open_notebook,
    run_all,
    write_notebook,
)
from PIL import Image
from playwright.sync_api import Page

TARGET = Path(__file__).parent.parent / "data" / "explorer.gif"
WIDTH = 720
COLOURS = 40
FRAME_MS = 90
LARGEST = 1_500_000  # bytes
CELL = """
from muon_lab.explorers import PolynomialExplorer
PolynomialExplorer(a=1.5, b=-0.5, c=0.0)
"""
# From the classic cubic to Jordan's coefficients, then past them; the end goes back to the start.
STOPS = [(1.5, -0.5, 0.0), (2.6, -2.6, 1.0), (3.4445, -4.775, 2.0315), (3.9, -6.0, 2.6)]
STEPS_BETWEEN = 12


def way() -> list[tuple[float, float, float]]:
    """Return (a, b, c) frame by frame, there and back, with a rest at each stop."""
    there = []
    for start, end in itertools.pairwise(STOPS):
        shares = [k / STEPS_BETWEEN for k in range(STEPS_BETWEEN)]
        there += [start] * 4
        there += [tuple(p + s * (q - p) for p, q in zip(start, end, strict=True)) for s in shares]
    return [*there, *[STOPS[-1]] * 4, *there[::-2]]


def frames(page: Page) -> list[Image.Image]:
    """Set the sliders as a reader would, and take a screenshot after each new picture."""
    root = page.locator(EXPLORER)
    taken = []
    for triple in way():
        for trait, value in zip("abc", triple, strict=True):
            box = root.locator(f'[data-trait="{trait}"] input[type=number]')
            box.fill(f"{value:.4f}")
            box.press("Enter")
        page.evaluate("() => document.activeElement.blur()")
        page.wait_for_timeout(40)
        taken.append(Image.open(io.BytesIO(root.screenshot())).convert("RGB"))
    return taken


def write(taken: list[Image.Image], target: Path) -> int:
    """Write an endless GIF with one palette for all frames; return its bytes."""
    width, height = taken[0].size
    size = (WIDTH, round(WIDTH * height / width))
    shrunk = [frame.resize(size, Image.Resampling.LANCZOS) for frame in taken]
    palette = shrunk[len(shrunk) // 2].quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in shrunk]
    loop = {"save_all": True, "append_images": drawn[1:], "duration": FRAME_MS, "loop": 0}
    drawn[0].save(target, optimize=True, **loop)
    return target.stat().st_size


def main() -> None:
    """Open the explorer, move it, write the picture."""
    with tempfile.TemporaryDirectory() as place:
        served, settings = Path(place, "served"), Path(place, "settings")
        served.mkdir()
        settings.mkdir()
        write_notebook(served / "picture.ipynb", CELL)
        with jupyterlab(served, settings) as lab, chromium() as browser:
            page = browser.new_page(viewport={"width": 1300, "height": 1000})
            open_notebook(page, lab, "picture.ipynb")
            run_all(page, lab)
            page.wait_for_selector(f"{EXPLORER}[data-drawn]", timeout=60_000)
            size = write(frames(page), TARGET)
    if size > LARGEST:
        raise SystemExit(f"{TARGET} takes {size:,} bytes, over {LARGEST:,}: use fewer frames")
    print(f"{TARGET.name}: {size:,} bytes")


if __name__ == "__main__":
    main()
