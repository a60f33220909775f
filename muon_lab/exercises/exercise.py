'''Judge an answer by what it does, and reply to each known mistake with what helps there.

An exercise is data. The learner calls ``check``, ``hint`` and ``solution``; none of them raises.

>>> def step(point, gradient, lr):
...     return point - lr * gradient
>>> q1 = Exercise(
...     question="Write one step of gradient descent.",
...     reference=step,  # its source is the solution
...     cases=[(3.0, 2.0, 0.5), (1.0, -4.0, 0.1)],  # the arguments of each trial call
...     hints=["Which way is downhill?", "The gradient points uphill: subtract."],
...     mistakes="""
...         - lr => + lr
...             This walks uphill: the gradient points where the loss grows.
...         lambda point, gradient, lr: point - lr * gradient / abs(gradient)
...             This keeps only the gradient's sign, so every step is lr long.
...     """,
...     because="The step shrinks by itself as the gradient does.",
... )
>>> q1.check(step)
✓ correct: The step shrinks by itself as the gradient does.
>>> q1.check(lambda point, gradient, lr: point + lr * gradient)
✗ not yet: This walks uphill: the gradient points where the loss grows.
>>> q1.check(lambda point, gradient, lr: point)
✗ not yet: wanted 2, got 3.
  for point=3, gradient=2, lr=0.5
>>> q1.check(lambda point, gradient, lr: point - ____)
○ not attempted: Replace each ____ by your answer, then run the cell again.
>>> q1.hint()
? hint 1 of 2: Which way is downhill?

The other kinds differ only in ``observe(answer, *case)``, which says what an answer does:

* predict a number, an order or a choice: ``observe=itself``; the reference is a plain value, never
  shown to a wrong answer; ``tolerance=0.1`` accepts a prediction within 10 %. A choice lists its
  ``choices``, and all but one are mistakes;
* set sliders: ``start`` holds the values the explorer starts with (unchanged, it is not attempted)
  and ``observe(**settings)`` is a function of yours that returns what these values do ("diverges",
  "crawls", "arrives"). The answer is the explorer or a dict; ``explorer`` is its name in the
  notebook, one name for each explorer, so that no check reads the sliders of another;
* choose and explain: ``observe`` runs the choice and returns its result, so that a choice is wrong
  for what it does; find the bug: a choice of a line, or a function to mend.

A known mistake is code and, indented below it, the sentence it earns. ``old => new`` edits the
source of the reference, where ``old`` occurs once; anything else is evaluated (for sliders it is
what ``observe`` returns). A list of ``(answer, sentence)`` and ``(old, new, sentence)`` does as
well. Each needs an answer that behaves unlike the reference and unlike the other mistakes, and a
sentence that is true of whatever else behaves so; ``tests/exercises`` holds all modules to that.
``parts`` names the values of a tuple.
``formula="2 / 400"`` stands in place of ``reference`` where the solution should show the sum.
The starter, a cell with ____ and a last line that calls check, is in the notebook alone.
'''

