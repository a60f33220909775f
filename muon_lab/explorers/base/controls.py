"""Traits that a reader can move: each holds its value, its limits and how its control looks."""

import math
from numbers import Real

from traitlets import Bool, Float, Int, TraitError, Unicode


class _Limited:
    """What a slider of any kind shares: limits that its errors name, and its control's looks."""

    def limits(self, owner) -> tuple[float, float]:
        """Return the lowest and highest value; an explorer's ``limits(trait)`` goes before."""
        return owner.limits(self.name) or (self.low, self.high)

    def validate(self, owner, value):
        """Refuse what is not a finite number within the limits."""
        low, high = self.limits(owner)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high):
            raise TraitError(
                f"{self.name} must be a number from {low:g} to {high:g}; "
                f"got {value!r}. For example {(low if self.log else (low + high) // 2):g}"
            )
        return super().validate(owner, self.kind(value))

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        low, high = self.limits(owner)
        scale = "log" if self.log else "linear"
        looks = {"label": self.label, "ink": self.ink, "scale": scale}
        limits = {"low": low, "high": high, "step": self.step}
        return {"kind": "slider", "trait": self.name, **looks, **limits}


class Slider(_Limited, Float):
    """A number from ``low`` to ``high``; ``log`` gives each factor of ten the same way to go.

    ``ink`` colours the label, as the line that the number belongs to.
    """

    kind = float

    def __init__(self, value, *, low, high, step, label, log=False, ink="text"):
        super().__init__(value)
        self.low, self.high, self.step = low, high, step
        self.label, self.log, self.ink = label, log, ink
        self.tag(sync=True)


class Count(_Limited, Int):
    """A whole number from ``low`` to ``high``."""

    log, step, ink = False, 1, "text"

    def __init__(self, value, *, low, high, label):
        super().__init__(value)
        self.low, self.high, self.label = low, high, label
        self.tag(sync=True)

    def kind(self, value):
        """Take NumPy's whole numbers for Python's; leave a fraction to be refused."""
        return int(value) if value == int(value) else value


class Choice(Unicode):
    """One of the names that the explorer's ``options(trait)`` lists."""

    def __init__(self, value, *, label, ink="text"):
        super().__init__(value)
        self.label, self.ink = label, ink
        self.tag(sync=True)

    def validate(self, owner, value):
        """Refuse a name that is not among the options."""
        options = owner.options(self.name)
        if value not in options:
            raise TraitError(f"{self.name} must be one of {', '.join(options)}; got {value!r}")
        return value

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        looks = {"label": self.label, "ink": self.ink}
        return {"kind": "choice", "trait": self.name, **looks, "options": owner.options(self.name)}


class Toggle(Bool):
    """A box to tick."""

    def __init__(self, value, *, label):
        super().__init__(value)
        self.label = label
        self.tag(sync=True)

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        return {"kind": "toggle", "trait": self.name, "label": self.label, "ink": "text"}
