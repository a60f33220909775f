"""Make the README's small pictures: one from each stored notebook, into data/pictures/.

`python tools/thumbnails.py`, after `make store`.
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[1]
WIDTH = 360  # pixels, twice what the README shows
# Which of its notebook's pictures says most at a glance, counted from the first.
CHOSEN = {
    "00_start_here": 0,
    "01_descent": 4,
    "02_adaptive": 6,
    "03_matrices": 0,
    "04_polynomials": 0,
    "05_muon": 1,
    "06_attention": 2,
    "07_training_run": 3,
    "08_muonclip": 0,
    "09_speed": 0,
    "10_scaling_out": 0,
    "11_claims": 2,
    "12_after_muon": 0,
}


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return every picture stored in a notebook, as PNG."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.get("data", {}).get("image/png") for output in outputs]
    return [base64.b64decode(png) for png in found if png]


def main() -> None:
    """Write the pictures."""
    (ROOT / "data/pictures").mkdir(exist_ok=True)
    for name, number in CHOSEN.items():
        notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
        picture = Image.open(io.BytesIO(pictures(notebook)[number])).convert("RGB")
        picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        target = ROOT / f"data/pictures/{name}.png"
        picture.quantize(64).save(target, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
