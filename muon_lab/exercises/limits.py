"""Stop an answer that runs or prints without end."""

import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

SECONDS = 10
CHARACTERS = 10_000


class Stopped(BaseException):
    """An answer passed a limit; not an Exception, so that no answer catches it by accident."""


class LimitedOutput(io.TextIOBase):
    """Pass text on to a stream until it holds more than ``CHARACTERS``."""

    def __init__(self, stream):
        self.stream, self.left = stream, CHARACTERS

    def write(self, text: str) -> int:
        """Write to the stream, or raise Stopped."""
        self.left -= len(text)
        if self.left < 0:
            raise Stopped(
                f"It printed over {CHARACTERS:,} characters. Print less, or end the loop."
            )
        return self.stream.write(text)


@contextmanager
def limits() -> Iterator[None]:
    """Raise Stopped in the body after ``SECONDS``, or when it prints too much.

    Time is limited only in the main thread of a system with interval timers (not on Windows).
    """

    def stop(*_):
        raise Stopped(f"It ran for more than {SECONDS:g} seconds. Does every loop end?")

    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if timed:
        handler = signal.signal(signal.SIGALRM, stop)
        timer = signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # again, should it be caught
    try:
        with redirect_stdout(LimitedOutput(sys.stdout)):
            yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, *timer)
