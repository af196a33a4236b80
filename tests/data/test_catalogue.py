import gzip
import io
import socket
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from jensen.data import KNOWN, KnownFile, KnownSet, data_folders, known, load, parsing
from jensen.data.catalogue import digest
from jensen.errors import ConfigError, DataError
from jensen.registry import Registry

SPLITS = {"train": 3, "valid": 2, "test": 2}
BITS = {split: np.eye(4, dtype=np.uint8)[:n] for split, n in SPLITS.items()}


def tiny(**options):
    """A known set of bits in text files."""
    files = {split: [KnownFile(f"tiny/{split}.data", f"https://invalid.invalid/{split}")] for split in SPLITS}
    entry = KnownSet(
        title="Tiny bits",
        source="A test (2026)",
        licence="none",
        splits=SPLITS,
        event_shape=(4,),
        kind="binary",
        parse=parsing.bits(4),
        files=files,
        bundle="tiny/tiny.npz",
        digests={split: digest(x, None) for split, x in BITS.items()},
    )
    return replace(entry, **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of the user and an empty cache, with the sets of the catalogue replaced by tiny ones."""
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sets = {"tiny": tiny(), "loose": tiny(digests={}), "only-test": tiny(splits={"test": 2})}
    monkeypatch.setattr("jensen.data.catalogue.KNOWN", Registry("data set", sets))
    monkeypatch.setattr("jensen.data.reading.KNOWN", Registry("data set", sets))
    (tmp_path / "data" / "tiny").mkdir(parents=True)

    def no_network(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return tmp_path / "data" / "tiny"


def write_texts(folder):
    for split, x in BITS.items():
        (folder / f"{split}.data").write_text("".join(",".join(map(str, row)) + "\n" for row in x.tolist()))


def test_texts_and_bundle_give_the_same(folder):
    write_texts(folder)
    texts = known("tiny", "valid")
    assert np.array_equal(texts.x, BITS["valid"])
    for split in SPLITS:
        (folder / f"{split}.data").unlink()
    np.savez(folder / "tiny.npz", **BITS)
    assert np.array_equal(known("tiny", "valid").x, texts.x)
    both = load("tiny", "train+valid")
    assert len(both) == 5
    assert (both.name, both.schema.kind, both.schema.event_shape) == ("tiny:train+valid", "binary", (4,))
    assert "A test (2026)" in both.source


def test_the_cache_is_looked_at_too(folder):
    cache = data_folders()[-1] / "tiny"
    cache.mkdir(parents=True)
    write_texts(cache)
    assert len(known("tiny", "test")) == 2


def test_other_content_is_refused(folder):
    write_texts(folder)
    (folder / "train.data").write_text("0,0,0,0\n" * 3)
    with pytest.raises(DataError, match=r"train data of tiny in .*train\.data are not the published ones"):
        known("tiny")
    assert len(known("loose")) == 3
    (folder / "train.data").write_text("0,0,0,0\n" * 2)
    with pytest.raises(DataError, match="shape or checksum differ"):
        known("loose")
    (folder / "train.data").write_text("0,0,0\n")
    with pytest.raises(DataError, match="3 cells don't fill rows of 4"):
        known("loose")
    (folder / "tiny.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match="damaged"):
        known("tiny")


def test_files_without_network_are_asked_for(folder):
    with pytest.raises(
        DataError, match=r"can't download https://invalid.invalid/train .*by hand at .*tiny/train\.data"
    ):
        known("tiny")


def test_downloads_go_where_they_are_found_again(folder, monkeypatch):
    asked = []

    def retrieve(address, known_hash, fname, path):
        asked.append((address, known_hash))
        write_texts(path)
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert np.array_equal(known("tiny").x, known("tiny").x)
    assert asked == [("https://invalid.invalid/train", None)]
    assert (folder / "train.data").is_file()


def test_folder_that_cannot_be_written_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: "cache" in str(path) or Path(path) == folder.parents[1])
    with pytest.raises(DataError, match="by hand at"):
        known("tiny")
    assert list(folder.iterdir()) == []


def test_wrong_names_and_splits(folder):
    with pytest.raises(ConfigError, match="unknown data set 'tinny'; did you mean 'tiny'"):
        known("tinny")
    with pytest.raises(ConfigError, match=r"unknown split of only-test 'train'.*There are: test"):
        known("only-test")


def test_published_checksums_of_files_are_held(folder, monkeypatch):
    write_texts(folder)
    file = KnownFile("tiny/train.data", "https://invalid.invalid", sha256="0" * 64)
    entry = tiny(digests={}, files={"train": [file]})
    assert entry.verified == "files"
    monkeypatch.setattr("jensen.data.catalogue.KNOWN", Registry("data set", {"tiny": entry}))
    with pytest.raises(DataError, match="not the published ones"):
        known("tiny")


def test_digits_are_fixed():
    parts = {split: known("digits", split) for split in ("train", "valid", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 1297, "valid": 250, "test": 250}
    assert parts["train"].x.max() == 255
    assert len(np.unique(np.concatenate([part.x for part in parts.values()]), axis=0)) > 1780
    assert all(part.y is not None and len(part.y) == len(part) for part in parts.values())


@pytest.mark.parametrize("name", list(KNOWN))
def test_entries_are_complete(name):
    entry = KNOWN[name]
    assert entry.title
    assert "http" in entry.source or "https" in entry.source
    assert entry.licence
    assert name == "digits" or set(entry.files) == set(entry.splits)
    assert not entry.digests or set(entry.digests) == set(entry.splits)
    assert entry.verified in ("content", "files", "none")
    for files in entry.files.values():
        assert all(file.address.endswith(Path(file.path).name) for file in files)


def test_mnist_keeps_its_last_ten_thousand(tmp_path):
    n = 10_002
    images = np.zeros((n, 2, 2), dtype=np.uint8)
    images[:, 0, 0] = np.arange(n) % 251
    labels = (np.arange(n) % 10).astype(np.uint8)
    paths = []
    for name, array in (("images", images), ("labels", labels)):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        paths.append(tmp_path / f"{name}.gz")
        paths[-1].write_bytes(gzip.compress(header + array.tobytes(), 1))
    train, y = parsing.mnist(paths, "train")
    assert np.array_equal(train, images[:2])
    assert y is not None
    assert y.tolist() == [0, 1]
    assert np.array_equal(parsing.mnist(paths, "valid")[0], images[2:])
    assert len(parsing.mnist(paths, "test")[0]) == n


def test_matlab_images_stand_upright(tmp_path):
    path = tmp_path / "d.mat"
    upright = np.zeros((28, 28))
    upright[3, 5] = 1.0
    flat = upright.T.reshape(784, 1)
    onehot = np.eye(50)[:, [7]]
    savemat(path, {"testdata": flat, "testtarget": onehot, "data": flat.repeat(1347, 1), "target": onehot})
    images, labels = parsing.omniglot([path], "test")
    assert np.argwhere(images[0]).tolist() == [[3, 5]]
    assert images.max() == 255
    assert labels is not None
    assert labels.tolist() == [7]
    savemat(path, {"val_data": flat.T.astype(np.uint8), "val_labels": [[4]]})
    silhouettes, classes = parsing.caltech101([path], "valid")
    assert np.argwhere(silhouettes[0]).tolist() == [[3, 5]]
    assert classes is not None
    assert classes.tolist() == [4]
    savemat(path, {"ff": np.arange(560 * 1965, dtype=np.uint32).reshape(560, 1965).astype(np.uint8)})
    sizes = [parsing.frey_faces([path], split)[0].shape for split in SPLITS]
    assert sizes == [(1565, 28, 20), (200, 28, 20), (200, 28, 20)]
    with pytest.raises(DataError, match="damaged"):
        parsing.omniglot([path], "test")
    path.write_bytes(b"nothing like it")
    with pytest.raises(DataError, match="damaged"):
        parsing.frey_faces([path], "test")


def test_cifar_is_read_without_pickles(tmp_path):
    path = tmp_path / "cifar.tar.gz"
    row = np.concatenate([[6], np.arange(3072) % 256]).astype(np.uint8)
    with tarfile.open(path, "w:gz") as archive:
        for batch in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            content = row.tobytes() * (1001 if batch != "test_batch" else 2)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    x, y = parsing.cifar10([path], "train")
    assert x.shape == (5, 3, 32, 32)
    assert x[0, 1, 0, 3] == (1024 + 3) % 256
    assert y is not None
    assert set(y.tolist()) == {6}
    assert len(parsing.cifar10([path], "valid")[0]) == 5000
    assert len(parsing.cifar10([path], "test")[0]) == 2
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        parsing.cifar10([path], "test")
