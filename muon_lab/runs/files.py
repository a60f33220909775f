"""Write a file whole or not at all, and find out beforehand whether it can be written."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` to write to, and rename it into place when the block ends well.

    Until then, and if the block fails or the power does, what was at ``path`` before stays whole.
    Raises OSError, with a sentence on what failed and what is left, where the disk is full or the
    folder cannot be written to.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on nothing
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _settle(path.parent)
    except (OSError, RuntimeError) as error:
        cause = _cause(error)
        if cause is None:
            raise
        left = "; the one before it is whole" if path.is_file() else ""
        raise OSError(
            f"could not write {path.name} in {str(path.parent)!r}: {cause.strerror or cause}"
            f"{left}. Free some space, or name another folder"
        ) from error


def check_writable(path: str | Path) -> None:
    """Raise OSError now, and not after a long training, if no file can be written at ``path``."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OSError("that is a folder")
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"enough room for a byte")
    except OSError as error:
        raise OSError(
            f"cannot write {path.name} in {str(path.parent)!r}: {error.strerror or error}. "
            "Name another file, in a folder that you may write to"
        ) from error


def _cause(error: BaseException | None) -> OSError | None:
    """Find what the system said: torch.save hides it behind an error of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _settle(folder: Path) -> None:
    """Have a folder's new names on the disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
