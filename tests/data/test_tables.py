import sys
from datetime import date

import pytest

from jensen.data import read
from jensen.errors import DataError

polars = pytest.importorskip("polars")


@pytest.fixture
def table(tmp_path):
    def make(text, name="t.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return make


@pytest.mark.parametrize(
    ("text", "columns", "x"),
    [
        ("1.5,2\n3,4\n", None, [[1.5, 2], [3, 4]]),
        ("a,b\n1.5,2\n", ("a", "b"), [[1.5, 2]]),
        ("a,2001\n1.5,2\n", ("a", "2001"), [[1.5, 2]]),
        ("a;b\n1.5;2\n", ("a", "b"), [[1.5, 2]]),
        ("a\tb\n1.5\t2\n", ("a", "b"), [[1.5, 2]]),
        ("\ufeffa,b\n1.5,2\n", ("a", "b"), [[1.5, 2]]),
        ('"a, of b",c\n1.5,2\n', ("a, of b", "c"), [[1.5, 2]]),
        ("1.5, 2\n3 , 4\n", None, [[1.5, 2], [3, 4]]),
        ("rownames,a\n1,5.5\n2,6.5\n", ("a",), [[5.5], [6.5]]),
        (",a\n0,5.5\n1,6.5\n", ("a",), [[5.5], [6.5]]),
        ("1.5,2\r\n3,4\r\n\r\n", None, [[1.5, 2], [3, 4]]),
        ("1.5\n2\n\n", None, [[1.5], [2]]),
    ],
)
def test_csv_forms(table, text, columns, x):
    dataset = read(table(text))
    assert dataset.schema.columns == columns
    assert dataset.x.tolist() == x


def test_numbers_may_turn_to_text_late(table):
    path = table("1.5,1\n" * 300 + "2.5,oops\n")
    with pytest.raises(DataError, match=r"text in 1 of its 2 columns: 'column 2' has 'oops'. Encode"):
        read(path)


def test_text_names_columns_and_examples(table):
    path = table("size,kind,site\n1.5,red,A\n2.5,blue,B\n")
    with pytest.raises(
        DataError, match=r"text in 2 of its 3 columns: 'kind' has 'red'; 'site' has 'A'.*Encode"
    ):
        read(path)


@pytest.mark.parametrize("gap", ["", "?", " ?", "NA", "nan"])
def test_missing_cells_are_counted_by_column(table, gap):
    path = table(f"a,b,c\n1.5,2,3\n4,{gap},6\n7,{gap},{gap}\n1,2,3\n")
    with pytest.raises(DataError, match=r"3 missing cells, in the columns 'b' \(2\), 'c' \(1\). Fill"):
        read(path)


def test_target_becomes_labels(table):
    path = table("size,kind\n1.5,red\n2.5,blue\n")
    for target in ("kind", -1, 1):
        dataset = read(path, target=target)
        assert dataset.y is not None
        assert dataset.y.tolist() == ["red", "blue"]
        assert dataset.schema.columns == ("size",)
    with pytest.raises(DataError, match=r"no column 'colour'.*size, kind"):
        read(path, target="colour")
    with pytest.raises(DataError, match="no column 2 for the labels: it has 2"):
        read(path, target=2)
    with pytest.raises(DataError, match="1 missing labels in column 'kind'"):
        read(table("size,kind\n1.5,red\n2.5,\n"), target="kind")
    with pytest.raises(DataError, match="no column of data"):
        read(table("kind\n1\n"), target="kind")
    whole = read(table("size,kind\n1.5,1.0\n2.5,2\n"), target=-1).y
    assert whole is not None
    assert whole.dtype.kind == "i"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "header but no rows"),
        ("\n\n", "has no rows"),
        ("a,b\n1.5,2\n3,4,5\n", "has 3 cells in line 3, but 2 in its first line"),
        ("1.5,2\n3,4,5\n", r"1 missing cells, in the columns 'column 3'"),
        ("a,a\n1.5,2\n", "column name 'a' more than once"),
    ],
)
def test_bad_csv(table, text, message):
    with pytest.raises(DataError, match=message):
        read(table(text))


@pytest.mark.parametrize("before", [0, 100_000])
def test_csv_of_another_encoding(table, before):
    text = "größe,b\n1.5,2\n" if not before else "a,b\n" + "1.5,2\n" * before + "größe,b\n"
    with pytest.raises(DataError, match=r"no UTF-8 text \(byte 0xf6\), which a \.csv has to be"):
        read(table(text, encoding="latin-1"))


def test_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    polars.DataFrame({"a": [1.5, 2.5], "b": [True, False]}).write_parquet(path)
    dataset = read(path)
    assert dataset.schema.columns == ("a", "b")
    assert dataset.x.tolist() == [[1.5, 1.0], [2.5, 0.0]]
    pixels = polars.DataFrame({"a": [3, 255], "b": [0, 9]}, schema={"a": polars.UInt8, "b": polars.UInt8})
    pixels.write_parquet(path)
    assert read(path).schema.kind == "uint8"
    polars.DataFrame({"a": [1.5, None, float("nan")]}).write_parquet(path)
    with pytest.raises(DataError, match=r"2 missing cells, in the columns 'a' \(2\)"):
        read(path)
    polars.DataFrame({"a": [1.5], "when": [date(2020, 1, 2)]}).write_parquet(path)
    with pytest.raises(DataError, match="'when' has '2020-01-02"):
        read(path)


def test_missing_polars_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(DataError, match=r"pip install 'jensen\[tables\]'"):
        read(table("1.5,2\n"))
