"""Bytes to train on: the installed standard library's source, or text that the user names.

``python -m muon_lab.training.data FOLDER`` copies that source, for a different machine to train on.
Whole files are held out for validation, chosen by a hash of their path inside the corpus: the same
ones on every machine, and adding a file moves no other file.
"""

import argparse
import hashlib
import lzma
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

# Excluded from the standard library: tests (long tables of inputs, absent from some systems'
# Python), what pip installed, and IDLE (an application, also absent from some systems).
EXCLUDED_FOLDERS = {"test", "tests", "site-packages", "dist-packages", "idlelib"}
# Each build writes these, with its own paths: they would give each machine a different hash.
BUILD_FILES = ("_sysconfigdata", "config-")
HELD_OUT = 10  # one file in this many is kept for validation


@dataclass(frozen=True, eq=False)
class Corpus:
    """Hold a training and a validation text as uint8 tensors, with what identifies them.

    ``sha256`` is the hash of both texts: corpora with the same hash give the same batches.
    """

    name: str
    train: Tensor  # (train bytes,) uint8
    valid: Tensor  # (valid bytes,) uint8
    train_files: int
    valid_files: int
    sha256: str

    def __repr__(self) -> str:
        """Say what the texts are and how long, not their bytes."""
        return (
            f"Corpus({self.name}: {self.train.numel():,} bytes in {self.train_files} files "
            f"to train on, {self.valid.numel():,} in {self.valid_files} held out, "
            f"sha256 {self.sha256[:12]})"
        )


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Load the standard library's source, or the text file or folder of text files at ``path``.

    A folder's text files are used whole, sorted by path, without hidden and binary ones. A single
    file's last tenth is the validation text. Raises ValueError where there is no text.

    >>> corpus = load_corpus()
    >>> corpus.train.dtype, corpus.train_files > 4 * corpus.valid_files
    (torch.uint8, True)
    """
    if path is None:
        name, files = f"Python {platform.python_version()} standard library", _library_files()
    else:
        name, files = Path(path).resolve().name, _files_at(path)
    if len(files) == 1:
        (text,) = files.values()
        if len(text) < HELD_OUT:
            raise ValueError(
                f"corpus {name!r} holds {len(text)} bytes: too short to hold out a tenth"
            )
        cut = len(text) - len(text) // HELD_OUT
        return _corpus(name, [text[:cut]], [text[cut:]])
    held_out = _held_out(files)
    train = [text for path, text in files.items() if path not in held_out]
    return _corpus(name, train, [files[path] for path in sorted(held_out)])


def _corpus(name: str, train: list[bytes], valid: list[bytes]) -> Corpus:
    texts = [b"".join(train), b"".join(valid)]
    digests = [hashlib.sha256(text).digest() for text in texts]
    tensors = [torch.frombuffer(bytearray(text), dtype=torch.uint8) for text in texts]
    sha256 = hashlib.sha256(b"".join(digests)).hexdigest()
    return Corpus(name, *tensors, len(train), len(valid), sha256)


def _library_files() -> dict[str, bytes]:
    root = Path(sysconfig.get_path("stdlib"))
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    return {
        name: paths[name].read_bytes()
        for name in sorted(paths)
        if not EXCLUDED_FOLDERS & set(name.split("/")) and not name.startswith(BUILD_FILES)
    }


def _files_at(path: str | Path) -> dict[str, bytes]:
    works = "name a text file or a folder of text files, or leave it out for Python's own source"
    empty, path = not str(path), Path(path)  # Path("") is the current folder
    if empty or not path.exists():
        raise ValueError(
            f"no corpus at {'' if empty else str(path)!r}: there is no such file or folder; {works}"
        )
    if path.is_file():
        paths = {path.name: path}
    else:
        paths = {file.relative_to(path).as_posix(): file for file in path.rglob("*")}
        shown = sorted(name for name in paths if "/." not in f"/{name}")
        paths = {name: paths[name] for name in shown if paths[name].is_file()}
    contents = {name: file.read_bytes() for name, file in paths.items()}
    files = {name: text for name, text in contents.items() if text and b"\0" not in text}
    if not files:
        binary = sum(bool(content) for content in contents.values())
        seen = f"{len(contents)} files, {binary} of them binary and {len(contents) - binary} empty"
        raise ValueError(f"no text in corpus {str(path)!r} ({seen}); {works}")
    return files


def _held_out(names: dict[str, bytes]) -> set[str]:
    """Choose the validation files: one in ten by hash, at least one and never all."""
    ranks = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in names}
    chosen = {name for name, rank in ranks.items() if rank % HELD_OUT == 0}
    return chosen if 0 < len(chosen) < len(names) else {min(ranks, key=ranks.__getitem__)}


def batches(
    text: Tensor, *, batch: int, context: int, seed: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, targets), both (batch, context) int64, without end.

    Each batch depends only on the seed and its number, which starts at ``start``: every optimizer
    sees the same batches with one seed, and an interrupted run continues where it stopped. Raises
    ValueError, at once, for a text that is shorter than a context.

    >>> text = torch.arange(100, dtype=torch.uint8)
    >>> inputs, targets = next(batches(text, batch=2, context=8, seed=0))
    >>> inputs.shape, bool((targets == inputs + 1).all())
    (torch.Size([2, 8]), True)
    """
    last = _last_start(text, context)

    def draw(number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        return _cut(text, torch.randint(last + 1, (batch,), generator=generator), context)

    return (draw(number) for number in count(start))


def windows(text: Tensor, *, number: int, context: int) -> tuple[Tensor, Tensor]:
    """Cut a fixed set of evenly spaced (inputs, targets), both (number, context) int64.

    >>> inputs, _ = windows(torch.arange(9, dtype=torch.uint8), number=3, context=2)
    >>> inputs.tolist()
    [[0, 1], [3, 4], [6, 7]]
    """
    last = _last_start(text, context)
    return _cut(text, torch.arange(number) * last // max(number - 1, 1), context)


def _last_start(text: Tensor, context: int) -> int:
    if text.numel() <= context:
        raise ValueError(
            f"a context of {context} needs at least {context + 1} bytes of text for training and "
            f"as many for validation, and one of the two has {text.numel()}: "
            "choose a longer text or a shorter context"
        )
    return text.numel() - context - 1


def _cut(text: Tensor, starts: Tensor, context: int) -> tuple[Tensor, Tensor]:
    span = text[starts[:, None] + torch.arange(context + 1)].long()  # (B, T + 1)
    return span[:, :-1], span[:, 1:]


def xz_bits_per_byte(text: Tensor) -> float:
    """Compress a text as ``xz -9`` does and return the bits it needs per byte of text.

    It is a yardstick for a model: xz has seen no other text, but can look back over all of this.

    >>> xz_bits_per_byte(torch.zeros(100_000, dtype=torch.uint8)) < 0.05
    True
    """
    return 8 * len(lzma.compress(text.numpy().tobytes(), preset=9)) / text.numel()


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the default corpus to a folder that, as ``--corpus``, has the same hash everywhere."""
    parser = argparse.ArgumentParser(
        prog="python -m muon_lab.training.data", description=main.__doc__
    )
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    folder = parser.parse_args(arguments).folder
    if folder.exists():
        parser.error(f"{folder.name} exists already: its files would become part of the corpus")
    for name, text in _library_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    print(load_corpus(folder))


if __name__ == "__main__":
    main()
