"""Pictures that move with the slider: live widgets over the package's own functions.

    from muon_lab.explorers import PolynomialExplorer
    explorer = PolynomialExplorer(schedule="jordan")
    explorer  # the last expression of a cell shows it

Every explorer: the values that a reader moves are traits, readable and settable from Python;
``explorer.result`` holds the numbers of the present setting; ``explorer.reset()`` goes back to the
start. Beside the live view a cell's output carries a PNG of the starting state.

To write one, subclass `explorer.Explorer`:

1. Declare each moving value as a `Slider`, `Count`, `Choice` or `Toggle`, list their names in
   ``moving`` in the order shown, and those that change the still axes in ``redraws``.
2. ``draw_axes(figure, palette)``: draw what stands still with matplotlib, limits fixed; return the
   axes. ``size`` is the figure's, in inches of 100 CSS pixels; ``same_axes = True`` says that this
   drawing hangs on ``redraws`` alone, so that a second explorer may share it.
3. ``compute()``: return a `Scene` of marks (`marks.line`, `dots`, `band`, `label`; their first
   argument counts the axes), sentences by name, and the ``result`` dict. Keep it a thin call of a
   pure function, and finite at every setting.
4. ``options(name)``: the names that a `Choice` offers.
5. ``_esm = script("kernel.js")``, whose picture is computed in Python; or a file of your own that
   ends in ``export default { render: explorer({...}) }`` (see explorer.js) and may compute in the
   browser or let a point be dragged.

The browser tests find every explorer of every notebook and try all of its controls.
"""

from muon_lab.explorers.clipping import ClipExplorer
from muon_lab.explorers.descent import DescentExplorer
from muon_lab.explorers.logits import LogitExplorer
from muon_lab.explorers.matrix import MatrixExplorer
from muon_lab.explorers.polynomial import PolynomialExplorer

__all__ = [
    "ClipExplorer",
    "DescentExplorer",
    "LogitExplorer",
    "MatrixExplorer",
    "PolynomialExplorer",
]
