from math import inf, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from jensen.errors import ConfigError, DataError, JensenError, ShapeError
from jensen.information import (
    conditional_entropy,
    cross_entropy,
    entropy,
    jensen_shannon,
    joint_entropy,
    kl,
    mutual_information,
    pointwise_mutual_information,
    surprisal,
)

ROUNDING = 1e-12


@st.composite
def tables(draw: st.DrawFn, *shape: int, zeros: bool = True) -> Tensor:
    """Probabilities, a third of them zero if these are wanted, and some tiny."""
    cells = int(np.prod(shape))
    weight = st.floats(0.01, 1.0) | st.sampled_from([1e-12, 1e-300])
    if zeros:
        weight = weight | st.just(0.0)
    weights = np.array(draw(st.lists(weight, min_size=cells, max_size=cells)))
    weights[draw(st.integers(0, cells - 1))] = 1.0
    return torch.tensor((weights / weights.sum()).reshape(shape))


@settings(deadline=None, max_examples=50)
@given(tables(5), tables(5))
def test_entropies_and_divergences_agree_with_scipy(p: Tensor, q: Tensor) -> None:
    assert float(entropy(p)) == pytest.approx(stats.entropy(p), abs=ROUNDING)
    wanted = stats.entropy(p, q)
    assert float(kl(p, q)) == pytest.approx(wanted, abs=1e-11)
    assert float(cross_entropy(p, q)) == pytest.approx(wanted + stats.entropy(p), abs=1e-11)
    assert float(jensen_shannon(p, q)) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-11)


@settings(deadline=None, max_examples=50)
@given(tables(3, 4))
def test_chain_rules_and_bounds(joint: Tensor) -> None:
    x, y = entropy(joint.sum(1)), entropy(joint.sum(0))
    both, information = joint_entropy(joint), mutual_information(joint)
    given_y, given_x = conditional_entropy(joint), conditional_entropy(joint, given="x")
    assert float(both) == pytest.approx(float(y + given_y), abs=ROUNDING)
    assert float(both) == pytest.approx(float(x + given_x), abs=ROUNDING)
    assert float(information) == pytest.approx(float(x - given_y), abs=ROUNDING)
    assert float(information) == pytest.approx(float(mutual_information(joint.mT)), abs=ROUNDING)
    assert -ROUNDING <= float(information) <= min(float(x), float(y)) + ROUNDING
    assert float(given_y) + ROUNDING >= 0
    assert float(both) <= log(12) + ROUNDING


@settings(deadline=None, max_examples=50)
@given(tables(3, 4))
def test_mutual_information_is_the_expected_pointwise_one(joint: Tensor) -> None:
    pointwise = pointwise_mutual_information(joint)
    expected = torch.where(joint > 0, joint * pointwise, 0.0).sum()
    assert float(mutual_information(joint)) == pytest.approx(float(expected), abs=ROUNDING)
    assert bool((pointwise[joint == 0] == -inf).all())


@settings(deadline=None, max_examples=50)
@given(tables(3, 4), tables(5, zeros=False), st.integers(0, 10))
def test_no_processing_adds_information(joint: Tensor, row: Tensor, seed: int) -> None:
    """X - Y - Z, where Z is drawn from Y alone, and so KL(p || q) falls when both pass one channel."""
    channel = torch.stack([row.roll(shift * (seed % 3)) for shift in range(4)])
    assert float(mutual_information(joint @ channel)) <= float(mutual_information(joint)) + ROUNDING
    p, q = joint.sum(0), torch.full((4,), 0.25, dtype=torch.float64)
    assert float(kl(p @ channel, q @ channel)) <= float(kl(p, q)) + ROUNDING


@settings(deadline=None, max_examples=50)
@given(tables(4), tables(4))
def test_divergences_are_not_negative_and_jensen_shannon_is_at_most_a_bit(p: Tensor, q: Tensor) -> None:
    assert float(kl(p, q)) >= 0
    assert float(kl(p, p)) <= 1e-15
    divergence = float(jensen_shannon(p, q, unit="bits"))
    assert 0 <= divergence <= 1 + ROUNDING
    assert divergence == pytest.approx(float(jensen_shannon(q, p, unit="bits")), abs=ROUNDING)


