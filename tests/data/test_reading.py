import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from jensen.data import load, read, write
from jensen.errors import ConfigError, DataError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array, code=0x08):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_npz_gives_data_labels_and_names(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=[[0.5, 1.0], [2.0, 3.0]], y=[1, 0], columns=["a", "b"])
    dataset = read(path)
    assert dataset.y is not None
    assert dataset.y.tolist() == [1, 0]
    assert dataset.schema.columns == ("a", "b")
    np.savez(path, anything=[[0.5, 1.0]])
    assert read(str(path)).x.tolist() == [[0.5, 1.0]]


def test_npz_with_splits_asks_for_one(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, train=[[0.5]], test=[[1.5]])
    with pytest.raises(DataError, match=r"several arrays \(test, train\).*d\.npz:train"):
        read(path)
    assert read(f"{path}:test").x.tolist() == [[1.5]]
    assert load(f"{path}:test").name == "d:test"
    with pytest.raises(DataError, match=r"no array 'valid'. It has: test, train"):
        read(f"{path}:valid")
    np.savez(path)
    with pytest.raises(DataError, match="holds no array"):
        read(path)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pickles_are_never_loaded(tmp_path, ending):
    path = tmp_path / f"d.{ending}"
    save = np.save if ending == "npy" else np.savez
    save(path, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects, which jensen never loads"):
        read(path)


@pytest.mark.parametrize(("name", "other"), [("d.npy", ".npz"), ("d.npz", ".npy")])
def test_files_of_another_format_are_told_apart(tmp_path, name, other):
    write(tmp_path / f"e{other}", [[0.5]])
    (tmp_path / f"e{other}").rename(tmp_path / name)
    with pytest.raises(DataError, match=rf"holds the format \{other}.*Rename"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps([[0.5]]))
    with pytest.raises(DataError, match="pickles are never loaded"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["d.npy", "d.npz", "d-idx3-ubyte", "d-idx3-ubyte.gz", "d.parquet", "d/a.png"]
)
def test_cut_files_are_damaged(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(("npy", "npz")):
        write(path, np.arange(100.0).reshape(10, 10))
    elif name.endswith("parquet"):
        polars = pytest.importorskip("polars")
        polars.DataFrame({"a": [1.5, 2.5]}).write_parquet(path)
    elif name.endswith("png"):
        noise = np.random.default_rng(0).integers(0, 255, (20, 20), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    else:
        content = idx(np.random.default_rng(0).integers(0, 255, (5, 9, 9), dtype=np.uint8))
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    target = path.parent if name.endswith("png") else path
    read(target)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=r"damaged or cut off.*fresh copy"):
        read(target)


@pytest.mark.parametrize("name", ["d.npy", "d.npz", "d.csv", "d.parquet", "d-idx3-ubyte.gz"])
def test_empty_files_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["d-idx3-ubyte", "d-idx3-ubyte.gz", "d.idx3-ubyte", "d.idx", "d.IDX3.gz"])
def test_idx_is_read_plain_or_gzipped(tmp_path, name):
    content = idx(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(content) if "gz" in name else content)
    dataset = read(tmp_path / name)
    assert np.array_equal(dataset.x, IMAGES)
    assert dataset.schema.kind == "uint8"
    # torch warns of arrays that it may not write to.
    assert dataset.x.flags.writeable


def test_idx_of_larger_cells_is_big_endian(tmp_path):
    path = tmp_path / "d.idx"
    path.write_bytes(idx(np.array([[0.5, -2.0]], dtype=np.float32), code=0x0D))
    assert read(path).x.tolist() == [[0.5, -2.0]]


def test_idx_refuses_labels_and_nonsense(tmp_path):
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.array([1, 2], dtype=np.uint8)))
    with pytest.raises(DataError, match=r"labels in place of data.*as in train-images-idx3-ubyte"):
        read(labels)
    path = tmp_path / "d.idx"
    path.write_bytes(b"hello there")
    with pytest.raises(DataError, match="no IDX file: it begins with b'hell'"):
        read(path)
    path.write_bytes(struct.pack(">4B2I", 0, 0, 8, 2, 2**31, 2**31))
    with pytest.raises(DataError, match=r"damaged.*more than it can hold"):
        read(path)
    path.write_bytes(idx(IMAGES) + b"!")
    with pytest.raises(DataError, match=r"damaged.*it has more"):
        read(path)
    path.write_bytes(struct.pack(">4BH", 0, 0, 8, 2, 2))
    with pytest.raises(DataError, match="ends in its header"):
        read(path)


