"""A stream drawn ahead is the stream itself: order, errors, end; and its thread ends with it."""

import threading
import time

import pytest

from muon_lab.training.config import TrainConfig
from muon_lab.training.loop import begin, drawn_from, stream_of, train
from muon_lab.training.prefetch import Prefetch
from tests.assertions import assert_unchanged


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "prefetch"]


def wait_until(condition, seconds=5.0):
    """Give a thread the time it takes, and no more."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def numbers(count, drawn=None, error=None):
    """Yield pairs, note each as it is drawn, and raise at the end if there is an error."""
    for number in range(count):
        if drawn is not None:
            drawn.append(number)
        yield (number, number)
    if error is not None:
        raise error


def test_the_order_is_the_sources():
    with Prefetch(numbers(50), ahead=3) as stream:
        assert [number for number, _ in stream] == list(range(50))


@pytest.mark.parametrize("ahead", [1, 4])
def test_no_more_are_drawn_than_asked_for_and_so_many_ahead(ahead):
    drawn = []
    with Prefetch(numbers(100, drawn), ahead=ahead) as stream:
        assert drawn == []  # nothing before the first is asked for
        next(stream)
        most = 1 + ahead + 1  # given, waiting, and the one in the thread's hand
        assert wait_until(lambda: len(drawn) == most)
        time.sleep(0.05)
        assert len(drawn) == most


def test_what_the_source_raises_comes_after_what_it_gave():
    with (
        Prefetch(numbers(2, error=ValueError("no such text"))) as stream,
        pytest.raises(ValueError, match="no such text"),
    ):
        for expected in range(3):
            assert next(stream) == (expected, expected)
    assert expected == 2
    assert threads() == []


def test_an_ended_stream_stays_ended():
    with Prefetch(numbers(1)) as stream:
        next(stream)
        for _ in range(2):
            assert next(stream, None) is None
    assert next(stream, None) is None


@pytest.mark.parametrize("read", [0, 1, 5])
def test_the_thread_ends_with_the_block_wherever_the_reader_stopped(read):
    with Prefetch(numbers(10_000), ahead=2) as stream:
        for _ in range(read):
            next(stream)
        assert threads() == ["prefetch"] * (read > 0)
    assert threads() == []


def test_the_thread_ends_when_the_block_fails():
    with pytest.raises(KeyboardInterrupt), Prefetch(numbers(10_000)) as stream:
        next(stream)
        raise KeyboardInterrupt
    assert threads() == []


def test_none_ahead_is_refused():
    with pytest.raises(ValueError, match="ahead must be 1 or more; got 0"):
        Prefetch([], ahead=0)


@pytest.mark.parametrize("step", [0, 7])
def test_a_training_is_given_the_batches_of_its_seed_from_its_step_on(step):
    state = begin(TrainConfig(preset="tiny"))
    state.step = step
    plain = drawn_from(state)
    with stream_of(state) as stream:
        for _ in range(6):
            for drawn, wanted in zip(next(stream), next(plain), strict=True):
                assert_unchanged(wanted, drawn)


def test_a_training_leaves_no_thread_however_it_ends():
    train(TrainConfig(preset="tiny", steps=2), progress=False)
    assert threads() == []
    with pytest.raises(FloatingPointError):
        train(TrainConfig(preset="tiny", lr=1e30, schedule="constant"), progress=False)
    assert threads() == []
