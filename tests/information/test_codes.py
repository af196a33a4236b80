from itertools import product
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jensen.errors import ConfigError, DataError, JensenError
from jensen.information import (
    ArithmeticCode,
    PrefixCode,
    asked_in_order,
    entropy,
    huffman_code,
    question_code,
)

EVEN = dict.fromkeys(["blue", "yellow", "red", "green"], 0.25)
UNEVEN = {"blue": 0.5, "red": 0.125, "green": 0.125, "yellow": 0.25}


@st.composite
def alphabets(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    weights[0] += 0.01
    total = sum(weights)
    return {chr(97 + place): w / total for place, w in enumerate(weights)}


def bits_of(p: dict[str, float]) -> float:
    return float(entropy(list(p.values()), unit="bits"))


def test_the_games_of_four_coins() -> None:
    halves = question_code((("green", "blue"), ("red", "yellow")))
    assert halves.expected_length(EVEN) == 2
    as_shown = question_code(("blue", ("red", ("yellow", "green"))))
    assert as_shown.expected_length(UNEVEN) == 1.875
    best = asked_in_order(["blue", "yellow", "red", "green"])
    assert best.expected_length(UNEVEN) == 1.75 == bits_of(UNEVEN)
    assert huffman_code(UNEVEN).expected_length(UNEVEN) == 1.75
    assert halves.expected_length(UNEVEN) == 2


@settings(deadline=None, max_examples=60)
@given(alphabets(), st.integers(0, 5))
def test_huffman_lies_within_a_bit_of_the_entropy_and_is_decoded(p: dict[str, float], seed: int) -> None:
    code = huffman_code(p)
    length = code.expected_length(p)
    assert bits_of(p) - 1e-12 <= length
    # Strictly less, but a probability of 1e-300 rounds that away.
    assert length <= bits_of(p) + 1
    assert sum(2.0 ** -len(word) for word in code.words.values()) == 1
    if len(code.words) > 1:
        message = list(np.random.default_rng(seed).choice(list(code.words), 20))
        assert code.decode(code.encode(message)) == message


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_huffman_is_the_best_of_all_lengths(weights: list[float]) -> None:
    """All lengths that Kraft's inequality allows, of four symbols."""
    p = {place: w / sum(weights) for place, w in enumerate(weights)}
    allowed = [ls for ls in product(range(1, 4), repeat=4) if sum(2.0**-length for length in ls) <= 1]
    best = min(sum(w * length for w, length in zip(p.values(), ls, strict=True)) for ls in allowed)
    assert huffman_code(p).expected_length(p) == pytest.approx(best, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(alphabets(), st.integers(0, 30), st.integers(0, 1000))
def test_arithmetic_codes_cost_at_most_two_bits_more_than_the_surprisal(p, n: int, seed: int) -> None:
    weights = np.array(list(p.values()))
    message = [str(s) for s in np.random.default_rng(seed).choice(list(p), n, p=weights / weights.sum())]
    code = ArithmeticCode(p)
    bits = code.encode(message)
    surprisal = -sum(log2(p[symbol]) for symbol in message)
    assert surprisal - 1e-9 <= len(bits) <= surprisal + 2 + 1e-9
    assert code.length(message) == len(bits)
    assert code.decode(bits, n) == message
    assert code.decode(bits + "1011", n) == message


def test_no_arithmetic_code_begins_another() -> None:
    code = ArithmeticCode({"a": 0.6, "b": 0.3, "c": 0.1})
    words = {message: code.encode(message) for message in product("abc", repeat=4)}
    assert len(words) == 81
    assert not any(a != b and words[b].startswith(words[a]) for a in words for b in words)


def test_a_long_message_comes_near_the_entropy() -> None:
    p = {"heads": 0.9, "tails": 0.1}
    message = [str(s) for s in np.random.default_rng(0).choice(list(p), 2000, p=list(p.values()))]
    code = ArithmeticCode(p)
    bits = code.encode(message)
    surprisal = -sum(log2(p[symbol]) for symbol in message)
    assert surprisal <= len(bits) <= surprisal + 2
    assert code.decode(bits, 2000) == message
    # Huffman's code can't do with less than one bit a coin.
    assert len(huffman_code(p).encode(message)) == 2000


def test_one_symbol_needs_no_bits() -> None:
    assert huffman_code({"a": 1.0}).expected_length({"a": 1.0}) == 0
    assert ArithmeticCode({"a": 1.0, "b": 0.0}).encode(["a"] * 9) == ""
    assert ArithmeticCode({"a": 1.0}).decode("", 9) == ["a"] * 9


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: huffman_code({"a": 0.5, "b": 0.4}), DataError, "sum to 0.9"),
        (lambda: huffman_code({"a": 1.5, "b": -0.5}), DataError, "'b' is -0.5"),
        (lambda: huffman_code({}), DataError, "sum to 0"),
        (lambda: huffman_code({"a": float("nan")}), DataError, "'a' is nan"),
        (lambda: huffman_code(EVEN).encode(["pink"]), DataError, "'pink' has no word"),
        (lambda: huffman_code(EVEN).decode("0"), DataError, "isn't the beginning of a whole word"),
        (lambda: huffman_code(EVEN).expected_length({"pink": 1.0}), DataError, "no word"),
        (lambda: huffman_code({"a": 1.0}).decode("0"), DataError, "how often"),
        (lambda: asked_in_order(["a", "a"]), ConfigError, "twice"),
        (lambda: asked_in_order([]), ConfigError, "at least one symbol"),
        (lambda: question_code(("a", ("b", "a"))), ConfigError, "'a' is in the tree twice"),
        (lambda: PrefixCode({"a": "0", "b": "01"}), ConfigError, "begins the word"),
        (lambda: PrefixCode({"a": "2"}), ConfigError, "nothing but 0 and 1"),
        (lambda: ArithmeticCode(EVEN).encode(["pink"]), DataError, "'pink' has no probability"),
        (lambda: ArithmeticCode(EVEN).decode("0", -1), ConfigError, "negative"),
        (lambda: ArithmeticCode(EVEN).decode("2", 1), DataError, "something else"),
    ],
)
def test_bad_codes_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
