"""What a learner sees: a mark, a word and a sentence, as text and as HTML."""

import re
from dataclasses import dataclass
from html import escape

MARKS = {
    "correct": "✓",
    "not yet": "✗",
    "not attempted": "○",
    "hint": "?",
    "solution": "=",
    "no prediction yet": "○",
    "noted": "→",
    "outcome": "→",
}
EDGES = {"correct": "#009e73", "not yet": "#d55e00", "hint": "#0072b2"}


@dataclass(frozen=True, repr=False)
class Reply:
    """A reply: its status, a sentence, and where needed the inputs it is about, code, a count."""

    status: str
    text: str
    inputs: str = ""
    code: str = ""
    count: str = ""

    def __repr__(self):
        head = f"{MARKS[self.status]} {self.status}{self.count}: {self.text}"
        return (
            head
            + (f"\n  {self.inputs}" * bool(self.inputs))
            + (f"\n\n{self.code}" * bool(self.code))
        )

    def _repr_html_(self):
        # The page's own text colour, so that it reads in a light and in a dark theme.
        edge = EDGES.get(self.status, "#888888")
        style = f"border-left: 5px solid {edge}; padding: 0.3em 0.8em; white-space: pre-wrap"
        head = f"<b>{MARKS[self.status]} {self.status}{self.count}</b>&ensp;{marked(self.text)}"
        inputs = f"<br><small>{escape(self.inputs)}</small>" if self.inputs else ""
        code = f"<pre style='margin: 0.6em 0 0'>{escape(self.code)}</pre>" if self.code else ""
        return f'<div style="{style}">{head}{inputs}{code}</div>'


def marked(text: str) -> str:
    """Turn `code` and *stress* into HTML, and escape everything else."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:  # a lone backtick is only a backtick
        return escape(text)
    for i, piece in enumerate(pieces):
        stressed = re.sub(r"(?<![\w*)\]])\*(\w[^*]*\w|\w)\*(?![\w*])", r"<em>\1</em>", piece)
        pieces[i] = f"<code>{piece}</code>" if i % 2 else stressed
    return "".join(pieces)
