"""Reads a folder of images; subfolders are classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jensen.data.arrays import from_array
from jensen.data.dataset import Dataset
from jensen.data.numpy_files import damaged
from jensen.errors import DataError

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_CHANNELS = {"1": "black and white", "L": "gray", "RGB": "colour"}


def _list(folder: Path) -> list[Path]:
    """The images of a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()
    )


def _decode(path: Path) -> tuple[str, NDArray[np.generic]]:
    """Mode and cells of one image: (H, W) for gray, (3, H, W) for colour."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # A palette is only a way to store colours.
            decoded = image.convert("RGB") if image.mode == "P" else image
            decoded.load()
            mode, cells = decoded.mode, np.array(decoded)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise damaged(path, error) from error
    if mode not in _CHANNELS:
        raise DataError(
            f"{path} is an image of mode '{mode}' (16 bits, transparency or print colours). "
            "Save the images as 8-bit gray or RGB."
        )
    return mode, cells.transpose(2, 0, 1) if cells.ndim == 3 else cells.astype(np.uint8)


def read_images(folder: Path) -> Dataset:
    """Reads all images of a folder, or of its subfolders, whose names are then the labels.

    Args:
        folder: The folder, with images of one size and mode, directly or one subfolder for each class.

    Returns:
        The data set: (n, H, W) uint8 for gray, (n, 3, H, W) uint8 for colour, in the order of the files'
        names; black-and-white images are binary. Labels index the subfolders in the order of their names.

    Raises:
        DataError: If the folder has no images, images beside folders of images, a damaged image, or images of
            several sizes or modes.
    """
    files = _list(folder)
    classes = {sub.name: _list(sub) for sub in sorted(folder.iterdir()) if sub.is_dir()}
    classes = {name: images for name, images in classes.items() if images}
    if files and classes:
        raise DataError(
            f"{folder} has images beside folders of images ({', '.join(classes)}). "
            "Put all images into the folder, or each into the subfolder of its class."
        )
    y = [label for label, images in enumerate(classes.values()) for _ in images] if classes else None
    files = files or [path for images in classes.values() for path in images]
    if not files:
        raise DataError(
            f"{folder} has no images ({', '.join(sorted(IMAGES))}). "
            "Give a folder of images, or a file such as data.npy."
        )
    mode, first = _decode(files[0])
    x = np.empty((len(files), *first.shape), dtype=np.uint8)
    for row, path in enumerate(files):
        other, cells = _decode(path)
        if other != mode:
            raise DataError(
                f"{path} is {_CHANNELS[other]} but {files[0].name} is {_CHANNELS[mode]}. "
                "Convert all images to one mode."
            )
        if cells.shape != first.shape:
            raise DataError(
                f"{path} has {cells.shape[-2]}x{cells.shape[-1]} pixels but {files[0].name} has "
                f"{first.shape[-2]}x{first.shape[-1]}. Resize or crop all images to one size."
            )
        x[row] = cells
    return from_array(x, y, name=folder.name, source=str(folder))
