"""Data on disk against the same data in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import KINDS, made
from jensen.data import Dataset, Stored, check_matches, exceeds_memory, from_array, read, stored
from jensen.errors import DataError, JensenError, ShapeError, SupportError

polars = pytest.importorskip("polars")
CUTS = (17, 40)
"""Where 60 rows are cut into shards."""


def shards(folder: Path, x: np.ndarray, cuts: tuple[int, ...] = CUTS) -> Path:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.split(x, cuts)):
        np.save(folder / f"part-{number:02}.npy", part)
    return folder


def frame(x: np.ndarray, names: list[str] | None = None) -> Any:
    return polars.DataFrame(
        {name: x[:, i] for i, name in enumerate(names or [f"c{i}" for i in range(x.shape[1])])}
    )


def tables(folder: Path, x: np.ndarray, ending: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(np.split(x, CUTS)):
        write = frame(part).write_parquet if ending == "parquet" else frame(part).write_ipc
        options = {"row_group_size": 5} if ending == "parquet" else {"record_batch_size": 5}
        write(folder / f"part-{number:02}.{ending}", **options)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_shards_are_the_array_they_were_cut_from(tmp_path: Path, kind: str) -> None:
    whole = made(kind)
    data = stored(shards(tmp_path / "s", whole.x), block_rows=4)
    assert (len(data), data.schema, data.name) == (60, whole.schema, "s")
    assert data.counts.tolist() == [4, 4, 4, 4, 1, *[4] * 5, 3, *[4] * 5]
    loaded = data.load()
    assert loaded.x.dtype == whole.x.dtype
    assert np.array_equal(loaded.x, whole.x)
    assert np.array_equal(np.concatenate(list(data.blocks())), whole.x)
    # The reader in memory goes the same way.
    assert np.array_equal(read(tmp_path / "s").x, whole.x)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
@pytest.mark.parametrize("kind", ["uint8", "real"])
def test_tables_are_the_array_they_were_made_of(tmp_path: Path, ending: str, kind: str) -> None:
    whole = made(kind, shape=(3,))
    data = stored(tables(tmp_path / "t", whole.x, ending), block_rows=7)
    assert data.schema == replace(whole.schema, columns=("c0", "c1", "c2"))
    assert np.array_equal(data.load().x, whole.x)
    assert np.array_equal(data.read(1), whole.x[7:14])
    one = next((tmp_path / "t").iterdir())
    assert np.array_equal(read(one).x, stored(one).load().x)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", ">i2", "bool", "<f2"])
def test_every_type_of_cells_is_read_as_in_memory(tmp_path: Path, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 9, (40, 3)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data, whole = stored(tmp_path / "x.npy", block_rows=7), read(tmp_path / "x.npy")
    assert data.schema == whole.schema
    assert np.array_equal(data.load().x, whole.x)
    assert data.load().x.dtype == whole.x.dtype


@pytest.mark.parametrize("late", [0, 59])
def test_what_cells_hold_is_judged_by_all_shards(tmp_path: Path, late: int) -> None:
    x = np.zeros((60, 2))
    x[late, 1] = 3.0
    assert stored(shards(tmp_path / "counts", x), block_rows=4).schema.kind == "counts"
    x[late, 1] = 0.5
    assert stored(shards(tmp_path / "real", x), block_rows=4).schema.kind == "real"
    x[late, 1] = 1.0
    assert stored(shards(tmp_path / "binary", x), block_rows=4).schema.kind == "binary"


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_in_memory(tmp_path: Path, kind: str) -> None:
    x = made(kind).x.astype(np.float64)
    found = stored(shards(tmp_path / "s", made(kind).x), block_rows=4).statistics
    np.testing.assert_allclose(found.plain.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.plain.variance(), x.var(0), rtol=1e-12)
    assert (found.log1p is not None) == (kind == "counts")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.03, 0.99])
def test_a_split_shares_out_every_block_and_loses_nothing(tmp_path: Path, fraction: float) -> None:
    x = np.arange(600.0)[:, None] + 0.5
    data = stored(shards(tmp_path / "s", x, (170, 171)), block_rows=20)
    train, valid = data.split(fraction, seed=3)
    assert len(valid) == round(600 * fraction)
    assert len(train) == 600 - len(valid)
    mine, theirs = train.load().x, valid.load().x
    assert np.array_equal(np.sort(np.concatenate([mine, theirs]), axis=0), x.astype(np.float32))
    # A file that is sorted is represented evenly: no block is off its share by a row.
    assert (np.abs(valid.counts - data.counts * fraction) < 1).all()
    again, other = data.split(fraction, seed=3)[1], data.split(fraction, seed=4)[1]
    assert np.array_equal(again.load().x, theirs)
    assert not np.array_equal(other.load().x, theirs)
    np.testing.assert_allclose(train.statistics.plain.mean, mine.astype(np.float64).mean(0), rtol=1e-13)


def test_a_part_is_not_split_again(tmp_path: Path) -> None:
    train, _ = stored(shards(tmp_path / "s", made("real").x)).split(0.5)
    with pytest.raises(DataError, match="part of a split already"):
        train.split(0.5)
    with pytest.raises(DataError, match="Both need at least one"):
        stored(tmp_path / "s").split(0.001)


def test_a_sample_is_of_different_rows_of_many_blocks(tmp_path: Path) -> None:
    x = np.arange(1000.0)[:, None] + 0.5
    data = stored(shards(tmp_path / "s", x), block_rows=10)
    some = data.some(100, seed=1)
    values = some.x[:, 0].tolist()
    assert len(set(values)) == 100
    assert len({int(value) // 10 for value in values}) > 30
    assert np.array_equal(data.some(100, seed=1).x, some.x)
    assert not np.array_equal(data.some(100, seed=2).x, some.x)
    assert sorted(data.some(5000, seed=1).x[:, 0].tolist()) == x[:, 0].tolist()
    # More rows than fifty blocks have.
    assert len(set(data.some(900, seed=1).x[:, 0].tolist())) == 900


def test_the_checksum_sees_a_changed_byte_and_the_order_of_shards(tmp_path: Path) -> None:
    x = made("uint8").x
    first = stored(shards(tmp_path / "a", x), block_rows=4).checksum
    assert stored(shards(tmp_path / "b", x), block_rows=7).checksum == first
    changed = x.copy()
    changed[31, 2, 1] ^= 1
    assert stored(shards(tmp_path / "c", changed)).checksum != first
    assert stored(shards(tmp_path / "d", x[::-1].copy())).checksum != first


def test_labels_are_left_out(tmp_path: Path) -> None:
    x = made("real", shape=(3,)).x
    table = frame(x, ["a", "label", "b"])
    table.write_parquet(tmp_path / "t.parquet")
    data = stored(tmp_path / "t.parquet", target="label")
    assert (data.schema.columns, data.target) == (("a", "b"), "label")
    assert np.array_equal(data.load().x, x[:, [0, 2]])
    assert stored(tmp_path / "t.parquet", target=-1).schema.columns == ("a", "label")
    words = table.with_columns(label=polars.Series(["cat"] * 60))
    words.write_parquet(tmp_path / "w.parquet")
    assert stored(tmp_path / "w.parquet", target="label").schema.columns == ("a", "b")
    words.write_ipc(tmp_path / "w.arrow")
    with_labels = read(tmp_path / "w.arrow", target="label")
    assert with_labels.y is not None
    assert with_labels.y.tolist() == ["cat"] * 60
    assert with_labels.target == "label"
    with pytest.raises(DataError, match=r"1 columns of its 3 that hold no numbers: 'label' \(String\)"):
        stored(tmp_path / "w.parquet")
    with pytest.raises(DataError, match=r"no column 'mark' for the labels\. It has: a, label, b"):
        stored(tmp_path / "w.parquet", target="mark")


def test_columns_in_another_order_and_columns_that_count_rows(tmp_path: Path) -> None:
    x = made("real", shape=(2,)).x
    for number, names in enumerate((["", "a", "b"], ["", "b", "a"])):
        rows = x if number == 0 else x[:, ::-1]
        part = frame(np.column_stack([np.zeros(60), rows]), names)
        part.with_columns(polars.Series("", np.arange(60) + 60 * number)).write_parquet(
            tmp_path / f"{number}.parquet"
        )
    data = stored(tmp_path)
    assert data.schema.columns == ("a", "b")
    assert np.array_equal(data.load().x, np.concatenate([x, x]))


@pytest.mark.parametrize("kind", KINDS)
def test_witnesses_speak_for_all_data(tmp_path: Path, kind: str) -> None:
    data = stored(shards(tmp_path / "s", made(kind).x))
    halves = np.array([[0.0, 0.5], [1.0, 1.0], [0.0, 0.0]])
    np.save(tmp_path / "halves.npy", halves)
    assert stored(tmp_path / "halves.npy").witnesses().x[:, 0].tolist() == [0, 1, 0.5]
    for wanted in KINDS:
        schema = made(wanted).schema
        outcomes: list[type[JensenError] | None] = []
        for dataset in (data.load(), data.witnesses()):
            try:
                check_matches(schema, dataset)
                outcomes.append(None)
            except SupportError:
                outcomes.append(SupportError)
        assert outcomes[0] == outcomes[1], wanted


def test_finding_what_a_check_refuses(tmp_path: Path) -> None:
    data = stored(shards(tmp_path / "s", made("real").x), block_rows=4)

    def refuse(x: np.ndarray) -> None:
        if np.array_equal(x[0], made("real").x[21].astype(np.float32)):
            raise SupportError("no")

    with pytest.raises(SupportError, match=r"rows 4 to 7 of .*part-01\.npy: no"):
        data.find(refuse)


def spoil_shape(folder: Path) -> None:
    np.save(folder / "part-01.npy", np.zeros((5, 4, 5)))


def spoil_type(folder: Path) -> None:
    np.save(folder / "part-01.npy", made("real").x[:5].astype(np.float64))


def spoil_rows(folder: Path) -> None:
    np.save(folder / "part-01.npy", np.zeros((0, 4, 4), np.float32))


def spoil_bytes(folder: Path) -> None:
    path = folder / "part-01.npy"
    path.write_bytes(path.read_bytes()[:-10])


def spoil_order(folder: Path) -> None:
    np.save(folder / "part-01.npy", np.asfortranarray(made("real").x[:5]))


def spoil_format(folder: Path) -> None:
    frame(np.zeros((3, 2))).write_parquet(folder / "x.parquet")


def spoil_content(folder: Path) -> None:
    (folder / "part-01.npy").write_bytes(b"")


def spoil_labels(folder: Path) -> None:
    np.save(folder / "part-99-labels.npy", np.zeros(60))


def spoil_objects(folder: Path) -> None:
    np.save(folder / "part-01.npy", np.array([[None]]), allow_pickle=True)


def spoil_cell(folder: Path) -> None:
    x = made("real").x[17:40].copy()
    x[9, 2, 1] = np.nan
    x[10, 0, 0] = np.inf
    np.save(folder / "part-01.npy", x)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            spoil_shape,
            ShapeError,
            r"part-01\.npy has data of shape \(4, 5\), .*part-00\.npy of shape \(4, 4\)",
        ),
        (spoil_type, DataError, r"part-01\.npy has cells of type float64, .*part-00\.npy of type float32"),
        (spoil_rows, DataError, r"part-01\.npy has no rows: its shape is \(0, 4, 4\)"),
        (spoil_bytes, DataError, r"part-01\.npy is damaged or cut off"),
        (spoil_order, DataError, r"part-01\.npy is stored column by column"),
        (spoil_format, DataError, r"mixes \.npy \(part-00\.npy\) and \.parquet \(x\.parquet\)"),
        (spoil_content, DataError, r"part-01\.npy is empty"),
        (spoil_labels, DataError, r"part-99-labels\.npy has shape \(60,\).*looks like labels"),
        (spoil_objects, DataError, r"part-01\.npy holds pickled Python objects, which jensen never loads"),
        (
            spoil_cell,
            DataError,
            r"part-01\.npy has a cell that is NaN, infinite or missing at row 9, cell \(2, 1\) .*"
            r"the first of 2 in rows 8 to 11 of",
        ),
    ],
)
def test_bad_shards_are_named(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    folder = shards(tmp_path / "s", made("real").x)
    assert len(stored(folder)) == 60
    spoil(folder)
    with pytest.raises(error, match=message):
        stored(folder, block_rows=4)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_bad_tables_are_named(tmp_path: Path, ending: str) -> None:
    folder = tables(tmp_path / "t", made("real", shape=(3,)).x, ending)

    def write(table: Any) -> None:
        path = folder / f"part-01.{ending}"
        table.write_parquet(path) if ending == "parquet" else table.write_ipc(path)

    write(frame(np.zeros((5, 4), np.float32)))
    with pytest.raises(
        ShapeError, match=r"part-01\.\w+ has other columns .*also 'c3' \(4 columns against 3\)"
    ):
        stored(folder)
    write(frame(np.zeros((5, 3), np.float32), ["c0", "c1", "x"]))
    with pytest.raises(ShapeError, match="it lacks 'c2' and has also 'x'"):
        stored(folder)
    write(frame(np.zeros((5, 3))))
    with pytest.raises(DataError, match=r"part-01\.\w+ has cells of type float64, .* of type float32"):
        stored(folder)
    write(frame(np.zeros((0, 3), np.float32)))
    with pytest.raises(DataError, match=r"part-01\.\w+ has no rows"):
        stored(folder)
    gap = frame(np.ones((9, 3), np.float32)).with_columns(
        c1=polars.when(polars.int_range(9) == 7).then(None).otherwise(polars.col("c1"))
    )
    write(gap)
    with pytest.raises(DataError, match=r"part-01\.\w+ has a cell .* missing at row 7, column 1 \('c1'\)"):
        stored(folder, block_rows=4)
    path = folder / f"part-01.{ending}"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-01\.\w+ is damaged or cut off"):
        stored(folder)


@pytest.mark.parametrize("ending", ["npy", "parquet", "arrow"])
def test_shards_that_go_away_are_named(tmp_path: Path, ending: str) -> None:
    x = made("real", shape=(3,)).x
    folder = shards(tmp_path / "s", x) if ending == "npy" else tables(tmp_path / "s", x, ending)
    data = stored(folder, block_rows=4)
    path = folder / f"part-01.{ending}"
    content = path.read_bytes()
    blocks = [number for number in range(len(data.counts)) if "part-01" in data.place(number)]
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"part-01\.{ending} can't be read any more .*--resume"):
        data.read(blocks[-1])
    path.unlink()
    with pytest.raises(DataError, match=rf"part-01\.{ending} can't be read any more .*--resume"):
        data.read(blocks[0])
    path.write_bytes(content)
    assert np.array_equal(data.load().x, x)


def test_paths_that_hold_no_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing doesn't exist"):
        stored(tmp_path / "nothing")
    (tmp_path / "x.csv").write_text("a,b\n1.5,2\n", encoding="utf8")
    for path in (tmp_path, tmp_path / "x.csv"):
        with pytest.raises(DataError, match="can't be read from disk by rows"):
            stored(path)
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    with pytest.raises(DataError, match="is no table, so it has no column 'a'"):
        stored(tmp_path / "x.npy", target="a")
    with pytest.raises(DataError, match="block_rows=0"):
        stored(tmp_path / "x.npy", block_rows=0)


def test_values_that_float32_can_not_hold(tmp_path: Path) -> None:
    x = made("real").x.astype(np.float64)
    x[50, 0, 0] = 1e39
    with pytest.raises(DataError, match="float32 can't hold"):
        stored(shards(tmp_path / "s", x))


def test_when_data_had_better_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards(tmp_path / "s", made("uint8").x)
    assert not exceeds_memory(folder)
    # 60 data of 16 cells as float32, four times.
    monkeypatch.setattr("jensen.data.memory.available", lambda: 60 * 16 * 4 * 4 - 1)
    assert exceeds_memory(folder)
    monkeypatch.setattr("jensen.data.memory.available", lambda: 60 * 16 * 4 * 4)
    assert not exceeds_memory(folder)
    monkeypatch.setattr("jensen.data.memory.available", lambda: 0)
    assert exceeds_memory(folder / "part-00.npy")
    # The readers in memory say what is wrong with what can't be streamed.
    spoil_order(folder)
    assert not exceeds_memory(folder)
    (tmp_path / "x.csv").write_text("a,b\n1.5,2\n", encoding="utf8")
    assert not exceeds_memory(tmp_path / "x.csv")
    assert not exceeds_memory(tmp_path / "nothing.npy")


def test_types() -> None:
    """A Stored looks like a Dataset where one only asks for its description."""
    for name in ("schema", "name", "source", "dynamic", "target", "y"):
        assert name in Dataset.__dataclass_fields__
        assert hasattr(Stored, name) or name in Stored.__dataclass_fields__
    assert len(from_array([[0.5]])) == 1
