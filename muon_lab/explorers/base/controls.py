"""Traits that a reader can move: each holds its value, its limits and how its control looks."""

import math
from numbers import Real

from traitlets import Bool, Float, Int, TraitError, Unicode


class _Limited:
    """What sliders share: limits, named in their errors, and the look of their control."""

    span: float | None = None

    def validate(self, owner, value):
        """Refuse what is not a finite number within the limits."""
        low, high = owner.limits(self.name) or (self.low, self.high)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            example = low if self.log else (low + high) // 2
            raise TraitError(
                f"{self.name} must be a number from {low:g} to {high:g}; got {value!r}. "
                f"For example {example:g}"
            )
        return super().validate(owner, self.kind(value))

    def control(self, owner, view=None) -> dict:
        """Describe the control to the browser."""
        low, high = owner.limits(self.name, view) or (self.low, self.high)
        look = {"label": self.label, "color": self.color, "log": self.log, "span": self.span}
        return {"kind": "slider", "low": low, "high": high, "step": self.step, **look}


class Slider(_Limited, Float):
    """A number from ``low`` to ``high``; with ``log`` every factor of ten is equally long.

    ``step`` is that of an arrow key (in powers of ten with ``log``). With ``span`` the slider is as
    wide as the picture and shows only so much of its range, which grows where it is pushed.
    ``color`` is that of the line which the number belongs to.
    """

    kind = float

    def __init__(self, value, *, low, high, label, step=0.01, log=False, span=None, color="text"):
        super().__init__(value)
        self.low, self.high, self.step, self.span = low, high, step, span
        self.label, self.log, self.color = label, log, color
        self.tag(sync=True)


class Count(_Limited, Int):
    """A whole number from ``low`` to ``high``."""

    log, step, color = False, 1, "text"

    def __init__(self, value, *, low, high, label):
        super().__init__(value)
        self.low, self.high, self.label = low, high, label
        self.tag(sync=True)

    def kind(self, value):
        """Accept NumPy's whole numbers; leave a fraction to be refused."""
        return int(value) if value == int(value) else value


class Choice(Unicode):
    """One of the names that the explorer's ``options(trait)`` lists."""

    def __init__(self, value, *, label, color="text"):
        super().__init__(value)
        self.label, self.color = label, color
        self.tag(sync=True)

    def validate(self, owner, value):
        """Refuse a name that is not among the options."""
        options = owner.options(self.name)
        if value not in options:
            raise TraitError(f"{self.name} must be one of {', '.join(options)}; got {value!r}")
        return value

    def values(self, owner) -> list[str]:
        """List the values that it can take."""
        return owner.options(self.name)

    def control(self, owner, view=None) -> dict:
        """Describe the control to the browser."""
        options = owner.options(self.name, view)
        return {"kind": "choice", "label": self.label, "color": self.color, "options": options}


class Toggle(Bool):
    """A box to tick."""

    def __init__(self, value, *, label):
        super().__init__(value)
        self.label = label
        self.tag(sync=True)

    def values(self, owner) -> list[bool]:
        """List the values that it can take."""
        return [False, True]

    def control(self, owner, view=None) -> dict:
        """Describe the control to the browser."""
        return {"kind": "toggle", "label": self.label, "color": "text"}
