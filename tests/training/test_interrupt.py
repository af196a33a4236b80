import signal
import threading

import pytest

from jensen.training.interrupt import Stop, interruptible


def test_the_first_interrupt_sets_a_flag_and_the_second_one_raises() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with interruptible() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_outside_the_block_an_interrupt_is_what_it_was() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with interruptible() as stop:
        assert signal.getsignal(signal.SIGINT) is not handler
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not stop.requested


def test_the_handler_is_restored_after_an_error() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), interruptible():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_flag_is_never_set_in_another_thread() -> None:
    handler = signal.getsignal(signal.SIGINT)
    found: list[tuple[Stop, object]] = []

    def work() -> None:
        with interruptible() as stop:
            found.append((stop, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    ((stop, inside),) = found
    assert not stop.requested
    assert inside is handler
