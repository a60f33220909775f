"""Draw a stream's batches ahead, in a thread of its own, while the model works on earlier ones."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, Queue

from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Prefetch:
    """Iterate over ``source`` with up to ``ahead`` batches drawn before they are asked for.

    The order is the source's, and what it raises is raised where the next batch is asked for.
    The thread begins with the first ``next`` and ends with the ``with`` block. ``pin`` puts batches
    into memory from which a GPU copies without waiting.

    >>> with Prefetch((number, number) for number in range(3)) as stream:
    ...     [number for number, _ in stream]
    [0, 1, 2]
    """

    def __init__(self, source: Iterable[Batch], *, ahead: int = 4, pin: bool = False) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be 1 or more; got {ahead}")
        self._source, self._pin = source, pin
        self._drawn: Queue = Queue(maxsize=ahead)
        self._ending = threading.Event()
        # A daemon, so that a stream which nobody closed keeps no program from ending.
        self._thread = threading.Thread(target=self._draw, name="prefetch", daemon=True)

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._ending.is_set():
            raise StopIteration
        if self._thread.ident is None:
            self._thread.start()
        batch, error = self._drawn.get()
        if error is not None:
            self._ending.set()
            raise error
        return batch

    def close(self) -> None:
        """End the thread and wait until it has ended; asking for more then is asking for none."""
        self._ending.set()
        with suppress(Empty):
            self._drawn.get_nowait()  # a place, should the thread be waiting for one
        if self._thread.ident is not None:
            self._thread.join()

    def _draw(self) -> None:
        try:
            for batch in self._source:
                if self._ending.is_set():
                    return
                if self._pin:
                    batch = tuple(tensor.contiguous().pin_memory() for tensor in batch)
                self._drawn.put((batch, None))
            self._drawn.put((None, StopIteration()))
        except BaseException as error:  # whatever it is, the training loop must hear of it
            self._drawn.put((None, error))
