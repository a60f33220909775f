"""Let every core of a CPU do whole pieces of work, in place of a share of each operation.

torch shares out each operation among the cores, and at its end waits for the slowest: some 40 µs a
time, and more where other programs run. Pieces that need nothing of each other spare all of that,
and each core finds in its own cache what it has just written. Pieces should take milliseconds: for
less, torch's own threads are in the way, which wait for their next share by spinning. A piece runs
on one thread, so its result does not depend on how many there are.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from threading import Barrier

import torch


def side_by_side(pieces: Sequence[Callable[[], object]]) -> None:
    """Run functions that free Python's lock, as torch's operations do; the first ones start first.

    Returns, or raises what a piece raised, once none is at work any more. No piece records
    gradients.
    """
    count = torch.get_num_threads()
    if count == 1 or len(pieces) < 2:
        for piece in pieces:
            piece()
        return
    workers = _workers(count)
    begun = [workers.submit(piece) for piece in pieces]
    try:
        for work in begun:
            work.result()
    finally:  # after Ctrl-C too: whoever stops or saves must find nothing half done
        wait(begun)


@lru_cache(maxsize=1)
def _workers(count):
    """Return threads that wait for work, on each of which torch uses one thread alone."""
    everyone = Barrier(count)

    def begin():
        torch.set_num_threads(1)  # the caller's number also, until the last line here
        torch.get_num_threads()  # torch asks for a thread's number once: let it be now
        torch.set_grad_enabled(False)
        everyone.wait()

    workers = ThreadPoolExecutor(count, "muon-lab-core", begin)
    for work in [workers.submit(int) for _ in range(count)]:
        work.result()
    torch.set_num_threads(count)
    return workers


os.register_at_fork(after_in_child=_workers.cache_clear)  # a fork has none of its parent's threads