def test_the_divergence_of_near_tables_keeps_its_digits() -> None:
    """It is about half the sum of d^2 / p; a difference of entropies would be off by 1e-16, more than it is."""
    p, d = torch.full((4,), 0.25, dtype=torch.float64), 1e-8
    shift = d * torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    # Each of the four terms is rounded at 1e-17 or so.
    assert float(kl(p, p + shift)) == pytest.approx(0.5 * 4 * d**2 / 0.25, abs=1.2e-16)
    assert float(kl(p, p + 1e4 * shift)) == pytest.approx(0.5 * 4 * (1e4 * d) ** 2 / 0.25, rel=1e-6)


def test_a_coin_and_a_die() -> None:
    assert float(entropy([0.5, 0.5], unit="bits")) == 1
    assert float(entropy([1 / 6] * 6, unit="bits")) == pytest.approx(np.log2(6), rel=1e-15)
    assert surprisal(np.array([0.9, 0.1]), unit="bits").tolist() == pytest.approx(
        [-np.log2(0.9), -np.log2(0.1)]
    )


def test_zeros_are_infinite_or_nothing_but_never_nan() -> None:
    assert float(entropy([1.0, 0.0])) == 0
    assert float(kl([0.5, 0.5], [1.0, 0.0])) == inf
    assert float(kl([1.0, 0.0], [0.5, 0.5])) == pytest.approx(log(2), rel=1e-15)
    assert float(kl([1.0, 0.0], [1.0, 0.0])) == 0
    assert float(cross_entropy([0.5, 0.5], [1.0, 0.0])) == inf
    assert float(cross_entropy([1.0, 0.0], [1.0, 0.0])) == 0
    assert float(mutual_information([[0.5, 0.5], [0.0, 0.0]])) == 0
    assert float(conditional_entropy([[0.0, 1.0], [0.0, 0.0]])) == 0
    assert surprisal([1.0, 0.0]).tolist() == [0, inf]


def test_leading_axes_are_a_batch() -> None:
    p = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, joints = p / p.sum(-1, keepdim=True), p / p.sum((-2, -1), keepdim=True)
    assert entropy(rows).shape == (2, 3)
    assert float(kl(rows, rows[0, 0])[1, 2]) == pytest.approx(float(kl(rows[1, 2], rows[0, 0])), rel=1e-14)
    assert mutual_information(joints).shape == (2,)
    assert float(conditional_entropy(joints)[1]) == pytest.approx(
        float(conditional_entropy(joints[1])), rel=1e-14
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: entropy([0.5, -0.5, 1.0]), DataError, "negative number -0.5"),
        (lambda: entropy(["a", "b"]), DataError, "table should hold numbers"),
        (lambda: entropy([0.5, 0.4]), DataError, "sums to 0.9"),
        (lambda: entropy([float("nan"), 1.0]), DataError, "isn't finite"),
        (lambda: entropy([]), ShapeError, "at least 1 axes"),
        (lambda: mutual_information([0.5, 0.5]), ShapeError, "at least 2 axes"),
        (lambda: kl([0.5, 0.5], [0.2, 0.3, 0.5]), ShapeError, "2 and 3 outcomes"),
        (lambda: kl(torch.full((2, 2), 0.5), torch.full((3, 2), 0.5)), ShapeError, "don't broadcast"),
        (lambda: entropy([0.5, 0.5], unit="bit"), ConfigError, "did you mean 'bits'"),
        (lambda: conditional_entropy([[1.0]], given="z"), ConfigError, "unknown variable 'z'"),
        (lambda: surprisal([1.0], torch.tensor(0)), ConfigError, "index the result"),
        (lambda: pointwise_mutual_information([[1.0]], torch.tensor(0)), ConfigError, "leave out value"),
        (lambda: kl([1.0], torch.distributions.Bernoulli(0.5)), ConfigError, "two of a kind"),
    ],
)
def test_bad_tables_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_single_precision_tables_sum_to_one_within_their_rounding() -> None:
    p = torch.softmax(torch.randn(50_000, generator=torch.Generator().manual_seed(0)), -1)
    assert float(entropy(p)) == pytest.approx(stats.entropy(p.double()), rel=1e-5)


def test_certainty_has_no_sign() -> None:
    for value in (
        entropy([1.0, 0.0]),
        cross_entropy([1.0, 0.0], [1.0, 0.0]),
        surprisal([1.0, 0.0])[0],
        conditional_entropy([[0.5, 0.0], [0.0, 0.5]], given="x"),
    ):
        assert value == 0.0
        assert not torch.signbit(value)
