"""Which process a fit runs in, and whether that process is still there."""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Life = Literal["alive", "suspended", "gone", "elsewhere"]
"""Whether a process lives; ``elsewhere`` if that can't be seen from here."""


def this_process() -> dict[str, Any]:
    """What tells this process from every other: a pid alone may be given to another one later.

    Returns:
        ``pid``; ``started``, in ticks of the kernel since it booted; ``boot``, which boot that was; ``host``;
        ``namespace``, in which the pid counts. What the system doesn't tell is None.
    """
    found = _stat(os.getpid())
    return {
        "pid": os.getpid(),
        "started": None if found is None else found[1],
        "host": platform.node(),
        "boot": _boot(),
        "namespace": _namespace(),
    }


def life(process: Mapping[str, Any]) -> Life:
    """Whether a process that ``this_process`` described there and then is alive, as far as one can see from here.

    Args:
        process: What it said.

    Returns:
        ``alive``, ``suspended`` (by SIGSTOP or a debugger), ``gone``, or ``elsewhere``.

    Example:
        >>> life(this_process())
        'alive'
    """
    if process.get("host") != platform.node() or process.get("namespace") != _namespace():
        return "elsewhere"
    if process.get("boot") != _boot():
        return "gone"
    pid = int(process["pid"])
    found = _stat(pid)
    if found is None:
        if Path("/proc/self/stat").exists():
            return "gone"
        return _answers(pid)
    state, started = found
    if state in "ZXx" or started != process.get("started"):
        return "gone"
    return "suspended" if state in "Tt" else "alive"


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None if it is gone, or on a system without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def _answers(pid: int) -> Life:
    """Whether there is a process of that pid, on systems without /proc."""
    if sys.platform == "win32":
        # There a signal of number zero would end it.
        return "elsewhere"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "alive"
    return "alive"


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf8").strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
