"""Names and sentences: how marks and readouts refer to the numbers that an explorer computes.

canvas.js has the same functions, `lookup` and `say` among them, and the same rules.
"""

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real

Template = str | dict | Sequence
FIELD = re.compile(r"\{([\w.]+)(?::([^}]*))?\}")


def either(name: str, **variants: Template) -> dict:
    """Make a template that depends on the number called ``name``.

    The variant is chosen by `kind_of` the number; ``other`` serves the kinds that are not listed.
    """
    return {"by": name, "variants": variants}


def within(group: str, template: Template) -> dict:
    """Make a template whose names are those of a group of numbers; empty where there is none."""
    return {"within": group, "template": template}


def opened(numbers: Mapping, group: str | None) -> Mapping | None:
    """Return the numbers with those of a group on top; None where there is no such group."""
    if group is None:
        return numbers
    found = lookup(numbers, group)
    return None if found is None else {**numbers, **found}


def lookup(numbers: Mapping, reference):
    """Return what a name refers to, or None; a dot goes into a dict, an array or a list.

    A list is looked up entry by entry; a number stands for itself.

    >>> lookup({"lane": {"losses": [3.0, 1.0]}}, ["lane.losses.1", 5, "no.such"])
    [1.0, 5, None]
    """
    if isinstance(reference, list | tuple):
        return [lookup(numbers, each) for each in reference]
    if not isinstance(reference, str):
        return reference
    found = numbers
    for part in reference.split("."):
        if found is None:
            return None
        found = found.get(part) if isinstance(found, Mapping) else found[int(part)]
    return found


def kind_of(value) -> str:
    """Return the name of the variant for a value: a text is its own.

    >>> [kind_of(value) for value in (None, True, 1, 2.5, math.inf, "muon")]
    ['none', 'yes', 'one', 'other', 'endless', 'muon']
    """
    if value is None or isinstance(value, str):
        return value or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not math.isfinite(value):
        return "endless"
    return {0: "zero", 1: "one"}.get(value, "other")


def say(template: Template, numbers: Mapping) -> str:
    """Fill in a template: a text with {name:format} fields, `either`, `within`, or a list of them.

    >>> steps = either("steps", one="1 step", other="{steps} steps")
    >>> say(["After ", steps, ": {loss:.3g}"], {"steps": 5, "loss": -0.00012345})
    'After 5 steps: −0.000123'
    """
    if isinstance(template, str):
        return FIELD.sub(lambda field: _show(lookup(numbers, field[1]), field[2] or ""), template)
    if isinstance(template, Mapping) and "within" in template:
        inside = opened(numbers, template["within"])
        return "" if inside is None else say(template["template"], inside)
    if isinstance(template, Mapping):
        variants = template["variants"]
        kind = kind_of(lookup(numbers, template["by"]))
        return say(variants.get(kind, variants.get("other", "")), numbers)
    return "".join(say(part, numbers) for part in template)


def _show(value, spec: str) -> str:
    if not isinstance(value, Real):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return format(value + 0, spec).replace("-", "−")  # + 0 makes 0 of -0
