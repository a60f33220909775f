"""Say where an optimizer stands among the recorded ones: ``python -m muon_lab.runs.race FOLDER``.

FOLDER holds the runs that ``python -m muon_lab.training.sweep --optimizer FILE.py:NAME`` saved.
They are compared with the course's own of the same model, text and bytes, each optimizer at its
best, and a place counts only where the seeds allow a claim.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from muon_lab.runs.compare import Best, best_of, compare, shared_settings
from muon_lab.runs.record import Run
from muon_lab.runs.tables import ORDER, RECORDED, read, table

FOLDERS = ("cpu", "after", "race")  # of data/runs: the optimizers that everybody races against
BASELINES = f"record some, python -m muon_lab.training.sweep --optimizer {' '.join(ORDER)} ..."


def standing(entry: Sequence[Run], recorded: Sequence[Run]) -> str:
    """Rank an entry's optimizers and the recorded ones by their mean loss over the same seeds.

    Recorded runs count if `compare` may compare them with the entry's; where both have an
    optimizer, the entry's runs count. Raises ValueError for an entry without runs, for runs that
    cannot be compared with each other, and where there is nothing to compare the entry with.
    """
    if not entry:
        raise ValueError("no run to race with")
    own, settings = _by_title(entry), shared_settings(entry[0])
    for run in entry:
        if said := _differences(settings, shared_settings(run)):
            raise ValueError(f"the entry's own runs differ in {said}")
    others = [run for run in recorded if run.optimizer not in own]
    rivals = [run for run in others if shared_settings(run) == settings]
    bests = {name: _best(runs) for name, runs in (own | _by_title(rivals)).items()}
    challengers = [name for name in own if name not in ORDER] or list(own)
    tables = [_against(name, bests) for name in challengers if len(bests) > 1]
    if others and not rivals:
        said = _differences(settings, shared_settings(others[0]))
        tables.append(f"No recorded run may be compared with these: they differ in {said}.")
    if len(bests) == 1:
        raise ValueError("\n".join([*tables, f"No rival has these settings: {BASELINES}"]))
    return "\n\n".join(tables)


def _by_title(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.optimizer, []).append(run)
    return found


def _differences(first: dict, second: dict) -> str:
    pairs = {name: (first[name], second[name]) for name in first if first[name] != second[name]}
    return "; ".join(f"{name} {str(a)[:12]} and {str(b)[:12]}" for name, (a, b) in pairs.items())


def _best(runs: Sequence[Run]) -> Best:
    """Return an optimizer's best; refuse runs of two versions of its file."""
    sources = {run.provenance.get("optimizer_sha256") for run in runs}
    if len(sources) > 1:
        raise ValueError(
            f"the runs of {runs[0].optimizer} were made with {len(sources)} versions of its file: "
            "delete the older ones, or save each version's runs in a folder of their own"
        )
    return best_of(runs, runs[0].optimizer)


def _against(challenger: str, bests: dict[str, Best]) -> str:
    """Tabulate all optimizers, the best first, each with the challenger's verdict against it."""
    seeds = set.intersection(*({run.config["seed"] for run in b.runs} for b in bests.values()))
    runs = {n: [r for r in b.runs if r.config["seed"] in seeds] for n, b in bests.items()}
    losses = {name: [run.final_loss for run in each] for name, each in runs.items()}
    ranked = sorted(bests, key=lambda name: mean(losses[name]))
    rows = [["optimizer", "tries", "lr", "decay", "nats per byte", f"{challenger} against it"]]
    for name in ranked:
        best, spread = bests[name], stdev(losses[name]) if len(seeds) > 1 else 0.0
        told = "-" if name == challenger else _verdict(runs[name], runs[challenger])
        size = [str(len(best.tried)), f"{best.lr:g}", f"{best.decay:g}"]
        rows.append([name, *size, f"{mean(losses[name]):.3f} ± {spread:.3f}", told])
    head = f"seeds {' '.join(map(str, sorted(seeds)))}, {len(ranked)} optimizers, the best first"
    place = f"{challenger}: place {ranked.index(challenger) + 1} of {len(ranked)}"
    return "\n".join([head, table(rows), place, *_doubts(challenger, bests, seeds)])


def _verdict(rival: Sequence[Run], challenger: Sequence[Run]) -> str:
    found = compare(rival, challenger)
    sides = {"the challenger wins": "wins", "the baseline wins": "loses"}
    return f"{found.gap:+.3f}: {sides.get(found.verdict, found.verdict.partition(':')[0])}"


def _doubts(challenger: str, bests: dict[str, Best], seeds: set[int]) -> list[str]:
    """Say what keeps this comparison from being fair."""
    tries = {len(best.tried) for name, best in bests.items() if name != challenger}
    said = []
    if len(bests[challenger].tried) > max(tries, default=0):
        said.append(
            f"it had {len(bests[challenger].tried)} tries, and no rival more than {max(tries)}"
        )
    if len(seeds) < 3:
        said.append(f"only {len(seeds)} seeds in common: three are the course's rule")
    if bests[challenger].at_edge and len(bests[challenger].tried) > 1:
        said.append(
            "its best learning rate is at the edge of its grid: a better one may lie beyond"
        )
    return [f"  but {line}" for line in said]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.runs.race", description="Say where your optimizer stands."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="folders or files of your runs")
    rivals = [RECORDED / name for name in FOLDERS if (RECORDED / name).is_dir()]
    parser.add_argument(
        "--against", nargs="+", type=Path, default=rivals, help="rivals (default: the course's)"
    )
    given = parser.parse_args(arguments)
    (entry, errors), (recorded, _) = read(given.paths), read(given.against)
    try:
        print(standing(entry, recorded))
    except ValueError as error:
        errors.append(str(error))
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
