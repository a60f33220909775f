"""Traits that a reader can move: each holds its value, its limits and how its control looks."""

import math

from traitlets import Bool, Float, Int, TraitError, Unicode


class _Limited:
    """What a slider of any kind shares: limits that its errors name, and its control's looks."""

    def validate(self, owner, value):
        """Refuse what is not a finite number within the limits."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and self.low <= value <= self.high):
            raise TraitError(
                f"{self.name} must be a number from {self.low:g} to {self.high:g}; "
                f"got {value!r}. For example {self.default_value:g}"
            )
        return super().validate(owner, value)

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        scale = "log" if self.log else "linear"
        limits = {"low": self.low, "high": self.high, "step": self.step, "scale": scale}
        return {"kind": "slider", "trait": self.name, "label": self.label, **limits}


class Slider(_Limited, Float):
    """A number from ``low`` to ``high``; ``log`` gives each factor of ten the same way to go."""

    def __init__(self, value, *, low, high, step, label, log=False):
        super().__init__(value)
        self.low, self.high, self.step, self.label, self.log = low, high, step, label, log
        self.tag(sync=True)


class Count(_Limited, Int):
    """A whole number from ``low`` to ``high``."""

    log, step = False, 1

    def __init__(self, value, *, low, high, label):
        super().__init__(value)
        self.low, self.high, self.label = low, high, label
        self.tag(sync=True)


class Choice(Unicode):
    """One of the names that the explorer's ``options(trait)`` lists."""

    def __init__(self, value, *, label):
        super().__init__(value)
        self.label = label
        self.tag(sync=True)

    def validate(self, owner, value):
        """Refuse a name that is not among the options."""
        options = owner.options(self.name)
        if value not in options:
            raise TraitError(f"{self.name} must be one of {', '.join(options)}; got {value!r}")
        return value

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        options = owner.options(self.name)
        return {"kind": "choice", "trait": self.name, "label": self.label, "options": options}


class Toggle(Bool):
    """A box to tick."""

    def __init__(self, value, *, label):
        super().__init__(value)
        self.label = label
        self.tag(sync=True)

    def control(self, owner) -> dict:
        """Describe the control to the browser."""
        return {"kind": "toggle", "trait": self.name, "label": self.label}
