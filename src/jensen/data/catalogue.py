"""The known data sets: what they are, where they come from, and how they are loaded."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jensen.data import parsing
from jensen.data.dataset import Dataset, Kind, Schema
from jensen.data.fetching import KnownFile, fetch, find, has_checksum
from jensen.data.numpy_files import damaged
from jensen.data.parsing import Parsed
from jensen.errors import ConfigError, DataError, unknown
from jensen.registry import Registry

_BOTH = "train+valid"


@dataclass(frozen=True)
class KnownSet:
    """A data set that is known by name.

    Attributes:
        title: What it shows.
        source: Title, year and address of the publication.
        licence: As stated at the source.
        splits: Their names and numbers of data.
        event_shape: Shape of one datum.
        kind: What a cell holds.
        parse: Makes data and labels of a split from its files.
        files: The files of each split; none for data that come with a dependency.
        bundle: The place below the data folder of a .npz file that holds every split under its name; used in
            place of ``files`` where it is there.
        digests: The sha256 of each split's cells and labels as they were when this entry was written.
        dynamic: Whether intensities stand for probabilities of binary cells.
        note: What to know before using it.
    """

    title: str
    source: str
    licence: str
    splits: Mapping[str, int]
    event_shape: tuple[int, ...]
    kind: Kind
    parse: Callable[[Sequence[Path], str], Parsed]
    files: Mapping[str, Sequence[KnownFile]] = field(default_factory=dict[str, Sequence[KnownFile]])
    bundle: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    dynamic: bool = False
    note: str = ""

    @property
    def verified(self) -> Literal["content", "files", "none"]:
        """How far the data can be trusted to be the published ones.

        Returns:
            "content" if every load is held against a checksum of the data themselves, which were read and
            looked at when this entry was written; "files" if only the published checksums of the files are
            known; "none" if not even these are: then only shapes and values are checked.
        """
        if set(self.digests) >= set(self.splits):
            return "content"
        known = all(file.sha256 is not None for files in self.files.values() for file in files)
        return "files" if known else "none"


def digest(x: NDArray[np.generic], y: NDArray[np.generic] | None) -> str:
    """The checksum of data and labels, however they were stored.

    Args:
        x: Data, (n, *event) uint8.
        y: Labels (n,), or None.

    Returns:
        The sha256 in hexadecimal digits.
    """
    content = hashlib.sha256(np.ascontiguousarray(x).view(np.uint8).data)
    if y is not None:
        content.update(y.astype("<i8").data)
    return content.hexdigest()


def _mnist_files(folder: str, address: str, sha256: Mapping[str, str]) -> dict[str, Sequence[KnownFile]]:
    """The four files of a set of the MNIST family, those that there are."""
    names = {"train": "train", "valid": "train", "test": "t10k"}
    files = {
        split: [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"]
        for split, prefix in names.items()
    }
    return {
        split: [KnownFile(f"{folder}/{name}", f"{address}/{name}", sha256[name]) for name in both]
        for split, both in files.items()
        if all(name in sha256 for name in both)
    }


def _text_files(folder: str, address: str, name: str) -> dict[str, Sequence[KnownFile]]:
    """One text file for each split; ``name`` has a place for the split."""
    return {
        split: [KnownFile(f"{folder}/{name.format(split)}", f"{address}/{name.format(split)}")]
        for split in ("train", "valid", "test")
    }


def _one_file(path: str, address: str, sha256: str | None = None) -> dict[str, Sequence[KnownFile]]:
    """One file that holds all splits."""
    return {split: [KnownFile(path, address, sha256)] for split in ("train", "valid", "test")}


def _density(name: str, title: str, columns: int, sizes: Sequence[int], digests: Sequence[str]) -> KnownSet:
    """One of the twenty binary sets on which tractable density models are compared."""
    splits = ("train", "valid", "test")
    return KnownSet(
        title=title,
        source="Markov Network Structure Learning: A Randomized Feature Generation Approach (2012), "
        "Van Haaren and Davis; https://github.com/UCLA-StarAI/Density-Estimation-Datasets",
        licence="not stated",
        splits=dict(zip(splits, sizes, strict=True)),
        event_shape=(columns,),
        kind="binary",
        parse=parsing.bits(columns),
        files=_text_files(
            "binary-density",
            "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/"
            + name,
            name + ".{}.data",
        ),
        bundle=f"binary-density/{name}.npz",
        digests=dict(zip(splits, digests, strict=True)),
    )


_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_NOTMNIST_SHA256 = {
    "t10k-images-idx3-ubyte.gz": "70ae9e06201f2827e5b0a3781a3169d735dd2efc69996b9eeaee7f10ed4044d7",
    "t10k-labels-idx1-ubyte.gz": "1fa03836e01c862542f8eb83463bb951bebec6fcb3efa28dad748c6b38a9021b",
}
_MNIST_SPLITS = {"train": 50_000, "valid": 10_000, "test": 10_000}
_MNIST_DIGESTS = {
    "train": "fcd4fc49d5faa9ca9ce0f5fe1f95353c61f33f6315475c7e03eeb2a26d742b29",
    "valid": "6e945a5890e790ebf098a4663409c3db7d7e4159020b9337a006480ec1b379fa",
    "test": "a0863a96c44e5666edbb30c4071ee79ca0514c621e6349c5967fc78e7305c891",
}
_MNIST_SOURCE = (
    "Gradient-Based Learning Applied to Document Recognition (1998), LeCun et al.; "
    "http://yann.lecun.com/exdb/mnist/"
)
_MNIST_LICENCE = "none stated by the authors; often given as CC BY-SA 3.0"
_MNIST_FILES = _mnist_files("mnist", "https://ossci-datasets.s3.amazonaws.com/mnist", _MNIST_SHA256)

KNOWN: Registry[KnownSet] = Registry(
    "data set",
    {
        "digits": KnownSet(
            title="Handwritten digits, 8x8 pixels; they come with scikit-learn",
            source="Optical Recognition of Handwritten Digits (1998), Alpaydin and Kaynak; "
            "https://doi.org/10.24432/C50P49",
            licence="CC BY 4.0",
            splits={"train": 1297, "valid": 250, "test": 250},
            event_shape=(8, 8),
            kind="uint8",
            parse=parsing.digits,
            digests={
                "train": "5687d9c844430d52ddbdd02ba5fe637c1439e656c1ec7427de5004d4a3706c12",
                "valid": "6b0f955f63ceeae4b7f76c6452da02b5bb7376158910b2d212ec38c24085b55c",
                "test": "a2285d34999f9a4a5a32b311b4549de9b2412b3c40c63456373ff7b2fa821f47",
            },
            note="Intensities 0..16 scaled to 0..255 and rounded; the splits are jensen's own.",
        ),
        "mnist": KnownSet(
            title="Handwritten digits, 28x28 pixels",
            source=_MNIST_SOURCE,
            licence=_MNIST_LICENCE,
            splits=_MNIST_SPLITS,
            event_shape=(28, 28),
            kind="uint8",
            parse=parsing.mnist,
            files=_MNIST_FILES,
            digests=_MNIST_DIGESTS,
            note="The validation data are the last 10,000 of the published 60,000 training data.",
        ),
        "mnist-static": KnownSet(
            title="MNIST in fixed black and white, drawn once from its intensities",
            source="The Neural Autoregressive Distribution Estimator (2011), Larochelle and Murray; "
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            licence=_MNIST_LICENCE,
            splits=_MNIST_SPLITS,
            event_shape=(784,),
            kind="binary",
            parse=parsing.bits(784),
            files=_text_files(
                "mnist-static",
                "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist",
                "binarized_mnist_{}.amat",
            ),
            bundle="mnist-static/binarized_mnist.npz",
            digests={
                "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
                "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
                "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
            },
            note="Its test data are sorted by digit, and the others are not in MNIST's order: the first "
            "thousand are all zeros, about 10 nats harder than the mean. Shuffle before taking a part.",
        ),
        "mnist-dynamic": KnownSet(
            title="MNIST in black and white, drawn afresh from its intensities in each epoch",
            source=_MNIST_SOURCE,
            licence=_MNIST_LICENCE,
            splits=_MNIST_SPLITS,
            event_shape=(28, 28),
            kind="binary",
            parse=parsing.mnist,
            files=_MNIST_FILES,
            digests=_MNIST_DIGESTS,
            dynamic=True,
            note="Numbers on it and on mnist-static can't be compared.",
        ),
        "fashion-mnist": KnownSet(
            title="Articles of clothing, 28x28 pixels",
            source="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms "
            "(2017), Xiao, Rasul and Vollgraf; https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            splits=_MNIST_SPLITS,
            event_shape=(28, 28),
            kind="uint8",
            parse=parsing.mnist,
            files=_mnist_files(
                "fashion-mnist",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                _FASHION_SHA256,
            ),
            note="The validation data are the last 10,000 of the published 60,000 training data.",
        ),
        "notmnist": KnownSet(
            title="Letters A to J of many fonts, 28x28 pixels; for out-of-distribution checks",
            source="notMNIST (2011), Bulatov; https://github.com/davidflanagan/notMNIST-to-MNIST",
            licence="none; published there with the author's permission",
            splits={"test": 10_000},
            event_shape=(28, 28),
            kind="uint8",
            parse=parsing.mnist,
            files=_mnist_files(
                "notmnist",
                "https://raw.githubusercontent.com/davidflanagan/notMNIST-to-MNIST/"
                "17823f4d4a3acd8317c07866702d2eb2ac79c7a0",
                _NOTMNIST_SHA256,
            ),
            digests={"test": "9d7ef32649b80d1f676c71420671f8a21518cd9cb37118922014703959a5ae04"},
        ),
        "omniglot": KnownSet(
            title="Letters of fifty alphabets, 28x28 pixels, drawn afresh from intensities in each epoch",
            source="Importance Weighted Autoencoders (2015), Burda, Grosse and Salakhutdinov; "
            "https://github.com/yburda/iwae",
            licence="not stated; Omniglot itself (Lake et al., 2015) is MIT",
            splits={"train": 23_000, "valid": 1_345, "test": 8_070},
            event_shape=(28, 28),
            kind="binary",
            parse=parsing.omniglot,
            files=_one_file(
                "omniglot/chardata.mat",
                "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
            ),
            dynamic=True,
            note="The validation data are jensen's own choice from the published 24,345 training data.",
        ),
        "caltech101-silhouettes": KnownSet(
            title="Silhouettes of objects of 101 classes, 28x28 pixels, black and white",
            source="Inductive Principles for Restricted Boltzmann Machine Learning (2010), Marlin et al.; "
            "https://people.cs.umass.edu/~marlin/data.shtml",
            licence="not stated",
            splits={"train": 4_100, "valid": 2_264, "test": 2_307},
            event_shape=(28, 28),
            kind="binary",
            parse=parsing.caltech101,
            files=_one_file(
                "caltech101-silhouettes/caltech101_silhouettes_28_split1.mat",
                "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
            ),
            note="Cells are as in the file; some authors exchange 0 and 1.",
        ),
        "frey-faces": KnownSet(
            title="One face in 1,965 pictures of a film, 28x20 pixels",
            source="Frey Faces, Roweis and Frey; https://cs.nyu.edu/~roweis/data.html",
            licence="not stated",
            splits={"train": 1_565, "valid": 200, "test": 200},
            event_shape=(28, 20),
            kind="uint8",
            parse=parsing.frey_faces,
            files=_one_file(
                "frey-faces/frey_rawface.mat", "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
            ),
            note="The splits are jensen's own: a fixed permutation, since neighbours in the film look alike.",
        ),
        "cifar10": KnownSet(
            title="Photographs of ten classes, 32x32 pixels, in colour",
            source="Learning Multiple Layers of Features from Tiny Images (2009), Krizhevsky; "
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="not stated",
            splits={"train": 45_000, "valid": 5_000, "test": 10_000},
            event_shape=(3, 32, 32),
            kind="uint8",
            parse=parsing.cifar10,
            files=_one_file(
                "cifar10/cifar-10-binary.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
            note="The validation data are the last 5,000 of the published 50,000 training data.",
        ),
        "nltcs": _density(
            "nltcs",
            "National Long Term Care Survey: 16 disabilities of elderly people, yes or no",
            16,
            (16_181, 2_157, 3_236),
            (
                "73385b66808848c9fb7380fbe1581f56108da45a2c07c3d6fa4049d84e573243",
                "41bb0f2f25694dbc5f9d29a1a01df5a0832b7dfaf113fc52726c691130798391",
                "72c1a049d0fa72c165ca12d830a7523f9e8365f25e4adb01f170c480dcded06a",
            ),
        ),
        "plants": _density(
            "plants",
            "In which of 69 regions of North America a plant grows",
            69,
            (17_412, 2_321, 3_482),
            (
                "3eaa89d06027568f7aea9f5ea3d64a0a81c6be2d146b5bbe8e012b76ce101f46",
                "eadd45dd8d884cf6e3cc0c88a0367ba44142e36bbcdf502c0e3cf461cb435bcd",
                "52371eb14299c29040c94af09a820d5a3f9038765174728cfcf14eaccc3c0369",
            ),
        ),
        "dna": _density(
            "dna",
            "Splice junctions: 60 bases of DNA, three bits each",
            180,
            (1_600, 400, 1_186),
            (
                "922e56f8c6c678f5f5cf3199ac80782855dc0121db2afcb247af12e0e29f2a0f",
                "4793c5edd798f7c884a969820f1a9c65888d2d0205200384fce23b9ff8f1568f",
                "183aa2a8acb410c9d950e26030da5b30e3176da04b2ed2566c03565a5c3479a1",
            ),
        ),
    },
)
"""The known data sets by name."""


def known(name: str, split: str = "train") -> Dataset:
    """Loads a known data set, from the disk where its files are there, else by download.

    Files are looked for below the folder that the environment variable JENSEN_DATA names, which may be
    read-only, then in the user's cache. They are held against checksums where these are known.

    Args:
        name: Its name in ``KNOWN``.
        split: One of its splits, or "train+valid".

    Returns:
        The data set; x is uint8.

    Raises:
        ConfigError: If there is no data set or split of that name.
        DataError: If its files can't be had, are damaged, or are not the published ones.

    Example:
        >>> digits = known("digits", "test")
        >>> len(digits), digits.schema.event_shape, digits.schema.kind
        (250, (8, 8), 'uint8')
    """
    entry = KNOWN[name]
    parts = _BOTH.split("+")
    choices = [*entry.splits, *([_BOTH] if set(parts) <= set(entry.splits) else [])]
    if split not in choices:
        raise ConfigError(unknown(f"split of {name}", split, choices))
    if split == _BOTH:
        loaded = [_load_split(name, entry, part) for part in parts]
        x = np.concatenate([x for x, _ in loaded])
        labels = [y for _, y in loaded if y is not None]
        y = np.concatenate(labels) if labels else None
    else:
        x, y = _load_split(name, entry, split)
    return Dataset(
        x=x,
        schema=Schema(event_shape=entry.event_shape, kind=entry.kind),
        y=y,
        name=f"{name}:{split}",
        source=f"{entry.title}. {entry.source}. Licence: {entry.licence}.",
        dynamic=entry.dynamic,
    )


def _load_split(name: str, entry: KnownSet, split: str) -> Parsed:
    """Data and labels of one split, checked."""
    bundle = None if entry.bundle is None else find(entry.bundle)
    if bundle is not None:
        paths, (x, y) = [bundle], _from_bundle(bundle, split)
    else:
        files = entry.files.get(split, ())
        paths = [fetch(file) for file in files]
        if split not in entry.digests:
            for file, path in zip(files, paths, strict=True):
                if file.sha256 is not None and not has_checksum(path, file.sha256):
                    raise _not_published(name, split, paths)
        x, y = entry.parse(paths, split)
    expected = (entry.splits[split], *entry.event_shape)
    if x.shape != expected or x.dtype != np.uint8 or (y is not None and len(y) != len(x)):
        raise _not_published(name, split, paths)
    if entry.kind == "binary" and not entry.dynamic and x.max() > 1:
        raise _not_published(name, split, paths)
    if split in entry.digests and digest(x, y) != entry.digests[split]:
        raise _not_published(name, split, paths)
    return np.ascontiguousarray(x), y


def _from_bundle(path: Path, split: str) -> Parsed:
    """The array of a split from a .npz file."""
    import zipfile
    import zlib

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return archive[split], None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, error) from error


def _not_published(name: str, split: str, paths: Sequence[Path]) -> DataError:
    """The error for files with another content than the published one."""
    where = ", ".join(str(path) for path in paths) or "the installed scikit-learn"
    return DataError(
        f"the {split} data of {name} in {where} are not the published ones: shape or checksum differ. "
        "Delete the files, so that they are fetched anew, or load them as your own data by their path."
    )