import copy
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from muon_lab.exercises.answers import Unreadable, read
from muon_lab.exercises.blank import UNTOUCHED, NotAttempted, mentions_blank
from muon_lab.exercises.compare import (
    Failure,
    as_numbers,
    difference,
    in_the_form_of,
    numbered,
    show,
)
from muon_lab.exercises.limits import Stopped, limits
from muon_lab.exercises.mistakes import edited, one_part, read_mistakes
from muon_lab.exercises.predictions import note_solved
from muon_lab.exercises.reply import Reply


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
    mistakes: str | Sequence[tuple]
    because: str
    reference: object = None
    formula: str = ""
    observe: Callable = call
    cases: Sequence[tuple] = ((),)
    parts: Sequence[str] = ()
    choices: Sequence = ()
    start: Mapping[str, float] | None = None
    explorer: str = "explorer"
    tolerance: float = 1e-6
    _hints_given: int = field(default=0, init=False)

    def __post_init__(self):
        if self.formula:
            self.reference = eval(self.formula)
        if isinstance(self.mistakes, str):
            names = getattr(self.reference, "__globals__", {})
            self.mistakes = list(read_mistakes(self.mistakes, None if self.start else names))

    def __repr__(self):
        return self.question

    @property
    def name(self) -> str:
        """The exercise's name in a notebook, such as "e04.q3"."""
        for module in [m for n, m in sys.modules.items() if n.startswith(f"{__package__}.e")]:
            for variable, value in vars(module).items():
                if value is self:
                    return f"{module.__name__[-3:]}.{variable}"
        return "exercise"

    def check(self, answer) -> Reply:
        """Say whether the answer is correct, not yet correct (and why), or not attempted."""
        try:
            if mentions_blank(answer):
                raise NotAttempted(UNTOUCHED)
            with np.errstate(all="ignore"):
                reply = self._judge(read(answer, self.reference, self.start, self.choices))
        except NotAttempted as signal:
            return Reply("not attempted", str(signal))
        except (Unreadable, Stopped) as told:
            return Reply("not yet", str(told))
        except Exception as error:
            return Reply("not yet", f"This answer could not be read ({error}).")
        if reply.status == "correct":
            note_solved(self.name[1:])
        return reply

    def hint(self) -> Reply:
        """Give the next hint; after the last one, the last one again."""
        number = min(self._hints_given + 1, len(self.hints))
        self._hints_given = number
        return Reply("hint", self.hints[number - 1], count=f" {number} of {len(self.hints)}")

    def solution(self) -> Reply:
        """Show a cell that is correct, and why it is."""
        if inspect.isfunction(self.reference):
            before, answer = f"{inspect.getsource(self.reference)}\n\n", self.reference.__name__
        elif self.start:
            moved = {k: v for k, v in self.reference.items() if v != self.start[k]}
            before = "".join(f"{self.explorer}.{k} = {v!r}\n" for k, v in moved.items())
            answer = self.explorer
        else:
            before, answer = "", self.formula or repr(self.reference)
        return Reply("solution", self.because, code=f"{before}{self.name}.check({answer})")

    def mistaken(self, *code):
        """Return a mistake's answer: as given, or the reference with each old text made new."""
        return code[0] if len(code) == 1 else edited(self.reference, *code)

    def _judge(self, answer):
        with limits():
            seen = self._observations(answer)
        wanted = self._observations(self.reference)
        differences = [self._difference(*pair) for pair in zip(wanted, seen, strict=True)]
        if not any(differences):
            return Reply("correct", self.because)
        if sentence := self._known(wanted, seen):
            return Reply("not yet", sentence)
        first = next(i for i, difference in enumerate(differences) if difference)
        said = differences[first] + self._if_constant(seen)
        return Reply("not yet", said, inputs=self._inputs(self.cases[first]))

    def _if_constant(self, seen):
        results = [one[0] for one in seen if self.observe is call and isinstance(one, tuple)]
        shown = set(map(show, results))
        constant = len(results) == len(seen) > len(shown) == 1
        told = constant and not re.search("None|…|<array", *shown)  # these do not show everything
        return " It is the same for all inputs: use the arguments." * bool(told)

    def _known(self, wanted, seen):
        """Return the sentence of the mistake that the whole answer makes, or one part of it."""
        for part in [None, *range(len(self.parts) if self.observe is call else 0)]:
            shown = [one_part(*pair, part) for pair in zip(wanted, seen, strict=True)]
            if any(map(self._difference, wanted, shown)):
                for *mistake, sentence in self.mistakes:
                    observed = self._observations(self.mistaken(*mistake))
                    if not any(map(self._difference, observed, shown)):
                        return sentence
        return ""

    def _observations(self, answer):
        """Try the answer on a fresh copy of each case, so that no trial can spoil the next."""
        return [self._observe(answer, copy.deepcopy(case)) for case in self.cases]

    def _observe(self, answer, case):
        try:
            if self.start is None:
                return self.observe(answer, *case)
            return answer if isinstance(answer, str) else self.observe(**answer)
        except (NotAttempted, Unreadable):
            raise
        except (Exception, SystemExit) as error:  # exit() in an answer must not end the notebook
            return Failure.of(error)

    def _difference(self, wanted, got):
        """Say how two observations differ; of a prediction, without giving it away."""
        if self.observe is call and isinstance(wanted, tuple) and isinstance(got, tuple):
            told = difference(wanted[0], got[0], self.tolerance, self.parts)
            spoiled = difference(wanted[1], got[1], self.tolerance)
            return told or (spoiled and "your function writes into its argument; work on a copy.")
        told = difference(wanted, got, self.tolerance, self.parts)
        return self._without_the_answer(wanted, got) if told and self.observe is itself else told

    def _without_the_answer(self, wanted, got):
        """Say of a wrong prediction which part is wrong and, of a number, in which direction."""
        got = in_the_form_of(wanted, got)
        if isinstance(wanted, Mapping):
            if not isinstance(got, Mapping) or got.keys() != wanted.keys():
                return f"Give a dict with the keys {', '.join(map(repr, wanted))}."
            wrong = [k for k in wanted if difference(wanted[k], got[k], self.tolerance)]
            return f"{wrong[0]}: {self._without_the_answer(wanted[wrong[0]], got[wrong[0]])}"
        if isinstance(wanted, tuple):
            names = self.parts or numbered(wanted)
            by_name = [dict(zip(names, values, strict=True)) for values in (wanted, got)]
            return self._without_the_answer(*by_name)
        numbers, wanted = as_numbers(got), as_numbers(wanted)
        if wanted is None or wanted.dtype == bool:
            given = "" if wanted is None or numbers is not None else "Give True or False; "
            return f"{given}{show(got)} is not right."
        if numbers is None or numbers.shape or not np.isfinite(numbers):
            return f"Give one finite number; this is {show(got)}."
        close = "a little " if abs(numbers - wanted) < 0.05 * abs(wanted) else ""
        return f"{show(got)} is {close}too {'small' if numbers < wanted else 'large'}."

    def _inputs(self, case):
        if self.observe is itself or not case:
            return ""
        names = list(inspect.signature(self.reference).parameters)
        if self.observe is not call:
            names = list(inspect.signature(self.observe).parameters)[1:]
        return f"for {', '.join(f'{n}={show(v)}' for n, v in zip(names, case, strict=False))}"
