"""A posterior over weights as a folder; nothing in it is ever executed."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from jensen.errors import RunError

TENSORS, TEXT = "weights.safetensors", "posterior.json"


def write(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes a folder: tensors that carry the text too, so that a kill can't part them, and the text for people.

    Raises:
        RunError: If it can't be written.
    """
    text = json.dumps(about, indent=2)
    kept = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _place(folder / TENSORS, save_tensors(kept, {"about": text}))
        _place(folder / TEXT, (text + "\n").encode())
    except OSError as error:
        raise RunError(f"can't write the posterior to {folder}: {error.strerror or error}") from error


def _place(path: Path, content: bytes) -> None:
    """Writes a file beside its place, flushes it to the disk and renames it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``write`` wrote.

    Raises:
        RunError: If it isn't there or is damaged.
    """
    path = folder / TENSORS
    try:
        tensors = load_tensors(path.read_bytes())
        with safe_open(path, "pt") as opened:
            about = json.loads((opened.metadata() or {})["about"])
    except FileNotFoundError:
        raise RunError(f"{folder} holds no posterior over weights: it has no {TENSORS}") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}); fit again or restore the file") from None
    return tensors, cast("dict[str, Any]", about)
