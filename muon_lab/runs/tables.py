"""Tables of recorded runs, as ``python -m muon_lab.runs [FOLDER or FILES]`` prints them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median, stdev

from muon_lab.runs.compare import Best, Comparison, Reach, best_of, compare, shared_settings
from muon_lab.runs.record import Run, load

RECORDED = Path(__file__).parents[2] / "data" / "runs"
ORDER = ("adamw", "muon", "muonclip")  # the first one present is the baseline
SLOW = 1.4  # times the median seconds; undisturbed runs of one model stay well below
COLUMNS: dict[str, Callable[[Run], str]] = {
    "optimizer": lambda run: run.optimizer,
    "attention": lambda run: run.config["attention"],
    "lr": lambda run: f"{run.config['lr']:g}",
    "decay": lambda run: f"{run.config['weight_decay']:g}",
    "seed": lambda run: str(run.config["seed"]),
    "steps": lambda run: str(run.config["steps"]),
    "nats": lambda run: f"{run.final_loss:.3f}",
    "bits/byte": lambda run: f"{run.bits_per_byte:.3f}",
    "seconds": lambda run: f"{run.seconds:.1f}",
    "started (UTC)": lambda run: f"{run.started:%Y-%m-%d %H:%M}",
}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right.

    >>> print(table([["optimizer", "lr"], ["muon", "0.01"]]))
    optimizer    lr
    muon       0.01
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def listing(runs: Sequence[Run]) -> str:
    """List runs, one per line."""
    return table([list(COLUMNS), *([show(run) for show in COLUMNS.values()] for run in runs)])


def timing(runs: Sequence[Run]) -> str:
    """Name the machines of runs of one model, and say which runs were slowed there.

    >>> timing([])
    ''
    """
    lines = []
    for machine in sorted({run.provenance["device"] for run in runs}):
        there = [run for run in runs if run.provenance["device"] == machine]
        at_once = max(sum(_trains_when_starts(run, other) for run in there) for other in there)
        lines.append(f"runs on {machine}: {len(there)}, at most {at_once} at the same time")
        usual = median(run.seconds for run in there)
        slow = [run for run in there if run.seconds > SLOW * usual]
        if slow:
            starts = ", ".join(sorted({f"{run.started:%H:%M}" for run in slow}))
            lines += [
                f"  The {len(slow)} that started at {starts} took over {SLOW} times the median, "
                f"{usual:.1f} s:",
                "  other work slowed the machine. Their losses are valid; to compare seconds, "
                "record them again.",
            ]
    return "\n".join(lines)


def _trains_when_starts(run: Run, other: Run) -> bool:
    return 0 <= (other.started - run.started).total_seconds() < run.seconds


def report(runs: Sequence[Run]) -> str:
    """Tabulate each optimizer at its best, with every seed's numbers, and say which one wins.

    The baseline is AdamW if it is among them. Raises ValueError for runs that `compare` refuses.
    """
    found = dict.fromkeys(run.optimizer for run in runs)
    names = sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    if not names:
        raise ValueError("there are no runs to compare")
    bests = {name: best_of(runs, name) for name in names}
    comparisons = {name: compare(bests[names[0]].runs, best.runs) for name, best in bests.items()}
    doubtful = [name for name in names if bests[name].at_edge and len(bests[name].tried) > 1]
    lines = [summary(bests, comparisons), ""]
    lines += [_edge_warning(name, bests[name]) for name in doubtful]
    lines += [verdicts(names[0], name, comparisons[name]) for name in names[1:]]
    return "\n".join(lines).rstrip()


def summary(bests: dict[str, Best], comparisons: dict[str, Comparison]) -> str:
    """Tabulate one optimizer per column: what it reached, what that took, how much memory."""
    baseline = next(iter(bests))
    columns = [_column(best, comparisons[name], baseline) for name, best in bests.items()]
    rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
    rows = [row for row in rows if set(row[1:]) != {"unknown"}]  # such as a CPU's peak
    return table([["each at its best", *bests], *rows])


def _column(best: Best, result: Comparison, baseline: str) -> dict[str, str]:
    bits = [run.bits_per_byte for run in best.runs]
    spread = f" ± {stdev(bits):.3f}" if len(bits) > 1 else ""

    def costs(name: str, form: str, scale: float) -> str:
        return _numbers([run.costs[name] for run in best.runs], form, scale)

    def memory(kind: str) -> str:
        return _numbers(sorted({run.costs["state_bytes"][kind] for run in best.runs}), ".2f", 1e-6)

    return {
        "learning rate": f"{best.lr:g}",
        "weight decay": f"{best.decay:g}",
        "settings tried": str(len(best.tried)),
        f"bits per byte, seeds {' '.join(map(str, result.seeds))}": _numbers(bits, ".3f"),
        "  mean ± spread": f"{mean(bits):.3f}{spread}",
        f"kB to {baseline}'s loss": _numbers(result.bytes.challenger, ".0f", 1e-3),
        f"steps to {baseline}'s loss": _numbers(result.steps.challenger, ".0f"),
        f"seconds to {baseline}'s loss": _numbers(result.seconds.challenger, ".1f")
        if result.seconds
        else "other machine",
        "seconds per run": _numbers([run.seconds for run in best.runs], ".1f"),
        "kB per second": costs("bytes_per_second", ".1f", 1e-3),
        "optimizer's share of a step, %": costs("optimizer_share", ".1f", 100),
        "use of the chip's peak, %": _chip_use(best),
        "peak memory, MB": costs("peak_memory_bytes", ".0f", 1e-6),
        "weights, MB": memory("weights"),
        "gradients, MB": memory("gradients"),
        "optimizer's state, MB": memory("optimizer"),
    }


def _chip_use(best: Best) -> str:
    used = [run.costs["model_flops_utilisation"] for run in best.runs]
    known = any(share is not None for share in used)
    told = ("unknown" if share is None else f"{100 * share:.1f}" for share in used)
    return " ".join(told) if known else "unknown"


def _numbers(values: Sequence[float | None], form: str, scale: float = 1) -> str:
    return " ".join("never" if value is None else f"{value * scale:{form}}" for value in values)


def _edge_warning(name: str, best: Best) -> str:
    side = "smallest" if best.lr == min(lr for lr, _ in best.tried) else "largest"
    return (
        f"{name}: its best learning rate, {best.lr:g}, is the {side} tried; a better one may lie "
        "beyond. Widen the grid (--factors of muon_lab.training.sweep) before you claim anything."
    )


def verdicts(baseline: str, challenger: str, result: Comparison) -> str:
    """Put a comparison into words, with a claim only where the seeds allow one."""
    errors = f" = {abs(result.gap) / result.error:.1f} standard errors" if result.error else ""
    lines = [
        f"the challenger against the baseline: gap {result.gap:+.4f} nats per byte{errors}: "
        f"{result.verdict}",
        "  the baseline's cost of its final loss, divided by the challenger's cost of the same:",
    ]
    for axis in ("bytes", "steps", "seconds"):
        reach: Reach | None = getattr(result, axis)
        if reach is None:
            lines.append(f"  {axis:8} not compared, the machines differ")
            continue
        spread = "" if reach.spread is None else f" ± {reach.spread:.2f}"
        factor = "-" if reach.factor is None else f"{reach.factor:.2f}{spread}"
        seeds = _numbers(reach.factors, ".2f")
        lines.append(f"  {axis:8} {factor} (per seed {seeds}): {reach.verdict}")
    text = "\n".join(lines)
    return text.replace("the baseline", baseline).replace("the challenger", challenger)


def group_comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """Group the runs that may be compared with each other."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(shared_settings(run).values()), []).append(run)
    return list(groups.values())


def read(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Load files and whole folders; return the runs, and an error for each file that is no run."""
    runs, errors = [], []
    for path in paths:
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        if not files:
            errors.append(f"no run file in {path}")
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
    for group in group_comparable(runs):
        sizes = "{attention}, {layers} layers of width {width}, {steps} steps, {schedule} schedule"
        print(f"# {sizes.format(**group[0].config)}\n\n{listing(group)}\n\n{timing(group)}\n")
        try:
            print(f"{report(group)}\n")
        except ValueError as error:
            print(f"no comparison: {error}\n")
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0
