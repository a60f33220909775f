"""Judge an answer by what it does, and say to each known mistake what it needs to hear.

An exercise is data. The learner calls ``check``, ``hint`` and ``solution``; none of them raises.

>>> def step(point, gradient, lr):
...     return point - lr * gradient
>>> def climb(point, gradient, lr):
...     return point + lr * gradient
>>> def normalised(point, gradient, lr):
...     return point - lr * gradient / abs(gradient)
>>> q1 = Exercise(
...     question="Write one step of gradient descent.",
...     reference=step,  # its source is the solution
...     cases=[(3.0, 2.0, 0.5), (1.0, -4.0, 0.1)],  # the arguments of each trial call
...     hints=["Which way is downhill?", "The gradient points uphill: subtract."],
...     mistakes=[
...         ("- lr", "+ lr", "This walks uphill: the gradient points where the loss grows."),
...         (normalised, "This keeps only the gradient's sign, so every step is lr long."),
...     ],
...     because="The step shrinks by itself as the gradient does.",
... )
>>> q1.check(step)
✓ correct: The step shrinks by itself as the gradient does.
>>> q1.check(climb)
✗ not yet: This walks uphill: the gradient points where the loss grows.
>>> q1.check(lambda point, gradient, lr: point)
✗ not yet: For point=3, gradient=2, lr=0.5: wanted 2, got 3.
>>> q1.check(lambda point, gradient, lr: point - ____)
○ not attempted: Replace each ____ by your answer, then run the cell again.
>>> q1.hint()
? hint 1 of 2: Which way is downhill?

The other kinds differ only in ``observe(answer, *case)``, which says what an answer does:

* predict a number, an order or a choice: ``observe=itself``; the reference is a plain value, never
  shown to a wrong answer; ``tolerance=0.1`` accepts a prediction within 10 %;
* set sliders: ``start`` holds the values the explorer starts with (left alone, it is not attempted)
  and ``observe(**settings)`` is a function of yours that returns what these values do ("diverges",
  "crawls", "arrives"). The answer is the explorer (called ``explorer`` in the starter) or a dict;
* choose and explain: ``observe`` runs the choice and returns its result, so that a choice is wrong
  for what it does; find the bug: a choice of a line, or a function to mend.

A mistake is ``(answer, sentence)``, or ``(old, new, sentence)`` where the answer is the reference's
source with ``old``, which must occur once, replaced by ``new``. Each needs an answer that behaves
unlike the reference and unlike the other mistakes; ``tests/exercises`` holds all modules to that.
``formula="2 / 400"`` stands in place of ``reference`` where the solution should show the sum.
The starter, a cell with ____ and a last line that calls check, is in the notebook alone.
"""

import copy
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from muon_lab.exercises.blank import UNTOUCHED, NotAttempted, mentions_blank
from muon_lab.exercises.compare import Failure, as_numbers, difference, show, where

MARKS = {"correct": "✓", "not yet": "✗", "not attempted": "○", "hint": "?", "solution": "="}
EDGES = {"correct": "#009e73", "not yet": "#d55e00", "hint": "#0072b2"}


@dataclass(frozen=True, repr=False)
class Reply:
    """What the learner sees: a mark, a word and a sentence, as text and as HTML."""

    status: str
    text: str
    code: str = ""
    count: str = ""

    def __repr__(self):
        head = f"{MARKS[self.status]} {self.status}{self.count}: {self.text}"
        return f"{head}\n\n{self.code}" if self.code else head

    def _repr_html_(self):
        # The page's own text colour, so that it reads in a light and in a dark theme.
        edge = EDGES.get(self.status, "#888888")
        style = f"border-left: 5px solid {edge}; padding: 0.3em 0.8em; white-space: pre-wrap"
        head = f"<b>{MARKS[self.status]} {self.status}{self.count}</b>&ensp;{escape(self.text)}"
        code = f"<pre style='margin: 0.6em 0 0'>{escape(self.code)}</pre>" if self.code else ""
        return f'<div style="{style}">{head}{code}</div>'


def call(answer, *case):
    """Call the answer; observe what it returns and what it left of its array arguments."""
    result = answer(*case)
    return result, [argument for argument in case if hasattr(argument, "shape")]


def itself(answer):
    """Observe nothing but the answer: for predictions."""
    return answer


