"""Show which notebooks are done, how many exercises are solved, and where to go on."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muon_lab.exercises.predictions import progress

COURSE = Path(__file__).parents[2] / "notebooks"


@dataclass(frozen=True, repr=False)
class Overview:
    """The course as a table: (stem, question, its exercises' names) per notebook, and the solved.

    >>> rows = [("00_start_here", "Does it run?", ["00.q1"]), ("01_descent", "Why?", ["01.q1"])]
    >>> Overview(rows, {"00.q1"})
    00 Does it run?  1 of 1 ✓
    01 Why?          0 of 1
    Next: exercise 1 of 01_descent
    """

    rows: Sequence[tuple[str, str, Sequence[str]]]
    solved: set[str]

    def _lines(self, form: str) -> list[str]:
        counts = [(len(self.solved & set(names)), len(names)) for *_, names in self.rows]
        said = [f"{solved} of {count}{' ✓' * (solved == count)}" for solved, count in counts]
        titles = [f"{stem[:2]} {question}" for stem, question, _ in self.rows]
        width = max(map(len, titles), default=0)
        return [
            form.format(stem=stem, title=title, width=width, solved=solved)
            for (stem, *_), title, solved in zip(self.rows, titles, said, strict=True)
        ]

    def next(self) -> str:
        """Name the first unsolved exercise after the last solved one, or the first of all."""
        every = [(stem, name) for stem, _, names in self.rows for name in names]
        last = max((i for i, (_, name) in enumerate(every) if name in self.solved), default=-1)
        for stem, name in every[last + 1 :] + every:
            if name not in self.solved:
                return f"Next: exercise {name.split('.q')[1]} of {stem}"
        return "All exercises are solved."

    def __repr__(self) -> str:
        return "\n".join([*self._lines("{title:{width}}  {solved}"), self.next()])

    def _repr_markdown_(self) -> str:
        rows = self._lines("| [{title}]({stem}.ipynb) | {solved} |")
        link = re.sub(r"(\d\d_\w+)", r"[\1](\1.ipynb)", self.next())
        return "\n".join(["| notebook | solved |", "|---|---|", *rows, "", link])


def overview(course: Path = COURSE) -> Overview:
    """Read the course's notebooks and the learner's progress."""
    rows = []
    for path in sorted(course.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        names = re.findall(r"^e(\d\d\.q\d+)\.check\(", text, re.M)
        rows.append((path.stem, re.sub(r"^# (\d\d · )?", "", text.splitlines()[0]), names))
    return Overview(rows, set(progress()))
