"""Files that are whole or not there, and never execute anything when they are read."""

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from jensen.errors import RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: a temporary file beside it, flushed to disk, takes its place.

    Args:
        path: Where.
        content: What.

    Raises:
        RunError: If it can't be written, as where the disk is full; what was there before is there still.
    """
    temporary = temporary_of(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(
                f"can't write {path}: {error.strerror or error}; what was saved before is there still. Make room, "
                "or mend what is wrong with the disk, and go on by --resume (resume=True)"
            ) from error
        raise


def temporary_of(path: Path) -> Path:
    """Where this process writes a file before it takes its place."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def clear_temporaries(folder: Path, names: Iterable[str]) -> None:
    """Removes what processes that were killed while they wrote these files have left; nobody else may write them.

    Args:
        folder: Where.
        names: Of the files.
    """
    for name in names:
        for path in folder.glob(f".{name}.*"):
            if path.name.removeprefix(f".{name}.").isdigit():
                with suppress(OSError):
                    path.unlink()


def finite(value: Any) -> Any:
    """The same with numbers that JSON doesn't know as None.

    Example:
        >>> finite({"a": [float("nan"), 1.0]})
        {'a': [None, 1.0]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in cast("list[Any]", value)]
    return value


def strict_json(content: Any, indent: int | None = None) -> str:
    """JSON as the standard has it, in which a number that is not finite is null.

    Example:
        >>> strict_json({"error": float("inf")})
        '{"error": null}'
    """
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically; a number that is not finite becomes null."""
    write_bytes(path, (strict_json(content, 2) + "\n").encode())


def read_text(path: Path, errors: str = "strict") -> str:
    """Reads a file of a Run as text.

    Args:
        path: The file.
        errors: What to do with what is no UTF-8, as Python's decoders say it.

    Raises:
        RunError: If it isn't there or can't be read.
    """
    return _read_bytes(path).decode("utf8", errors)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path.parent} is not a Run, or was cut short: it has no {path.name}") from None
    except OSError as error:
        raise RunError(f"can't read {path}: {error.strerror or error}; check what is there") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        RunError: If the file isn't there or is no JSON object.
    """
    try:
        content = json.loads(read_text(path))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}); fit again or restore the file") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: it should hold a JSON object; fit again or restore the file")
    return cast("dict[str, Any]", content)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors atomically, as safetensors."""
    kept = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_bytes(path, save(kept, dict(metadata) if metadata else None))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors.

    Raises:
        RunError: If the file isn't there or is damaged.
    """
    try:
        return load(_read_bytes(path))
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error}); fit again or restore the file") from None


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors."""
    with safe_open(path, "pt") as opened:
        return cast("dict[str, str]", opened.metadata() or {})


def flatten(tree: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Takes a nested state apart into its tensors, by path, and the rest, which JSON can hold.

    Numbers that JSON doesn't know, such as the best bound before there was one, become text of their own kind.

    Args:
        tree: Dicts and lists, with tensors, numbers, text and None as leaves.
        prefix: Path of the tree.

    Returns:
        The tensors, and the tree with each tensor replaced by its path.

    Example:
        >>> flatten({"a": [torch.zeros(1), 2]})[1]
        {'a': [{'tensor': '/a/0'}, 2]}
    """
    if isinstance(tree, Tensor):
        return {prefix: tree}, {"tensor": prefix}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {}, {"number": str(tree)}
    items: list[tuple[Any, Any]]
    if isinstance(tree, Mapping):
        items = list(cast("Mapping[Any, Any]", tree).items())
    elif isinstance(tree, list | tuple):
        items = list(enumerate(cast("list[Any]", tree)))
    else:
        return {}, tree
    tensors: dict[str, Tensor] = {}
    rest: list[tuple[Any, Any]] = []
    for key, value in items:
        found, kept = flatten(value, f"{prefix}/{key}")
        tensors |= found
        rest.append((key, kept))
    if isinstance(tree, Mapping):
        return tensors, {str(key): value for key, value in rest}
    return tensors, [value for _, value in rest]


def unflatten(tensors: Mapping[str, Tensor], rest: Any) -> Any:
    """Puts together what ``flatten`` took apart; keys that are numbers become numbers again."""
    if isinstance(rest, list):
        return [unflatten(tensors, value) for value in cast("list[Any]", rest)]
    if isinstance(rest, dict):
        branch = cast("dict[str, Any]", rest)
        if set(branch) == {"tensor"}:
            return tensors[branch["tensor"]]
        if set(branch) == {"number"}:
            return float(branch["number"])
        return {int(k) if k.isdigit() else k: unflatten(tensors, v) for k, v in branch.items()}
    return rest


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a nested state: one safetensors file that holds it all, and JSON beside it for people.

    The file of tensors carries the JSON too, so that a kill between the two writes can't part them.
    """
    tensors, rest = flatten(state)
    text = json.dumps(rest, allow_nan=False)
    write_tensors(path.with_suffix(".safetensors"), tensors, {"state": text})
    write_bytes(path.with_suffix(".json"), text.encode())


def read_state(path: Path) -> Any:
    """Reads what ``write_state`` wrote.

    Raises:
        RunError: If it isn't there or is damaged.
    """
    file = path.with_suffix(".safetensors")
    tensors = read_tensors(file)
    metadata = read_metadata(file)
    if "state" not in metadata:
        raise RunError(f"{file} doesn't say what its tensors are; it can't be resumed, fit again")
    return unflatten(tensors, json.loads(metadata["state"]))


def versions() -> dict[str, str]:
    """The versions that a Run was made with."""
    return {"jensen": version("jensen"), "torch": str(torch.__version__), "python": platform.python_version()}