@dataclass(repr=False)
class Exercise:
    """One question with all that is needed to judge an answer to it; see the module's text."""

    question: str
    hints: Sequence[str]
    mistakes: Sequence[tuple]
    because: str
    reference: object = None
    formula: str = ""
    observe: Callable = call
    cases: Sequence[tuple] = ((),)
    start: Mapping[str, float] | None = None
    tolerance: float = 1e-6
    _hints_given: int = field(default=0, init=False)

    def __post_init__(self):
        if self.formula:
            self.reference = eval(self.formula)

    @property
    def name(self) -> str:
        """The exercise's name in a notebook, such as "e04.q3"."""
        for module, names in [
            (n, vars(m)) for n, m in list(sys.modules.items()) if n[-4:-2] == ".e"
        ]:
            for variable, value in list(names.items()):
                if value is self:
                    return f"{module[-3:]}.{variable}"
        return "exercise"

    def __repr__(self):
        return self.question

    def check(self, answer) -> Reply:
        """Say whether the answer is correct, not yet correct (and why), or not attempted."""
        try:
            if mentions_blank(answer):
                raise NotAttempted(UNTOUCHED)
            with np.errstate(all="ignore"):
                return self._judge(answer)
        except NotAttempted as signal:
            return Reply("not attempted", str(signal))
        except Exception as error:
            return Reply("not yet", f"This answer could not be read ({error}).")

    def hint(self) -> Reply:
        """Give the next hint; after the last one, the last one again."""
        number = min(self._hints_given + 1, len(self.hints))
        self._hints_given = number
        return Reply("hint", self.hints[number - 1], count=f" {number} of {len(self.hints)}")

    def solution(self) -> Reply:
        """Show an answer that is correct, and why it is."""
        if inspect.isfunction(self.reference):
            before, answer = f"{inspect.getsource(self.reference)}\n\n", self.reference.__name__
        elif self.start:
            moved = {k: v for k, v in self.reference.items() if v != self.start[k]}
            before = "".join(f"explorer.{k} = {v!r}\n" for k, v in moved.items())
            answer = "explorer"
        else:
            before, answer = "", self.formula or repr(self.reference)
        return Reply("solution", self.because, f"{before}{self.name}.check({answer})")

    def mistaken(self, *mistake):
        """Return a mistake's answer: given, or the reference with ``old`` replaced by ``new``."""
        if len(mistake) == 1:
            return mistake[0]
        old, new = mistake
        source = inspect.getsource(self.reference)
        if source.count(old) != 1:
            raise ValueError(f"{old!r} must occur once in {self.name}'s reference")
        names = dict(self.reference.__globals__)
        exec(source.replace(old, new), names)
        return names[self.reference.__name__]

    def _judge(self, answer):
        seen, wanted = self._observations(answer), self._observations(self.reference)
        differences = [self._difference(*pair) for pair in zip(wanted, seen, strict=True)]
        if not any(differences):
            return Reply("correct", self.because)
        for *mistake, sentence in self.mistakes:
            pairs = zip(self._observations(self.mistaken(*mistake)), seen, strict=True)
            if not any(self._difference(*pair) for pair in pairs):
                return Reply("not yet", sentence)
        first = next(i for i, difference in enumerate(differences) if difference)
        return Reply("not yet", self._inputs(self.cases[first]) + differences[first])

    def _observations(self, answer):
        """Try the answer on a fresh copy of each case, so that no trial can spoil the next."""
        return [self._observe(answer, copy.deepcopy(case)) for case in self.cases]

    def _observe(self, answer, case):
        try:
            if self.start is None:
                return self.observe(answer, *case)
            settings = read_settings(answer, self.start)
            if settings == dict(self.start):
                raise NotAttempted("The sliders still stand where they began: move them.")
            return self.observe(**settings)
        except NotAttempted:
            raise
        except (Exception, SystemExit) as error:  # exit() in an answer must not end the notebook
            return Failure(f"{type(error).__name__}: {error}", where(error))

    def _difference(self, wanted, got):
        """Say how two observations differ; of a prediction, without giving it away."""
        if self.observe is call and isinstance(wanted, tuple) and isinstance(got, tuple):
            told = difference(wanted[0], got[0], self.tolerance)
            spoiled = difference(wanted[1], got[1], self.tolerance)
            return told or (spoiled and "your function writes into its argument; work on a copy.")
        told = difference(wanted, got, self.tolerance)
        if not told or self.observe is not itself:
            return told
        numbers, wanted = as_numbers(got), as_numbers(wanted)
        one = wanted is not None and numbers is not None and wanted.shape == numbers.shape == ()
        if one and np.isfinite(numbers):
            return f"{show(got)} is too {'small' if numbers < wanted else 'large'}."
        return f"{show(got)} is not it; hint() helps."

    def _inputs(self, case):
        if self.observe is not call:
            return ""
        names = inspect.signature(self.reference).parameters
        return f"For {', '.join(f'{n}={show(v)}' for n, v in zip(names, case, strict=False))}: "


def read_settings(answer, start):
    """Read the settings that ``start`` names from a dict or from an explorer's traits."""
    if isinstance(answer, Mapping):
        return {name: answer[name] for name in start}
    return {name: getattr(answer, name) for name in start}
