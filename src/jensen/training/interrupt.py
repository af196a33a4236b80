"""Ctrl-C asks a fit to stop; it stops after the step in progress."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked to stop."""

    requested: bool = False


@contextmanager
def interruptible() -> Generator[Stop]:
    """Within the block the first Ctrl-C sets a flag, and a second one raises KeyboardInterrupt as usual.

    Yields:
        The flag. Outside the main thread, where signals can't be caught, it is never set.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
