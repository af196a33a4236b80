"""A function of tensors as a plain list of operations, run by torch's own interpreter instead of Python.

``operations`` says what one is, ``leaner`` leaves out work, ``record`` makes the list and runs it.
"""

from jensen.recording.record import Dispatch, record

__all__ = ["Dispatch", "record"]
