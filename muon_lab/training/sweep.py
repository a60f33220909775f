"""Sweep optimizers fairly: ``python -m muon_lab.training.sweep --preset cpu --save FOLDER``.

Every optimizer gets the same number of tries: the same multiples of its preset's learning rate,
each with the same weight decays, on the first seed. Its best is then run on every seed. Each run is
a process of its own and a file in the folder; one that stands there already is not run again, so
that a sweep may be interrupted and begun anew. Further options go to each run as they are.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

import torch

from muon_lab.runs import Run, best_of, load, load_all, report
from muon_lab.runs.tables import ORDER
from muon_lab.training.config import TrainConfig, parse
from muon_lab.training.data import load_corpus
from muon_lab.training.provenance import file_name

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the preset's learning rate
DECAYS = (0.0, 0.1)
VARIED = ("--lr", "--weight-decay", "--checkpoint", "--resume")  # no options of a whole sweep
Outcome = Run | str  # a run, or why there is none
Runner = Callable[[TrainConfig, Path], Outcome]


def grid(
    common: TrainConfig, factors: Sequence[float] = FACTORS, decays: Sequence[float] = DECAYS
) -> list[TrainConfig]:
    """Vary the learning rate and the decay of one configuration.

    >>> [config.lr for config in grid(TrainConfig(optimizer="muon"), decays=[0.1])]
    [0.0025, 0.005, 0.01, 0.02, 0.04]
    """
    rates = [float(f"{common.lr * factor:.6g}") for factor in factors]
    return [replace(common, lr=lr, weight_decay=decay) for lr in rates for decay in decays]


def sweep(
    grids: Mapping[str, Sequence[TrainConfig]],
    seeds: Sequence[int],
    folder: Path,
    *,
    jobs: int = 1,
    runner: Runner | None = None,
) -> list[Run]:
    """Run each optimizer's grid on the first seed, then its best on every seed; return the runs.

    Raises ValueError where the optimizers would not get the same number of tries.
    """
    tries = {name: len(configs) for name, configs in grids.items()}
    if len(set(tries.values())) != 1:
        raise ValueError(f"every optimizer needs the same number of tries; these have {tries}")
    runner = runner or TrainApart(max(1, torch.get_num_threads() // jobs))
    first = [replace(config, seed=seeds[0]) for configs in grids.values() for config in configs]
    runs = record(first, folder, jobs, runner)
    names = {run.config["optimizer"] for run in runs}
    bests = [best_of(runs, name).runs[0] for name in grids if name in names]
    chosen = [config for config in first if any(_is(config, run) for run in bests)]
    # In turns, so that a machine which slows down for a while slows all of them.
    more = [replace(config, seed=seed) for seed in seeds[1:] for config in chosen]
    return runs + (record(more, folder, jobs, runner) if more else [])


def record(configs: Sequence[TrainConfig], folder: Path, jobs: int, runner: Runner) -> list[Run]:
    """Run what is not in the folder yet, ``jobs`` at a time; give the runs that ended well."""
    there = load_all(folder) if list(folder.glob("*.json")) else []
    texts = {config.corpus: load_corpus(config.corpus).sha256 for config in configs}
    found = [next((r for r in there if _is(c, r, texts[c.corpus])), None) for c in configs]
    missing = [config for config, run in zip(configs, found, strict=True) if not run]
    print(
        f"{len(configs)} runs, {len(configs) - len(missing)} of them recorded already", flush=True
    )
    outcomes = _run(missing, folder, jobs, runner)
    return [one for one in (*found, *outcomes) if isinstance(one, Run)]


def _run(
    configs: Sequence[TrainConfig], folder: Path, jobs: int, runner: Runner
) -> Iterator[Outcome]:
    """Yield outcomes as they come, each with a line; after an interrupt begin no more."""
    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(runner, c, folder / file_name(c)): c for c in configs}
        try:
            for count, done in enumerate(as_completed(waiting), start=1):
                outcome, rest = done.result(), len(configs) - count
                told = outcome if isinstance(outcome, str) else f"{outcome.final_loss:.4f} nats"
                minutes = (time.perf_counter() - began) / count * rest / 60
                print(f"{file_name(waiting[done])}: {told}", flush=True)
                print(f"  {rest} to go, about {minutes:.0f} minutes", flush=True)
                yield outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class TrainApart:
    """Train in a process of its own, so that its peak memory is its own, on so many threads."""

    def __init__(self, threads: int) -> None:
        """Take the number of threads of each process."""
        self.threads = str(threads)

    def __call__(self, config: TrainConfig, path: Path) -> Outcome:
        """Give the run that was saved to ``path``, or the last line of what went wrong."""
        words = [sys.executable, *shlex.split(config.command())[1:], "--save", str(path)]
        words += ["--corpus", config.corpus] if config.corpus else []
        threads = {"OMP_NUM_THREADS": self.threads, "MKL_NUM_THREADS": self.threads}
        done = subprocess.run(words, env=os.environ | threads, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it was stopped"])[-1].strip()
        return load(path)


def _is(config: TrainConfig, run: Run, text: str | None = None) -> bool:
    """Tell whether a recorded run is of this configuration and, where it is named, this text."""
    free = {name: run.config.get(name) for name in ("corpus", "accumulate")}  # as memory allowed
    wanted = asdict(config) | free
    same_text = text in (None, run.provenance["corpus"]["sha256"])
    return same_text and all(run.config.get(name) == value for name, value in wanted.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.training.sweep",
        description="Sweep optimizers fairly and record every run. Further options are those of "
        "python -m muon_lab.training, for every run.",
        allow_abbrev=False,
    )
    parser.add_argument("--optimizer", nargs="+", choices=ORDER, default=list(ORDER[:2]))
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS,
                        help="learning rates to try, as multiples of the preset's")  # fmt: skip
    parser.add_argument("--decay", nargs="+", type=float, default=DECAYS, help="decays to try")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2],
                        help="the first for the sweep, all for the best of each")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="processes at once; they share cores")
    parser.add_argument("--save", type=Path, required=True, help="folder of the run files")
    return parser


def _once(values: Sequence) -> list:
    """Leave out what was named before: a run tried twice would be no second try."""
    return list(dict.fromkeys(values))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    varied = [word for word in rest if word.split("=")[0] in VARIED]
    if varied or given.jobs < 1:
        parser.error(f"{' '.join(varied)}: a sweep varies these itself, by --factors and --decay"
                     if varied else f"--jobs must be 1 or more; got {given.jobs}")  # fmt: skip
    factors, decays, seeds = map(_once, (given.factors, given.decay, given.seed))
    grids = {}
    for name in given.optimizer:
        (common,), _ = parse([*rest, "--optimizer", name])
        try:
            grids[name] = grid(common, factors, decays)
        except ValueError as error:
            parser.error(str(error))
    try:
        runs = sweep(grids, seeds, given.save, jobs=given.jobs)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is missing", file=sys.stderr)
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{report(runs)}" if runs else "no run came to its end")
    return 0 if runs else 1


if __name__ == "__main__":
    sys.exit(main())
