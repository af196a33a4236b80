"""Finds the files of known data sets: in the user's folder, else in the cache, else by download."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from jensen.errors import DataError


@dataclass(frozen=True)
class KnownFile:
    """One published file.

    Attributes:
        path: Its place below the data folder, as in "mnist/train-images-idx3-ubyte.gz".
        address: Where it is downloaded from.
        sha256: The checksum that its publisher or others state for its bytes; None where none is known.
    """

    path: str
    address: str
    sha256: str | None = None


def data_folders() -> list[Path]:
    """The folders where the files of known data sets are looked for, in this order.

    Returns:
        The folder that the environment variable JENSEN_DATA names, if it is set, and the user's cache.
    """
    import pooch

    chosen = os.environ.get("JENSEN_DATA")
    return [*([Path(chosen).expanduser()] if chosen else []), Path(pooch.os_cache("jensen"))]


def find(path: str) -> Path | None:
    """Looks for a file of a known data set on the disk.

    Args:
        path: Its place below a data folder.

    Returns:
        Where it lies; None if it is in none of the data folders.
    """
    return next((folder / path for folder in data_folders() if (folder / path).is_file()), None)


def fetch(file: KnownFile) -> Path:
    """Finds a file on the disk, or downloads it into the first data folder that can be written.

    Args:
        file: The file.

    Returns:
        Where it lies now.

    Raises:
        DataError: If it can't be downloaded, or what came has another checksum.
    """
    found = find(file.path)
    if found is not None:
        return found
    import pooch

    folders = data_folders()
    target = next((folder for folder in folders if _writable(folder)), folders[-1]) / file.path
    try:
        return Path(
            pooch.retrieve(
                file.address,
                known_hash=None if file.sha256 is None else f"sha256:{file.sha256}",
                fname=target.name,
                path=target.parent,
            )
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"can't download {file.address} ({_short(error)}). Check the network and try again, or put the "
            f"file by hand at {folders[0] / file.path}; another folder is chosen by the variable JENSEN_DATA."
        ) from error


def has_checksum(path: Path, sha256: str) -> bool:
    """Whether a file's bytes have a checksum.

    Args:
        path: The file.
        sha256: The checksum, in hexadecimal digits.

    Returns:
        True if they do.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder that may not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)


def _short(error: Exception) -> str:
    """The beginning of an error's message; those of the network library nest several."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "..."
