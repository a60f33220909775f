"""What every explorer is: controls that move traits, a picture computed from them, sentences."""

import base64
from pathlib import Path
from typing import ClassVar, NamedTuple

import anywidget
from matplotlib.figure import Figure
from traitlets import Dict, List, TraitError, Unicode

from muon_lab.explorers.base.controls import Choice, Count, Slider, Toggle
from muon_lab.explorers.base.marks import backdrop, pack, picture

HERE = Path(__file__).parent
SHARED = ("canvas.js", "controls.js", "explorer.js")


def script(name: str) -> str:
    """Join the shared JavaScript and one explorer's own into the one module that a widget has."""
    return "\n".join(
        [
            *((HERE / part).read_text("utf-8") for part in SHARED),
            (HERE.parent / name).read_text("utf-8"),
        ]
    )


class Scene(NamedTuple):
    """What an explorer shows at one setting.

    Marks to draw, sentences by name, the numbers, and the controls that have no effect here.
    """

    marks: list[dict]
    readouts: dict[str, str]
    result: dict
    idle: tuple[str, ...] = ()


class Explorer(anywidget.AnyWidget):
    """The part that all explorers share; the package's docstring tells how to write one."""

    _css = (HERE / "explorer.css").read_text("utf-8")

    moving: ClassVar[tuple[str, ...]] = ()  # the traits with a control, in the order shown
    redraws: ClassVar[tuple[str, ...]] = ()  # those that change what stands still
    size: ClassVar[tuple[float, float]] = (7.6, 3.4)  # of the picture, in inches of 100 pixels
    same_axes: ClassVar[bool] = False  # True where draw_axes reads nothing but ``redraws``
    _drawn: ClassVar[dict[tuple, dict]] = {}

    title = Unicode().tag(sync=True)
    controls = List().tag(sync=True)
    starting = Dict().tag(sync=True)
    backdrop = Dict().tag(sync=True)
    scene = Dict().tag(sync=True, to_json=lambda value, _: pack(value))
    result = Dict()

    def __init__(self, **values):
        known = self.trait_names()
        for name in values:
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no {name!r}; it has {self.moving}")
        super().__init__(**values)
        self.controls = self.all_controls()
        self.starting = {name: getattr(self, name) for name in self.moving}
        self._stand_still()
        self._recompute()
        self.observe(self._moved, names=list(self.moving))

    def all_controls(self) -> list[dict]:
        """Describe each control: its kind, trait, label and limits."""
        return [self.traits()[name].control(self) for name in self.moving]

    def draw_axes(self, figure: Figure, palette: dict[str, str]) -> list:
        """Draw what stands still into ``figure``; return its axes in the order marks count."""
        raise NotImplementedError

    def compute(self) -> Scene:
        """Compute the scene of the present values."""
        raise NotImplementedError

    def options(self, name: str) -> list[str]:
        """List the names that the choice ``name`` may take."""
        raise NotImplementedError

    def limits(self, name: str) -> tuple[float, float] | None:
        """Give the limits of a slider where they hang on other values; None keeps its own."""
        return None

    def reset(self) -> None:
        """Put every control back to where it started."""
        with self.hold_trait_notifications():
            for name, value in self.starting.items():
                setattr(self, name, value)

    def picture(self) -> bytes:
        """Draw the present state with matplotlib, sentences below it, as a PNG."""
        scene = self.compute()
        caption = "\n".join(scene.readouts.values())
        parts = {"marks": scene.marks, "caption": caption, "sharpness": 1.5}
        return picture(self.draw_axes, self.size, **parts)[0]

    def _moved(self, change) -> None:
        if change.name in self.redraws:
            self._stand_still()
        self._recompute()

    def _stand_still(self) -> None:
        key = (type(self).__name__, *(getattr(self, name) for name in self.redraws))
        drawn = (self.same_axes and self._drawn.get(key)) or backdrop(self.draw_axes, self.size)
        if self.same_axes:
            self._drawn[key] = drawn
        self.backdrop = drawn

    def _recompute(self) -> None:
        scene = self.compute()
        self.result = scene.result
        self.scene = {"marks": scene.marks, "readouts": scene.readouts, "idle": scene.idle}

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        live, _ = super()._repr_mimebundle_(**kwargs) or ({}, {})
        still = base64.b64encode(self.picture()).decode()
        return {**live, "text/plain": repr(self), "image/png": still}, {
            "image/png": {"width": 100 * self.size[0]}
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.moving)
        return f"{type(self).__name__}({values})"


__all__ = ["Choice", "Count", "Explorer", "Scene", "Slider", "Toggle", "TraitError", "script"]
