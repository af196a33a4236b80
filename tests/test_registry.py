import pytest

from jensen.errors import ConfigError
from jensen.registry import Registry

NUMBERS = Registry("number", {"two": 2, "one": 1})


def test_is_a_mapping_in_the_order_that_was_given() -> None:
    assert dict(NUMBERS) == {"two": 2, "one": 1}
    assert list(NUMBERS) == ["two", "one"]
    assert len(NUMBERS) == 2
    assert NUMBERS["one"] == 1
    assert "one" in NUMBERS
    assert list(NUMBERS.items()) == [("two", 2), ("one", 1)]


def test_a_wrong_name_is_a_clear_error() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown number 'ones'; did you mean 'one'. There are: one, two"
    ) as refusal:
        NUMBERS["ones"]
    assert refusal.value.__suppress_context__


def test_asking_for_a_name_is_no_error() -> None:
    assert "three" not in NUMBERS
    assert 3 not in NUMBERS


def test_later_changes_of_what_it_was_made_of_do_not_matter() -> None:
    members = {"one": 1}
    registry = Registry("number", members)
    members["two"] = 2
    assert list(registry) == ["one"]


def test_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NUMBERS["three"] = 3  # type: ignore[index]
