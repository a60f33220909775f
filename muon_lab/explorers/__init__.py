"""Pictures that move with the slider: live widgets over the package's own functions.

    from muon_lab.explorers import PolynomialExplorer
    explorer = PolynomialExplorer(schedule="jordan")
    explorer  # the last expression of a cell shows it

Every explorer: the values that a reader moves are traits, readable and settable from Python;
``explorer.result`` holds the numbers of the present setting; ``explorer.reset()`` goes back to the
start; ``explorer.state()`` is what a page without Python needs. The picture is computed in the
browser. Beside the live view a cell's output carries a PNG of the starting state.

To write one, add a Python file with a subclass of `explorer.Explorer` and a script:

1. Declare each moving value as a `Slider`, `Count`, `Choice` or `Toggle`, and list their names in
   ``moving`` in the order shown. ``options(name)`` lists the names that a `Choice` offers.
2. ``compute()`` returns numbers and arrays by name. The script has a function ``compute(traits)``
   that returns the same under the same names; a test compares them at many settings. What it needs
   besides the moving values, ``supply()`` puts into ``data`` as plain lists.
3. ``marks`` (see `marks`: lines, dots, bands, names) and ``sentences`` (see `sentences`) refer to
   these names. They exist once: matplotlib draws them for the PNG, and the browser for the screen.
4. ``draw_axes(figure, palette, view)``: draw what stands still with matplotlib, limits fixed, and
   return the axes in the order in which marks count them. ``size`` is the figure's, in inches of
   100 CSS pixels. Where axes or limits depend on a trait, ``view_by`` names it.
5. The script ends in ``export default { render: explorer({ compute }) }``; see explorer.js for
   what follows from a change, and for a point that can be dragged.

The browser tests find every explorer of every notebook and try all of its controls.
"""

from muon_lab.explorers.clipping import ClipExplorer
from muon_lab.explorers.descent import DescentExplorer
from muon_lab.explorers.logits import LogitExplorer
from muon_lab.explorers.matrix import MatrixExplorer
from muon_lab.explorers.overhead import OverheadExplorer
from muon_lab.explorers.polynomial import PolynomialExplorer
from muon_lab.explorers.scaling import ScalingExplorer

__all__ = [
    "ClipExplorer",
    "DescentExplorer",
    "LogitExplorer",
    "MatrixExplorer",
    "OverheadExplorer",
    "PolynomialExplorer",
    "ScalingExplorer",
]
