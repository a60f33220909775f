"""What every explorer is: controls that move traits, a picture computed from them, sentences."""

import base64
from pathlib import Path
from typing import ClassVar

import anywidget
from traitlets import Dict, List, Unicode

from muon_lab.explorers.base.backdrop import backdrop, still_picture
from muon_lab.explorers.base.marks import draw_marks
from muon_lab.explorers.base.sentences import say
from muon_lab.plots import PALETTES

BASE = Path(__file__).parent
SHARED_SCRIPTS = ("canvas.js", "controls.js", "explorer.js")
View = str | bool | None


def script(name: str) -> str:
    """Join the shared JavaScript and an explorer's own file into one module, as a widget needs."""
    files = [*(BASE / shared for shared in SHARED_SCRIPTS), BASE.parent / name]
    return "\n".join(file.read_text("utf-8") for file in files)


class Explorer(anywidget.AnyWidget):
    """The part that all explorers share; the package's docstring says how to write one."""

    _css = (BASE / "explorer.css").read_text("utf-8")

    moving: ClassVar[tuple[str, ...]] = ()  # the traits with a control, in the order shown
    size: ClassVar[tuple[float, float]] = (7.6, 3.4)  # of the picture, in inches of 100 pixels
    _cached_views: ClassVar[dict[tuple, dict]] = {}

    title = Unicode().tag(sync=True)
    marks = List().tag(sync=True)
    sentences = Dict().tag(sync=True)
    data = Dict().tag(sync=True)  # further numbers that compute reads, as plain lists
    view_by = Unicode().tag(sync=True)  # the trait on which axes and limits depend, if any
    views = Dict().tag(sync=True)  # for each of its values: a backdrop and the controls
    palettes = Dict(PALETTES).tag(sync=True)
    starting = Dict().tag(sync=True)

    def __init__(self, **values):
        known = self.trait_names()
        for name in values:
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no {name!r}; it has {self.moving}")
        self._numbers = None
        super().__init__(**values)
        self.starting = self.settings()
        self.supply()
        self._build_views()
        self.observe(self._moved, names=[*self.moving, "data"])

    def settings(self) -> dict:
        """Return the values of all controls by name."""
        return {name: getattr(self, name) for name in self.moving}

    def compute(self) -> dict:
        """Compute the numbers and arrays that marks and sentences name, as the script does."""
        raise NotImplementedError

    def draw_axes(self, figure, palette, view: View) -> list:
        """Draw what stands still in a view; return the axes in the order in which marks count."""
        raise NotImplementedError

    def options(self, name: str, view: View = None) -> list[str]:
        """List the values that the choice ``name`` may take, in the present view by default."""
        raise NotImplementedError

    def limits(self, name: str, view: View = None) -> tuple[float, float] | None:
        """Return the limits of a slider where they depend on the view; None keeps its own."""
        return None

    def controls_of(self, view: View) -> list[str]:
        """List the traits that have a control in this view, in the order shown."""
        return list(self.moving)

    def supply(self, everything: bool = False) -> None:
        """Put into ``data`` what the present settings, or all of them, need besides."""

    def views_are_shared(self, view: View) -> bool:
        """Tell whether this view looks the same in every explorer of this class."""
        return True

    @property
    def numbers(self) -> dict:
        """The settings and all that `compute` makes of them."""
        if self._numbers is None:
            self._numbers = self.settings() | self.compute()
        return self._numbers

    @property
    def result(self) -> dict:
        """The numbers of the present settings."""
        return self.numbers

    @property
    def readouts(self) -> dict[str, str]:
        """The sentences below the picture, by name."""
        return {name: say(template, self.numbers) for name, template in self.sentences.items()}

    def view(self) -> View:
        """Return the value of ``view_by``'s trait."""
        return getattr(self, self.view_by) if self.view_by else None

    def reset(self) -> None:
        """Put every control back to where it started."""
        with self.hold_trait_notifications():
            for name, value in self.starting.items():
                setattr(self, name, value)

    def picture(self) -> bytes:
        """Draw the present state with matplotlib, sentences below it, as a PNG."""

        def draw(axes, palette):
            draw_marks(axes, self.marks, self.numbers, palette)

        caption = [sentence for sentence in self.readouts.values() if sentence]
        return still_picture(self._axes_of(self.view()), self.size, draw, caption)

    def state(self) -> dict:
        """Return the traits as JSON, with which ``_esm`` runs in a page without Python.

        The script's ``render({model, el})`` asks of its model only ``get(name)``,
        ``set(name, value)``, ``on`` and ``off`` of "change:name", and ``save_changes()``.
        """
        self.supply(everything=True)
        widget = ("comm", "keys", "layout", "tabbable", "tooltip")
        return self.get_state([key for key in self.keys if key[0] != "_" and key not in widget])

    def _moved(self, change) -> None:
        self._numbers = None
        if change.name != "data":
            self.supply()

    def _axes_of(self, view: View):
        return lambda figure, palette: self.draw_axes(figure, palette, view)

    def _build_views(self) -> None:
        values = self.traits()[self.view_by].values(self) if self.view_by else [None]
        self.views = {_key(view): self._build_view(view) for view in values}

    def _build_view(self, view: View) -> dict:
        key = (type(self).__name__, view)
        drawn = self._cached_views.get(key) if self.views_are_shared(view) else None
        drawn = drawn or backdrop(self._axes_of(view), self.size)
        if self.views_are_shared(view):
            self._cached_views[key] = drawn
        traits, names = self.traits(), self.controls_of(view)
        controls = [{"trait": name, **traits[name].control(self, view)} for name in names]
        return {"backdrop": drawn, "controls": controls}

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        live, _ = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = base64.b64encode(self.picture()).decode()
        return {**live, "text/plain": repr(self), "image/png": still}, {
            "image/png": {"width": 100 * self.size[0]}
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"{type(self).__name__}({values})"


def _key(view: View) -> str:
    """Return a view's key, as JavaScript writes the value."""
    return str(view).lower() if isinstance(view, bool) else view or ""
