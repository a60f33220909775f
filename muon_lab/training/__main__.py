"""Run ``python -m muon_lab.training``: train what a command line asks for, and save the runs."""

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from muon_lab.runs.record import Run, check_writable
from muon_lab.training.config import TrainConfig, parse
from muon_lab.training.loop import train
from muon_lab.training.provenance import file_name, launcher, summary
from muon_lab.training.ranks import first_rank, joined, rank, ranks

# What ends one run in a sentence; the next one still starts.
RUN_ERRORS = (ValueError, FloatingPointError, OSError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, on all ranks if torchrun started them; return its exit status."""
    configs, given = parse(arguments)
    try:
        with joined():
            return _run_all(configs, given, arguments)
    except ValueError as error:  # from joining: every run catches its own
        print(f"stopped: {error}", file=sys.stderr)
        return 1


def _run_all(
    configs: Sequence[TrainConfig], given: Namespace, arguments: Sequence[str] | None
) -> int:
    options = ("checkpoint", "checkpoint_every", "resume", "corpus")
    options = {name: getattr(given, name) for name in options}
    failed = False
    for config in configs:
        try:
            path = given.save and run_path(config, given.save, len(configs) > 1)
            if path:
                first_rank(partial(check_run_file, path, given.resume))
            run = train(config, **options)
            first_rank(partial(_report, run, path))
        except KeyboardInterrupt as stop:
            said = f"interrupted {stop}".strip() + f"\n{resume_hint(given.checkpoint, arguments)}"
            if rank() == 0:
                print(said, file=sys.stderr)
            return getattr(stop, "status", 130)
        except RUN_ERRORS as error:
            failed = True
            alone = isinstance(error, ConnectionError)
            if rank() == 0 or alone:  # all other errors are every rank's
                print(f"{config.command()}\n  stopped: {error}", file=sys.stderr, flush=True)
            if alone:
                os._exit(1)  # Python's exit would wait for the rank that is gone
    return int(failed)


def _report(run: Run, path: Path | None) -> None:
    print(summary(run))
    if path:
        print("saved", run.save(path))


def run_path(config: TrainConfig, path: Path, several: bool) -> Path:
    """Return where a run is saved: ``path`` itself, or a file in it if that is a folder."""
    return path if path.suffix == ".json" and not several else path / file_name(config)


def check_run_file(path: Path, resume: bool) -> None:
    """Refuse before the training a run file that cannot be written, or that holds another run."""
    if path.is_file() and not resume:
        raise ValueError(
            f"run file {path.name} exists already: choose another --save, or delete it"
        )
    check_writable(path)


def resume_hint(checkpoint: Path | None, arguments: Sequence[str] | None) -> str:
    """Write the command with which an interrupted run continues, or say why there is none."""
    if checkpoint is None:
        return "nothing of it is kept: with --checkpoint FILE it could continue"
    if not checkpoint.is_file():
        return "it has not saved a step: start again"
    if arguments is None and ranks() == 1:
        words = [*sys.orig_argv]
    else:
        given = sys.argv[1:] if arguments is None else arguments
        words = [*launcher().split(), "-m", "muon_lab.training", *given]
    return "continue with: " + shlex.join(words + ["--resume"] * ("--resume" not in words))


if __name__ == "__main__":
    sys.exit(main())
