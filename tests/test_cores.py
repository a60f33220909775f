"""Pieces of work side by side: all done, each on one thread, the same result on any number."""

import os
import threading
import time

import pytest
import torch
from torch.nn import Parameter

from muon_lab import muon
from muon_lab.cores import side_by_side
from muon_lab.muon import STACK, Muon


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Have torch use so many threads; give back its own number after."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_piece_is_done_once_and_the_number_of_threads_stays(threads):
    done = []
    side_by_side([lambda i=i: done.append(i) for i in range(20)])
    assert sorted(done) == list(range(20))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [2, 3], indirect=True)
def test_as_many_pieces_as_threads_are_at_work_at_once_each_on_one_thread(threads):
    everyone, seen, who = threading.Barrier(threads, timeout=20), [], set()

    def piece():
        everyone.wait()  # never opens unless all are here
        seen.append((torch.get_num_threads(), torch.is_grad_enabled()))
        who.add(threading.get_ident())

    side_by_side([piece] * threads)
    assert len(who) == threads
    assert set(seen) == {(1, False)}


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_what_a_piece_raises_is_raised_when_no_piece_is_at_work_any_more(threads):
    done = []

    def fails():
        raise ZeroDivisionError("one piece")

    with pytest.raises(ZeroDivisionError, match="one piece"):
        side_by_side([fails, lambda: (time.sleep(0.2), done.append("slow"))])
    assert done == ["slow"]


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_gets_workers_of_its_own(threads):
    side_by_side([int, int])
    child = os.fork()
    if child == 0:
        side_by_side([int, int])  # would wait for its parent's threads for ever
        os._exit(7)
    end = time.monotonic() + 20
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if status == (0, 0):
        os.kill(child, 9)
    assert os.waitstatus_to_exitcode(status[1]) == 7


def test_muon_gives_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setitem(STACK, "cpu", 2000)
    monkeypatch.setattr(muon, "LARGE", 100)
    before, ends = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        torch.manual_seed(0)
        params = [Parameter(torch.randn(shape)) for shape in [(24, 40)] * 5 + [(40, 24)] * 3]
        optimizer = Muon(params, lr=0.1)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in params]))
    torch.set_num_threads(before)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])
