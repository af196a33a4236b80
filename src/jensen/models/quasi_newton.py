"""L-BFGS an iteration at a time, so that progress is seen and what was found so far can be kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Queue
from threading import Event, Thread, current_thread
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """Where an iteration ended.

    Attributes:
        place: The parameters.
        value: What is minimised.
        done: Whether it is the last one because nothing improves.
    """

    place: Array
    value: float
    done: bool = False


def descend(
    loss: Callable[[Array], tuple[float, Array]],
    start: Array,
    *,
    lowest: Array,
    iterations: int,
    tolerance: float,
) -> Iterator[Step]:
    """Minimises by scipy's L-BFGS-B, which runs in a thread and waits until its last iteration was taken.

    Args:
        loss: Value and gradient at parameters.
        start: The first ones.
        lowest: Lower bounds; -inf where there is none.
        iterations: At most.
        tolerance: Ends where no derivative is larger.

    Yields:
        Each iteration, one late: only then is it known whether it was the last.

    Example:
        >>> steps = descend(lambda x: (float((x**2).sum()), 2 * x), np.array([3.0, 4.0]), lowest=np.array([1.0, -9.0]),
        ...                 iterations=9, tolerance=1e-9)
        >>> last = [*steps][-1]
        >>> last.done, last.place.round(6).tolist()
        (True, [1.0, 0.0])
    """
    found: Queue[Step | BaseException | bool] = Queue(maxsize=1)
    stopped = Event()

    def note(intermediate_result: Any) -> None:
        found.put(Step(np.array(intermediate_result.x), float(intermediate_result.fun)))
        if stopped.is_set():
            raise StopIteration

    def work() -> None:
        try:
            result: Any = scipy.optimize.minimize(
                loss,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=[(low, None) for low in lowest.tolist()],
                callback=note,
                options={
                    "maxiter": iterations,
                    "maxfun": 20 * iterations,
                    "ftol": 0.0,
                    "gtol": tolerance,
                    "maxcor": 30,
                },
            )
            found.put(bool(result.nit < iterations))
        except BaseException as error:
            found.put(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    last: Step | None = None
    try:
        while True:
            message = found.get()
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, bool):
                # Where the start is the minimum there is no iteration.
                last = Step(start, loss(start)[0]) if last is None else last
                yield Step(last.place, last.value, message)
                return
            if last is not None:
                yield last
            last = message
    finally:
        stopped.set()
        if current_thread() is thread:
            # Forgotten, and collected as garbage in the midst of a step of the search: it ends by itself.
            found.maxsize = 0
        else:
            while thread.is_alive():
                if not found.empty():
                    found.get()
                thread.join(0.01)
