"""Sweep optimizers fairly: ``python -m muon_lab.training.sweep --preset cpu --save FOLDER``.

Every optimizer gets the same number of tries: the same multiples of its preset's learning rate,
each with the same weight decays, on the first seed. Its best is then run on every seed. Each run is
a process of its own and a file in the folder. Runs whose files exist are not repeated, so that an
interrupted sweep can be continued. All other options are passed on to each run.
"""

import argparse
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from muon_lab.runs import Run, best_of, load, load_all, report
from muon_lab.runs.tables import ORDER
from muon_lab.training.config import TrainConfig, parse
from muon_lab.training.data import load_corpus
from muon_lab.training.loop import train
from muon_lab.training.optimizers import source_sha256
from muon_lab.training.provenance import file_name

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # multiples of the preset's learning rate
DECAYS = (0.0, 0.1)
NO_SWEEP_OPTIONS = ("--lr", "--weight-decay", "--checkpoint", "--resume")
RUN_PROCESS = "from muon_lab.training.sweep import train_from_stdin; train_from_stdin()"


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
    corpus: str | Path | None = None,
    jobs: int = 1,
) -> list[Run]:
    """Run each optimizer's grid on the first seed, then its best on every seed; return the runs.

    ``corpus`` is the path of their text, and ``jobs`` processes run at once. Raises ValueError if
    the optimizers would not get the same number of tries.
    """
    tries = {name: len(configs) for name, configs in grids.items()}
    if len(set(tries.values())) != 1:
        raise ValueError(f"every optimizer needs the same number of tries; these have {tries}")
    first = [replace(config, seed=seeds[0]) for configs in grids.values() for config in configs]
    runs = run_all(first, folder, corpus, jobs)
    bests = [best_of(runs, name).runs[0] for name in {run.optimizer for run in runs}]
    chosen = [config for config in first if any(matches(config, run) for run in bests)]
    # The optimizers take turns, so that a machine which slows down for a while slows all of them.
    more = [replace(config, seed=seed) for seed in seeds[1:] for config in chosen]
    return runs + (run_all(more, folder, corpus, jobs) if more else [])


def run_all(
    configs: Sequence[TrainConfig], folder: Path, corpus: str | Path | None, jobs: int
) -> list[Run]:
    """Return the runs of these configurations: those in the folder, and the others when done."""
    recorded = load_all(folder) if list(folder.glob("*.json")) else []
    sha256 = load_corpus(corpus).sha256
    found = [next((run for run in recorded if matches(c, run, sha256)), None) for c in configs]
    missing = [config for config, run in zip(configs, found, strict=True) if not run]
    done = len(configs) - len(missing)
    print(f"{len(configs)} runs, {done} of them recorded already", flush=True)
    outcomes = run_missing(missing, folder, corpus, jobs)
    return [run for run in (*found, *outcomes) if isinstance(run, Run)]


def matches(config: TrainConfig, run: Run, sha256: str | None = None) -> bool:
    """Tell whether a recorded run has this configuration and, if its hash is given, this text.

    An optimizer of your own must still have the source with which it was recorded.
    """
    same_text = sha256 in (None, run.provenance["corpus"]["sha256"])
    same_source = run.provenance.get("optimizer_sha256") == source_sha256(config.optimizer)
    usual = {each.name: each.default for each in fields(config)}  # of settings newer than the run
    settings = asdict(config).items()
    same = all(run.config.get(k, usual[k]) == v for k, v in settings if k != "corpus")
    return same_text and same_source and same


def run_missing(
    configs: Sequence[TrainConfig], folder: Path, corpus: str | Path | None, jobs: int
) -> Iterator[Run | str]:
    """Yield each run, or why it failed, when it ends; after an interrupt start no more."""
    began = time.perf_counter()
    threads = max(1, torch.get_num_threads() // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(train_in_process, c, folder / file_name(c), corpus, threads): c
            for c in configs
        }
        try:
            for count, done in enumerate(as_completed(waiting), start=1):
                outcome, left = done.result(), len(configs) - count
                result = outcome if isinstance(outcome, str) else f"{outcome.final_loss:.4f} nats"
                minutes = (time.perf_counter() - began) / count * left / 60
                print(f"{file_name(waiting[done])}: {result}", flush=True)
                print(f"  {left} to go, about {minutes:.0f} minutes", flush=True)
                yield outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def train_in_process(
    config: TrainConfig, path: Path, corpus: str | Path | None, threads: int
) -> Run | str:
    """Train in a process of its own, whose peak memory is the run's; return the run or an error."""
    count = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", RUN_PROCESS],
        input=pickle.dumps((config, path, corpus)), env=os.environ | count, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.decode().strip().splitlines() or ["its process was stopped"])[-1]
    return load(path)


def train_from_stdin() -> None:
    """Train and save the run that `train_in_process` asks for."""
    config, path, corpus = pickle.load(sys.stdin.buffer)
    train(config, progress=False, corpus=corpus).save(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.training.sweep",
        description="Sweep optimizers fairly and record every run. All other options are those of "
        "python -m muon_lab.training, for every run.",
        allow_abbrev=False,
    )
    parser.add_argument("--optimizer", nargs="+", default=list(ORDER[:2]),
                        help="adamw, muon, muonclip, or your own as FILE.py:NAME")  # fmt: skip
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS,
                        help="learning rates to try, as multiples of the preset's")  # fmt: skip
    parser.add_argument("--decay", nargs="+", type=float, default=DECAYS, help="decays to try")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2],
                        help="the first for the sweep, all for the best of each")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="processes at once; they share cores")
    parser.add_argument("--save", type=Path, required=True, help="folder of the run files")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = _parser()
    given, run_options = parser.parse_known_args(arguments)
    varied = [word for word in run_options if word.split("=")[0] in NO_SWEEP_OPTIONS]
    if varied:
        parser.error(f"{' '.join(varied)}: a sweep varies these itself, by --factors and --decay")
    if given.jobs < 1:
        parser.error(f"--jobs must be 1 or more; got {given.jobs}")
    # What is named twice is tried once.
    factors, decays, seeds = map(dict.fromkeys, (given.factors, given.decay, given.seed))
    grids = {}
    for name in given.optimizer:
        (common,), run_files = parse([*run_options, "--optimizer", name])
        try:
            grids[name] = grid(common, factors, decays)
        except ValueError as error:
            parser.error(str(error))
    try:
        options = {"corpus": run_files.corpus, "jobs": given.jobs}
        runs = sweep(grids, list(seeds), given.save, **options)
    except KeyboardInterrupt:
        print("interrupted: the same command continues with the missing runs", file=sys.stderr)
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{report(runs)}" if runs else "no run finished")
    return 0 if runs else 1


if __name__ == "__main__":
    sys.exit(main())
