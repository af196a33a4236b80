"""What every likelihood owes, whichever it is; a new entry of the registry needs a case here and nothing else."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import Independent
from torch.func import functional_call

from contracts import references
from contracts.conformance import (
    DEVICES,
    Linear,
    Passing,
    assert_close,
    assert_gradients,
    assert_moments,
    double,
    round_trip,
)
from jensen.errors import ConfigError, ShapeError, SupportError
from jensen.likelihoods import LIKELIHOODS, Likelihood
from jensen.seeding import seeded

SHIFT, UNIT = 1.5, 2.0
LOG_LEVEL = 0.5
LEARNED = 0.375
"""What a learned scalar (log-scale, log-dispersion) is set to; exact in single precision."""


@dataclass(frozen=True)
class Case:
    """One family with its options.

    Attributes:
        entry: Name in the registry.
        log_prob: The reference, from the numbers that the network gives for a cell, and the cell.
        extremes: Numbers that the network may give, where they are extreme.
        values: Cells at which the density is compared.
        usual: Numbers that the network may give, where they are not.
        domain: Of a cell, for the usual numbers: integers up to and with the second one, or an interval.
        integers: Whether cells are integers.
        supported: Cells that can occur.
        refused: Cells that can't.
        count: Options that the number of outputs depends on.
        options: The others.
        largest_term: Of the sum that a log-density is, where it may be far above the sum; rounding is relative to it.
    """

    entry: str
    log_prob: Callable[[Sequence[float], float], mp.mpf]
    extremes: Sequence[Sequence[float]]
    values: Sequence[float]
    usual: Sequence[Sequence[float]]
    domain: tuple[float, float]
    integers: bool
    supported: Sequence[float]
    refused: Sequence[float]
    count: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    largest_term: Callable[[Sequence[float], float], float] = lambda outputs, x: 1.0

    @property
    def outputs(self) -> int:
        return LIKELIHOODS[self.entry].output_count(**self.count)

    def build(self, event_shape: tuple[int, ...], network: torch.nn.Module | None = None) -> Likelihood:
        """In double precision, any learned numbers set."""
        with double():
            passing = Passing((self.outputs, *event_shape)) if network is None else network
            likelihood = LIKELIHOODS[self.entry](passing, event_shape, **self.count, **self.options)
            with torch.no_grad():
                for name, parameter in likelihood.named_parameters():
                    if not name.startswith("network"):
                        parameter.fill_(LEARNED)
        return likelihood.double()

    def cells(self, outputs: Sequence[Sequence[float]], dtype: torch.dtype = torch.float64) -> Any:
        """One cell for each row of outputs: the distributions of the cells of one datum."""
        likelihood = self.build((len(outputs),)).to(dtype)
        context = torch.tensor(outputs, dtype=dtype).T.reshape(-1)
        result = likelihood(context)
        assert isinstance(result, Independent)
        return result.base_dist


def _normal(scale: float | str, **options: Any) -> Case:
    shift, unit = (SHIFT, UNIT) if options else (0.0, 1.0)
    network = scale == "network"
    fixed = LEARNED if isinstance(scale, str) else float(mp.log(scale))

    def log_prob(outputs: Sequence[float], x: float) -> mp.mpf:
        log_scale = mp.mpf(outputs[1]) if network else mp.mpf(fixed)
        return references.normal(shift + unit * mp.mpf(outputs[0]), mp.log(unit) + log_scale, x)

    locations = (-1e4, -30.0, 0.0, 0.25, 30.0, 1e4)
    return Case(
        "normal",
        log_prob,
        extremes=[(a, b) for a in locations for b in (-30.0, -10.0, 0.0, 10.0, 30.0)]
        if network
        else [(a,) for a in locations],
        values=(-1e4, 0.0, 0.5, 61.5),
        usual=[(0.5, -1.0), (-2.0, 0.5)] if network else [(0.5,), (-2.0,)],
        domain=(-60.0, 60.0),
        integers=False,
        supported=(-1e30, 0.0, 3.5),
        refused=(np.inf, -np.inf),
        count={"scale": scale},
        options=options,
    )


def _categorical(classes: int) -> Case:
    ramp = [float(v) for v in np.linspace(-30, 30, classes)]
    usual = [float(v) for v in np.sin(np.arange(classes))]
    return Case(
        "categorical",
        references.categorical,
        extremes=[ramp, ramp[::-1], [0.0] * classes, [1e4, *[0.0] * (classes - 1)]],
        values=(0.0, 1.0, classes - 1.0),
        usual=[usual, [0.0] * classes],
        domain=(0, classes - 1),
        integers=True,
        supported=(0.0, classes - 1.0),
        refused=(-1.0, 0.5, float(classes), np.inf),
        count={"classes": classes},
    )


COUNTS: dict[str, Any] = {
    "values": (0.0, 1.0, 7.0, 1e3, 1e6),
    "supported": (0.0, 1.0, 1e6),
    "refused": (-1.0, 0.5, np.inf, -np.inf),
    "integers": True,
    # The logarithms of x! and of a power of x cancel.
    "largest_term": lambda outputs, x: 1 + x * (np.log1p(x) + abs(outputs[0])),
}
LOGITS = [(a,) for a in (-700.0, -30.0, -5.0, -0.4999, -1e-3, 0.0, 1e-8, 0.1, 0.5001, 5.0, 30.0, 700.0)]
DATA_UNITS = {"shift": torch.tensor(SHIFT), "unit": torch.tensor(UNIT)}

CASES: dict[str, Case] = {
    "bernoulli": Case(
        "bernoulli",
        lambda outputs, x: references.bernoulli(outputs[0], x),
        extremes=LOGITS,
        values=(0.0, 1.0),
        usual=[(-1.0,), (0.5,)],
        domain=(0, 1),
        integers=True,
        supported=(0.0, 1.0),
        refused=(0.5, -1.0, 2.0, np.inf),
    ),
    "continuous-bernoulli": Case(
        "continuous-bernoulli",
        lambda outputs, x: references.continuous_bernoulli(outputs[0], x),
        extremes=LOGITS,
        values=(0.0, 0.25, 0.5, 1.0),
        usual=[(-3.0,), (0.0,), (0.3,), (20.0,)],
        domain=(0.0, 1.0),
        integers=False,
        supported=(0.0, 0.3, 1.0),
        refused=(-0.1, 1.1, np.inf),
    ),
    "normal-fixed": _normal(0.5),
    "normal-learned": _normal("learned"),
    "normal-per-dimension": _normal("per-dimension"),
    "normal-network": _normal("network"),
    "normal-fixed-units": _normal(0.5, **DATA_UNITS),
    "normal-learned-units": _normal("learned", **DATA_UNITS),
    "normal-per-dimension-units": _normal("per-dimension", **DATA_UNITS),
    "normal-network-units": _normal("network", **DATA_UNITS),
    "logistic-256": Case(
        "logistic-256",
        lambda outputs, x: references.discretised_logistic(
            127.5 * (mp.mpf(outputs[0]) + 1), 127.5 * mp.exp(max(min(outputs[1], 11.0), -11.0)), x, 256
        ),
        extremes=[
            (a, b)
            for a in (-100.0, -1.0, 0.0, 0.99, 1.0, 50.0)
            for b in (-30.0, -11.0, -5.0, 0.0, 11.0, 30.0)
        ],
        values=(0.0, 1.0, 127.0, 254.0, 255.0),
        usual=[(0.1, -3.0), (-1.0, -1.0), (0.9, 0.5)],
        domain=(0, 255),
        integers=True,
        supported=(0.0, 17.0, 255.0),
        refused=(-1.0, 0.5, 256.0, np.inf),
    ),
    "categorical-4": _categorical(4),
    "categorical-256": _categorical(256),
    "poisson": Case(
        "poisson",
        lambda outputs, x: references.poisson(outputs[0], x),
        extremes=[(a,) for a in (-30.0, -5.0, 0.0, 3.0, 10.0, 30.0)],
        usual=[(-1.0,), (0.5,), (3.0,)],
        domain=(0, 200),
        **COUNTS,
    ),
    "negative-binomial": Case(
        "negative-binomial",
        lambda outputs, x: references.negative_binomial(outputs[0], LEARNED, x),
        extremes=[(a,) for a in (-30.0, -5.0, 0.0, 3.0, 10.0, 30.0)],
        usual=[(-1.0,), (0.5,), (2.0,)],
        domain=(0, 2000),
        **COUNTS,
    ),
    "poisson, level": Case(
        "poisson",
        lambda outputs, x: references.poisson(outputs[0] + LOG_LEVEL, x),
        extremes=[(a,) for a in (-30.0, 0.0, 30.0)],
        usual=[(-1.5,), (2.5,)],
        domain=(0, 200),
        options={"level": torch.tensor(LOG_LEVEL, dtype=torch.float64).exp()},
        **COUNTS,
    ),
}

SHAPES = [((), (5,)), ((3,), ()), ((3,), (2, 5)), ((2, 3), (5,)), ((1, 4, 2), (2, 5))]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("entry", LIKELIHOODS)
def test_every_entry_has_a_case_and_says_what_it_is(entry: str) -> None:
    assert any(case.entry == entry for case in CASES.values()), f"add a Case for '{entry}' to CASES"
    family = LIKELIHOODS[entry]
    for thing in (family, family.output_count, family.cells, family.supports):
        assert inspect.getdoc(thing)
    assert "network:" in str(family.__doc__)
    assert family.support


def test_options_of_the_number_of_outputs_have_the_defaults_of_the_family(case: Case) -> None:
    counts = inspect.signature(LIKELIHOODS[case.entry].output_count).parameters
    builds = inspect.signature(LIKELIHOODS[case.entry]).parameters
    assert {name: option.default for name, option in counts.items()} == {
        name: builds[name].default for name in counts
    }


@pytest.mark.parametrize(("event", "batch"), SHAPES)
def test_shapes(case: Case, event: tuple[int, ...], batch: tuple[int, ...]) -> None:
    likelihood = case.build(event, Linear(4, (case.outputs, *event)).double())
    distribution = likelihood(torch.randn(*batch, 4, dtype=torch.float64))
    assert distribution.batch_shape == batch
    assert distribution.event_shape == event
    x = distribution.sample()
    assert x.shape == (*batch, *event)
    assert x.dtype == torch.float64
    assert distribution.sample((3,)).shape == (3, *batch, *event)
    assert distribution.log_prob(x).shape == batch
    assert distribution.mean.shape == (*batch, *event)
    assert distribution.variance.shape == (*batch, *event)
    assert distribution.log_prob(torch.full(event, case.supported[0], dtype=torch.float64)).shape == batch


def test_cells_are_independent_and_in_their_places(case: Case) -> None:
    event = (2, 3)
    likelihood = case.build(event, Linear(4, (case.outputs, *event)).double())
    context = torch.randn(5, 4, dtype=torch.float64)
    with seeded(0):
        x = likelihood(context).sample()
    outputs = likelihood.network(context)
    wanted = [
        float(
            sum(
                case.log_prob(outputs[n, :, i, j].tolist(), float(x[n, i, j]))
                for i in range(2)
                for j in range(3)
            )
        )
        for n in range(5)
    ]
    assert_close(likelihood(context).log_prob(x), wanted, 1e-11)


def test_log_prob_agrees_with_the_reference_at_extremes(case: Case) -> None:
    # Inputs are the same numbers, so what is left is rounding: some dozens of operations of 2e-16.
    pairs = [(outputs, x) for outputs in case.extremes for x in case.values]
    got = case.cells([outputs for outputs, _ in pairs]).log_prob(torch.tensor([x for _, x in pairs]).double())
    largest = [case.largest_term(outputs, x) for outputs, x in pairs]
    assert_close(got, [float(case.log_prob(outputs, x)) for outputs, x in pairs], 1e-14, largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_extremes(case: Case, dtype: torch.dtype) -> None:
    # torch's normal has the square of the variance in its gradient, which underflows in single precision where
    # the scale is below e^-25: there log-scales are asked for only up to ten.
    small = 10.0 if case.count.get("scale") == "network" and dtype == torch.float32 else 30.0
    rows = [row for row in case.extremes if len(row) != 2 or case.entry != "normal" or abs(row[1]) <= small]
    pairs = [(row, x) for row in rows for x in case.values]
    likelihood = case.build((len(pairs),)).to(dtype)
    context = torch.tensor([row for row, _ in pairs], dtype=dtype).T.reshape(-1).requires_grad_()
    cells = likelihood(context).base_dist.log_prob(torch.tensor([x for _, x in pairs], dtype=dtype))
    inputs = [context, *likelihood.parameters()]
    for gradient in torch.autograd.grad(cells.sum(), inputs):
        assert gradient.isfinite().all()


def test_gradients_agree_with_finite_differences(case: Case) -> None:
    rows = [row for row in case.usual for _ in case.supported]
    likelihood = case.build((len(rows),))
    low, high = case.domain
    x = torch.tensor(
        [min(max(v, low), high) for _ in case.usual for v in case.supported], dtype=torch.float64
    )
    names = list(dict(likelihood.named_parameters()))

    def log_prob(context: Tensor, *values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return functional_call(likelihood, parameters, (context,)).log_prob(x)

    assert_gradients(log_prob, torch.tensor(rows).T.reshape(-1), *likelihood.parameters())


@torch.no_grad()
def test_mass_is_one_and_moments_are_those_of_the_density(case: Case) -> None:
    cells = case.cells(case.usual)
    low, high = case.domain
    for i in range(len(case.usual)):

        def density(x: Any, i: int = i) -> Any:
            values = torch.as_tensor(x, dtype=torch.float64).reshape(-1, 1).expand(-1, len(case.usual))
            return cells.log_prob(values).exp()[:, i].numpy()

        mean, variance = float(cells.mean[i]), float(cells.variance[i])
        if case.integers:
            x = np.arange(low, high + 1)
            total, first, second = (float((density(x) * f).sum()) for f in (x**0, x, (x - mean) ** 2))
        else:
            deviations = (np.ones_like, lambda x: x, lambda x, mean=mean: (x - mean) ** 2)
            middle = [v for v in (mean - 3 * variance**0.5, mean, mean + 3 * variance**0.5) if low < v < high]
            total, first, second = (
                quad(lambda x, f=f: float(density(x)[0] * f(x)), low, high, points=middle, epsabs=1e-12)[0]
                for f in deviations
            )
        assert total == pytest.approx(1, abs=1e-9)
        assert first == pytest.approx(mean, rel=1e-8, abs=1e-8)
        assert second == pytest.approx(variance, rel=1e-8, abs=1e-8)


def test_draws_have_the_moments_and_lie_in_the_support(case: Case) -> None:
    likelihood = case.build((len(case.usual),))
    distribution = likelihood(torch.tensor(case.usual, dtype=torch.float64).T.reshape(-1))
    with seeded(0):
        draws = distribution.sample((20_000,))
    assert_moments(draws, distribution.mean, distribution.variance)
    likelihood.check(draws)


def test_draws_at_extremes_lie_in_the_support(case: Case) -> None:
    likelihood = case.build((len(case.extremes),)).float()
    distribution = likelihood(torch.tensor(case.extremes).T.reshape(-1))
    with seeded(0):
        draws = distribution.sample((500,))
    assert likelihood.supports(draws).all()


def test_check_accepts_what_can_occur_and_cells_that_were_not_observed(case: Case) -> None:
    likelihood = case.build((len(case.supported),))
    likelihood.check(torch.tensor([case.supported, case.supported]))
    likelihood.check(torch.full((2, len(case.supported)), torch.nan))


def test_check_refuses_what_cannot_occur(case: Case) -> None:
    likelihood = case.build((2, 2))
    for wrong in case.refused:
        x = torch.full((3, 2, 2), case.supported[0])
        x[1, 0, 1] = wrong
        x[2, 1, 1] = torch.nan
        with pytest.raises(SupportError) as refusal:
            likelihood.check(x)
        message = str(refusal.value)
        assert type(likelihood).__name__ in message
        assert type(likelihood).support in message
        assert f"got {wrong:g} at (1, 0, 1)" in message
        assert "1 such cells" in message
        assert "choose another likelihood" in message


def test_check_refuses_other_shapes(case: Case) -> None:
    with pytest.raises(ShapeError, match=r"data of shape \(2, 3\), got \(3, 2\)"):
        case.build((2, 3)).check(torch.zeros(4, 3, 2))


def test_a_network_with_another_number_of_outputs_is_refused(case: Case) -> None:
    wrong = case.build((3,), Passing((case.outputs + 1, 3)))
    with pytest.raises(ShapeError, match=rf"\({case.outputs}, 3\) from its network.*{case.outputs + 1}, 3\)"):
        wrong(torch.zeros(5, 3 * (case.outputs + 1)))


def test_no_context_is_refused(case: Case) -> None:
    with pytest.raises(ShapeError, match="needs a context"):
        case.build((3,))(None)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moves_to_a_device_and_a_precision(case: Case, device: str, dtype: torch.dtype) -> None:
    exact = case.build((3,), Linear(4, (case.outputs, 3)))
    context = torch.randn(5, 4, dtype=torch.float64)
    moved = case.build((3,), exact.network)
    moved.load_state_dict(exact.state_dict())
    with seeded(0):
        x = exact(context).sample()
    wanted = exact(context).log_prob(x)
    moved = moved.to(dtype=dtype, device=device)
    distribution = moved(context.to(device, dtype))
    got = distribution.log_prob(x.to(device, dtype))
    draw = distribution.sample()
    assert got.device.type == draw.device.type == device
    assert got.dtype == draw.dtype == distribution.mean.dtype == dtype
    assert next(moved.buffers(), torch.zeros((), dtype=dtype)).dtype == dtype
    # Three cells of logits of order one: a hundred roundings, each of a few nats.
    assert_close(got, wanted.tolist(), 1000 * torch.finfo(dtype).eps)


def test_state_survives_a_file(case: Case) -> None:
    one = case.build((3,), Linear(4, (case.outputs, 3)))
    other = case.build((3,), Linear(4, (case.outputs, 3)))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter += 0.1
    context = torch.randn(5, 4, dtype=torch.float64)
    x = one(context).sample()
    assert not torch.equal(one(context).log_prob(x), other(context).log_prob(x))
    other.load_state_dict(round_trip(one.state_dict()))
    assert torch.equal(one(context).log_prob(x), other(context).log_prob(x))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_scale_of_the_normal_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match="a number above 0, 'learned', 'per-dimension' or 'network'; got"):
        LIKELIHOODS["normal"](Passing((1, 3)), (3,), scale=scale)


def test_units_of_the_normal_may_differ_by_cell() -> None:
    shift, unit = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.25, 8.0])
    likelihood = LIKELIHOODS["normal"](Passing((1, 3)), (3,), scale=0.5, shift=shift, unit=unit)
    outputs = torch.tensor([0.5, 1.0, -1.0])
    x = torch.tensor([1.0, -2.5, 3.0])
    wanted = sum(
        references.normal(
            shift[i].item() + unit[i].item() * outputs[i].item(), mp.log(unit[i].item() * 0.5), x[i].item()
        )
        for i in range(3)
    )
    assert_close(likelihood(outputs).log_prob(x), [float(wanted)], 1e-5)
