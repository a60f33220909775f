"""Known mistakes: read them from text, make the answers that they stand for."""

import inspect
import re
from collections.abc import Iterator
from textwrap import dedent

from muon_lab.exercises.compare import Failure


def read_mistakes(text: str, names: dict | None) -> Iterator[tuple]:
    """Yield (answer, sentence) or (old, new, ..., sentence) for each; without names as text."""
    paragraphs = re.findall(r"((?:^\S.*\n)+)((?:^ .*\n?)+)", dedent(text), re.MULTILINE)
    for code, sentence in paragraphs:
        parts = [part.strip() for line in code.splitlines() for part in line.split("=>")]
        if len(parts) == 1 and names is not None:
            parts = [eval(parts[0], names)]
        yield *parts, " ".join(sentence.split())


def edited(reference, *code: str):
    """Return a function whose source has each old text replaced by the new one that follows it.

    >>> def half(x):
    ...     return x / 2
    >>> edited(half, "x / 2", "x * 2")(3)
    6
    """
    source = inspect.getsource(reference)
    for old, new in zip(code[::2], code[1::2], strict=True):
        if source.count(old) != 1:
            raise ValueError(f"{old!r} must occur once in {reference.__name__}")
        source = source.replace(old, new)
    names = dict(reference.__globals__)
    exec(source, names)
    return names[reference.__name__]


def one_part(wanted, seen, part: int | None):
    """Return the observed call as it would be if only this part of its result were wrong."""
    whole = part is None or isinstance(seen, Failure) or not isinstance(seen[0], list | tuple)
    if whole or len(seen[0]) != len(wanted[0]):
        return seen
    return tuple(seen[0][i] if i == part else right for i, right in enumerate(wanted[0])), seen[1]