def test_missing_paths_name_what_is_near(tmp_path):
    write(tmp_path / "digits_train.npy", [[0.5]])
    with pytest.raises(
        DataError, match=r"doesn't exist. Did you mean .*digits_train\.npy or the known data set 'digits'\?"
    ):
        read(tmp_path / "digits-train.npy")
    with pytest.raises(DataError, match="Did you mean the known data set 'mnist'"):
        read(tmp_path / "mnits.npy")
    with pytest.raises(DataError, match=r"There is no folder .*nowhere"):
        read(tmp_path / "nowhere" / "x.npy")
    with pytest.raises(DataError, match="Check the path, or give a known data set"):
        read(tmp_path / "qqqq.npy")


def test_unknown_endings_and_targets_are_refused(tmp_path):
    path = tmp_path / "d.txt"
    path.write_text("1 2\n")
    with pytest.raises(DataError, match=r"unknown ending '\.txt'. Give \.npy"):
        read(path)
    with pytest.raises(DataError, match="is no table"):
        read(path, target="a")


def test_load_takes_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("toy.npy", [[0.5]])
    assert load("toy.npy").x.tolist() == [[0.5]]
    assert len(load("digits", "valid")) == len(load("digits:valid")) == 250
    with pytest.raises(DataError, match=r"no known data set, and no path.*Did you mean 'digits'"):
        load("digist")
    with pytest.raises(ConfigError, match="unknown split of digits 'tset'; did you mean 'test'"):
        load("digits:tset")


def save_images(folder, images):
    for name, image in images.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        image.save(folder / name)


def test_folder_of_gray_and_of_colour_images(tmp_path):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 255, (2, 5, 4, 3), dtype=np.uint8)
    save_images(tmp_path / "colour", {f"{i}.png": Image.fromarray(cells[i]) for i in range(2)})
    (tmp_path / "colour" / "notes.txt").write_text("not an image")
    dataset = read(tmp_path / "colour")
    assert dataset.x.shape == (2, 3, 5, 4)
    assert np.array_equal(dataset.x, cells.transpose(0, 3, 1, 2))
    save_images(tmp_path / "gray", {f"{i}.png": Image.fromarray(cells[i, ..., 0]) for i in range(2)})
    assert np.array_equal(read(tmp_path / "gray").x, cells[..., 0])
    save_images(tmp_path / "bits", {"a.png": Image.fromarray(cells[0, ..., 0] > 99)})
    assert read(tmp_path / "bits").schema.kind == "binary"
    palette = Image.fromarray(cells[0]).convert("P")
    save_images(tmp_path / "palette", {"a.png": palette})
    assert read(tmp_path / "palette").x.shape == (1, 3, 5, 4)


def test_subfolders_are_classes(tmp_path):
    images = {f"{name}/{i}.png": Image.new("L", (2, 2), 9) for name in ("cat", "ape") for i in range(2)}
    save_images(tmp_path, images)
    dataset = read(tmp_path)
    assert dataset.y is not None
    assert dataset.y.tolist() == [0, 0, 1, 1]
    Image.new("L", (2, 2)).save(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"images beside folders of images \(ape, cat\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Image.new("L", (3, 2)), r"b.png has 2x3 pixels but a.png has 2x2. Resize"),
        (Image.new("RGB", (2, 2)), "b.png is colour but a.png is gray. Convert"),
        (Image.new("RGBA", (2, 2)), "mode 'RGBA'.*8-bit gray or RGB"),
    ],
)
def test_images_must_be_alike(tmp_path, second, message):
    save_images(tmp_path, {"a.png": Image.new("L", (2, 2)), "b.png": second})
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_folder_without_images(tmp_path):
    with pytest.raises(DataError, match=r"has no images.*Give a folder of images"):
        read(tmp_path)
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.png is damaged"):
        read(tmp_path)
