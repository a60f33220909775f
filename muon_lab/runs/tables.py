"""Recorded runs side by side: ``python -m muon_lab.runs [FOLDER or FILES]`` lists and compares.

What one run is stands in ``records.py``, and how two optimizers are compared in ``comparison.py``;
both are to be had from here.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev

from muon_lab.runs.compare import Best, Comparison, Reach, best_of, compare, setting
from muon_lab.runs.record import Run, here, load, load_all, processor

__all__ = [
    "Best", "Comparison", "Reach", "Run", "best_of", "compare", "here", "listing", "load",
    "load_all", "processor", "report", "verdicts",
]  # fmt: skip
RECORDED = Path(__file__).parents[2] / "data" / "runs"
ORDER = ("adamw", "muon", "muonclip")  # the first that is there is the baseline
LISTED: dict[str, Callable[[Run], str]] = {
    "optimizer": lambda run: run.config["optimizer"],
    "attention": lambda run: run.config["attention"],
    "lr": lambda run: f"{run.config['lr']:g}",
    "decay": lambda run: f"{run.config['weight_decay']:g}",
    "seed": lambda run: str(run.config["seed"]),
    "steps": lambda run: str(run.config["steps"]),
    "nats": lambda run: f"{run.final_loss:.3f}",
    "bits/byte": lambda run: f"{run.bits_per_byte:.3f}",
    "seconds": lambda run: f"{run.seconds:.1f}",
}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right.

    >>> print(table([["optimizer", "lr"], ["muon", "0.01"]]))
    optimizer    lr
    muon       0.01
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def listing(runs: Sequence[Run]) -> str:
    """List runs, one a line."""
    return table([list(LISTED), *([tell(run) for tell in LISTED.values()] for run in runs)])


def report(runs: Sequence[Run]) -> str:
    """Set the optimizers' bests side by side, every seed's own number shown, and say who wins.

    The runs must share model, schedule and corpus; the baseline is AdamW where it is among them.
    """
    names = [name for name in ORDER if any(run.config["optimizer"] == name for run in runs)]
    if not names:
        raise ValueError(f"no run of {', '.join(ORDER)}")
    bests = {name: best_of(runs, name) for name in names}
    comparisons = {name: compare(bests[names[0]].runs, best.runs) for name, best in bests.items()}
    lines = [summary(bests, comparisons), ""]
    lines += [told for name, best in bests.items() for told in _doubts(name, best)]
    for name in names[1:]:
        lines.append(verdicts(names[0], name, comparisons[name]))
    return "\n".join(lines)


def summary(bests: dict[str, Best], comparisons: dict[str, Comparison]) -> str:
    """Tabulate one optimizer a column: what it reached, what that took, what it holds."""
    baseline = next(iter(bests))
    seeds = " ".join(map(str, next(iter(comparisons.values())).seeds))
    sides = [(best, comparisons[name]) for name, best in bests.items()]
    rows: dict[str, Callable[[Best, Comparison], str]] = {
        "learning rate": lambda best, _: f"{best.lr:g}",
        "weight decay": lambda best, _: f"{best.decay:g}",
        "settings tried": lambda best, _: str(len(best.tried)),
        f"bits a byte, seeds {seeds}": lambda best, _: _each(_of(best, "bits_per_byte"), ".3f"),
        "  mean ± spread": lambda best, _: _spread(_of(best, "bits_per_byte"), ".3f"),
        f"kB to {baseline}'s loss": lambda _, c: _each(c.bytes.challenger, ".0f", 1e-3),
        f"steps to {baseline}'s loss": lambda _, c: _each(c.steps.challenger, ".0f"),
        f"seconds to {baseline}'s loss": lambda _, c: (
            _each(c.seconds.challenger, ".1f") if c.seconds else "other device"
        ),
        "seconds a run": lambda best, _: _each(_of(best, "seconds"), ".1f"),
        "kB a second": lambda best, _: _costs(best, "bytes_per_second", ".1f", 1e-3),
        "optimizer's share of a step, %": lambda best, _: _costs(
            best, "optimizer_share", ".1f", 100
        ),
        "peak memory, MB": lambda best, _: _costs(best, "peak_memory_bytes", ".0f", 1e-6),
        "weights, MB": lambda best, _: _state(best, "weights"),
        "gradients, MB": lambda best, _: _state(best, "gradients"),
        "optimizer's state, MB": lambda best, _: _state(best, "optimizer"),
    }
    cells = [[name, *(tell(*side) for side in sides)] for name, tell in rows.items()]
    return table([["each at its best", *bests], *cells])


def verdicts(baseline: str, challenger: str, result: Comparison) -> str:
    """Put a comparison into words, a claim only where the seeds allow one."""
    errors = f" = {abs(result.gap) / result.error:.1f} standard errors" if result.error else ""
    lines = [
        f"{challenger} against {baseline}: gap {result.gap:+.4f} nats a byte{errors}: "
        f"{_named(result.verdict, baseline, challenger)}",
        f"  to the loss at which {baseline} ended, it takes so many times what {challenger} takes:",
    ]
    for axis in ("bytes", "steps", "seconds"):
        reach: Reach | None = getattr(result, axis)
        if reach is None:
            lines.append(f"  {axis:8} not compared, the devices differ")
            continue
        spread = "" if reach.spread is None else f" ± {reach.spread:.2f}"
        factor = "-" if reach.factor is None else f"{reach.factor:.2f}{spread}"
        lines.append(
            f"  {axis:8} {factor} (each seed {_each(reach.factors, '.2f')}): "
            f"{_named(reach.verdict, baseline, challenger)}"
        )
    return "\n".join(lines)


def _named(verdict: str, baseline: str, challenger: str) -> str:
    return verdict.replace("the baseline", baseline).replace("the challenger", challenger)


def _doubts(name: str, best: Best) -> list[str]:
    """Say where a best cannot be called one."""
    if not best.at_edge or len(best.tried) == 1:
        return []
    rates = sorted({lr for lr, _ in best.tried})
    side = "least" if best.lr == rates[0] else "largest"
    return [
        f"{name}: its best learning rate, {best.lr:g}, is the {side} tried: a better one may lie "
        "beyond. Widen the grid (--factors of muon_lab.training.sweep) before you claim anything."
    ]


def _of(best: Best, name: str) -> list[float]:
    return [getattr(run, name) for run in best.runs]


def _each(values: Sequence[float | None], form: str, scale: float = 1) -> str:
    """Write every seed's number."""
    return " ".join("never" if value is None else f"{value * scale:{form}}" for value in values)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{mean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")


def _costs(best: Best, name: str, form: str, scale: float) -> str:
    values = [run.costs.get(name) for run in best.runs]
    return "not recorded" if None in values else _each(values, form, scale)


def _state(best: Best, kind: str) -> str:
    held = {run.costs.get("state_bytes", {}).get(kind) for run in best.runs}
    return "not recorded" if None in held else " ".join(f"{n / 1e6:.2f}" for n in sorted(held))


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Part runs into those that may be compared with each other."""
    parts: dict[tuple, list[Run]] = {}
    for run in runs:
        parts.setdefault(tuple(setting(run).items()), []).append(run)
    return list(parts.values())


def read(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Load files and whole folders; give the runs and a sentence for each file that is none."""
    runs, errors = [], []
    for path in paths:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            errors.append(f"no run file in {path.name!r}")
        for file in files:
            try:
                runs.append(load(file))
            except ValueError as error:
                errors.append(str(error))
    return runs, errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.runs", description="List recorded runs and compare optimizers."
    )
    parser.add_argument("paths", nargs="*", type=Path, default=[RECORDED], help="folders or files")
    runs, errors = read(parser.parse_args(arguments).paths)
    for part in alike(runs):
        config = part[0].config
        sizes = "{layers} layers of width {width}, {steps} steps, {schedule} schedule"
        print(f"# {config['attention']}, {sizes.format(**config)}\n\n{listing(part)}\n")
        try:
            print(f"{report(part)}\n")
        except ValueError as error:
            print(f"no comparison: {error}\n")
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
