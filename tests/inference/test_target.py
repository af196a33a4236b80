import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import HalfNormal, Normal

from jensen.errors import ConfigError, DataError, FitError, ShapeError
from jensen.inference import Target, discrete, fit, interval, lower_bounded, mcmc, positive, real, simplex

Y = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


def log_joint(p):
    prior = Normal(0.0, 2.0).log_prob(p["mu"]) + HalfNormal(1.0).log_prob(p["sigma"])
    return prior + Normal(p["mu"], p["sigma"]).log_prob(Y).sum()


def normal_target(**kwargs) -> Target:
    return Target(log_joint, {"mu": real(), "sigma": positive()}, **kwargs)


def by_rows(rows: int = 3) -> Target:
    return Target(
        lambda p: Normal(0.0, 2.0).log_prob(p["mu"]) + HalfNormal(1.0).log_prob(p["sigma"]),
        {"mu": real(), "sigma": positive()},
        log_likelihood=lambda p, y: Normal(p["mu"], p["sigma"]).log_prob(y),
        data=(Y[:rows],),
    )


def test_the_density_is_the_log_joint_with_its_jacobian():
    points = torch.tensor([[0.3, -0.5], [1.0, 0.2]], dtype=torch.float64)
    expected = [log_joint({"mu": mu, "sigma": u.exp()}) + u for mu, u in points]
    torch.testing.assert_close(normal_target().log_prob(points), torch.stack(expected))


@pytest.mark.parametrize("loop", [False, True])
def test_gradients_are_those_of_the_density(loop: bool):
    target = normal_target(loop=loop)
    points = torch.tensor([[0.3, -0.5], [1.0, 0.2]], dtype=torch.float64)
    leaves = points.clone().requires_grad_()
    values = target.log_prob(leaves)
    (expected,) = torch.autograd.grad(values.sum(), leaves)
    found, gradients = target.value_and_gradient(points)
    torch.testing.assert_close(found, values.detach())
    torch.testing.assert_close(gradients, expected)
    torch.testing.assert_close(target.plain_log_prob(points), values.detach())


def test_chunks_change_nothing():
    target = normal_target()
    points = torch.randn(50, 2, dtype=torch.float64)
    whole = target.value_and_gradient(points)
    target._batched.chunk = 7
    torch.testing.assert_close(target.value_and_gradient(points), whole)


def test_constrain_and_back_with_batches():
    target = Target(lambda p: p["s"].sum() + p["x"].sum(), {"s": simplex(3), "x": interval(0, 2, 2)})
    points = torch.randn(4, 5, target.dim, dtype=torch.float64)
    values = target.constrain(points)
    assert values["s"].shape == (4, 5, 3)
    assert values["x"].shape == (4, 5, 2)
    torch.testing.assert_close(target.unconstrain(values), points)
    one = normal_target().constrain(torch.zeros(2, dtype=torch.float64))
    assert {name: value.shape for name, value in one.items()} == {"mu": (), "sigma": ()}
    assert target.names == ["s[0]", "s[1]", "s[2]", "x[0]", "x[1]"]
    assert target.coordinates == ["s[0]", "s[1]", "x[0]", "x[1]"]


def test_minibatches_are_unbiased():
    target = by_rows()
    points = torch.tensor([[0.3, -0.5]], dtype=torch.float64)
    parts = [target.subsample(torch.tensor([i])).log_prob(points) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(0), target.log_prob(points))
    torch.testing.assert_close(target.log_prob(points), normal_target().log_prob(points))


def test_a_part_of_a_part_keeps_the_scale():
    target = by_rows().subsample(torch.tensor([0, 1])).subsample(torch.tensor([1]))
    assert target.scale == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p: 1.0, "got float"),
        (lambda p: -(torch.stack([p["mu"], p["sigma"]]) ** 2), r"got shape \(2,\)"),
        (lambda p: -(p["mu"] ** 2), "doesn't depend on 'sigma'"),
        (lambda p: torch.tensor(float(p["mu"].detach()) + float(p["sigma"].detach())), "no gradient"),
        (lambda p: -(p["mu"].detach() ** 2 + p["sigma"].detach()), "no gradient"),
    ],
)
def test_what_a_log_joint_may_not_return(function, message: str):
    target = Target(function, {"mu": real(), "sigma": positive()})
    with pytest.raises(FitError, match=message):
        target.value_and_gradient(torch.zeros(1, 2, dtype=torch.float64))


def test_a_parameter_that_bounds_another_is_used():
    target = Target(lambda p: p["b"] * 0, {"a": interval(0, 1), "b": interval(0, lambda p: 1 - p["a"])})
    values, gradients = target.value_and_gradient(torch.zeros(1, 2, dtype=torch.float64))
    # a = 1/2 and b = 1/4; the Jacobian is a (1 - a) b (1 - b / (1 - a)).
    assert float(values[0]) == pytest.approx(math.log(0.25 * 0.25 * 0.5))
    assert torch.isfinite(gradients).all()


def test_a_function_that_vmap_refuses_is_named_and_the_loop_takes_it():
    def branching(p):
        return -(p["mu"] ** 2) if p["mu"] > 0 else -2 * p["mu"] ** 2

    points = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    with pytest.raises(FitError, match="loop=True"):
        Target(branching, {"mu": real()}).log_prob(points)
    looped = Target(branching, {"mu": real()}, loop=True)
    assert looped.log_prob(points).tolist() == [-1.0, -2.0]
    assert looped.value_and_gradient(points)[1].tolist() == [[-2.0], [4.0]]


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_no_start_is_found_where_nothing_is_finite(value: float):
    target = Target(lambda p: p["mu"] * 0 + value, {"mu": real()})
    with pytest.raises(FitError, match="every starting point"):
        target.starting_points(2)


def test_starts_avoid_where_the_density_is_zero():
    target = Target(lambda p: torch.where(p["x"] > 0.5, -p["x"], -torch.inf), {"x": real()})
    assert (target.starting_points(20, seed=3) > 0.5).all()


def test_one_matrix_without_a_factor_takes_no_other_point_along():
    def cholesky(p):
        matrix = torch.eye(2, dtype=torch.float64) + p["x"]
        return -torch.linalg.cholesky(matrix).diagonal().log().sum()

    target = Target(cholesky, {"x": real()})
    values, gradients = target.value_and_gradient(torch.tensor([[0.5], [-3.0], [1.0]], dtype=torch.float64))
    assert values[1] == -torch.inf
    assert gradients[1] == 0
    torch.testing.assert_close(
        values[[0, 2]], target.log_prob(torch.tensor([[0.5], [1.0]], dtype=torch.float64))
    )


def test_bad_input():
    with pytest.raises(ConfigError, match="at least one"):
        Target(log_joint, {})
    with pytest.raises(ConfigError, match="'mu' is float"):
        Target(log_joint, {"mu": 1.0})
    with pytest.raises(ConfigError, match="together"):
        Target(log_joint, {"mu": real()}, data=(Y,))
    with pytest.raises(ShapeError, match="same number of rows"):
        Target(log_joint, {"mu": real()}, log_likelihood=lambda p, y, z: y, data=(Y, Y[:2]))
    with pytest.raises(ShapeError, match=r"\(n, 2\)"):
        normal_target().log_prob(torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ConfigError, match="minibatches"):
        normal_target().subsample(torch.tensor([0]))
    wrong = Target(
        lambda p: p["mu"] * 0, {"mu": real()}, log_likelihood=lambda p, y: (y - p["mu"]).sum(), data=(Y,)
    )
    with pytest.raises(FitError, match="each of 3 rows"):
        wrong.log_prob(torch.zeros(1, 1, dtype=torch.float64))


def test_values_outside_their_support_are_refused():
    target = normal_target()
    with pytest.raises(DataError, match="'sigma' is outside"):
        target.unconstrain({"mu": 0.0, "sigma": -1.0})
    with pytest.raises(ConfigError, match="no value for the parameter 'sigma'"):
        target.unconstrain({"mu": 0.0})
    with pytest.raises(ConfigError, match="did you mean 'mu'"):
        target.unconstrain({"mu": 0.0, "sigma": 1.0, "muu": 0.0})
    with pytest.raises(ShapeError, match="leading"):
        target.unconstrain({"mu": np.zeros(2), "sigma": np.ones(3)})


WEIGHTS = torch.tensor([0.25, 0.75], dtype=torch.float64)


def with_classes() -> Target:
    def log_joint(p):
        prior = Normal(torch.tensor([0.0, 3.0]).double(), 2.0).log_prob(p["mu"]).sum()
        classes = WEIGHTS.log()[p["z"]].sum()
        return prior + classes + Normal(p["mu"][p["z"]], 1.0).log_prob(Y).sum()

    return Target(log_joint, {"z": discrete(2, 3), "mu": real(2)})


def summed(p):
    """The same with each datum's class summed out by hand."""
    prior = Normal(torch.tensor([0.0, 3.0]).double(), 2.0).log_prob(p["mu"]).sum()
    return prior + (WEIGHTS.log() + Normal(p["mu"], 1.0).log_prob(Y[:, None])).logsumexp(1).sum()


def test_discrete_parameters_are_summed_out():
    target, by_hand = with_classes(), Target(summed, {"mu": real(2)})
    assert target.dim == 2
    points = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(target.log_prob(points), by_hand.log_prob(points))
    torch.testing.assert_close(target.value_and_gradient(points), by_hand.value_and_gradient(points))


def test_discrete_parameters_are_drawn_given_the_others():
    target = with_classes()
    point = torch.tensor([0.5, 2.5], dtype=torch.float64)
    torch.manual_seed(0)
    values = target.complete(point.expand(4000, 2))
    assert list(values) == ["z", "mu"]
    expected = (WEIGHTS.log() + Normal(point, 1.0).log_prob(Y[:, None])).softmax(1)[:, 1]
    error = (expected * (1 - expected) / 4000).sqrt()
    assert ((values["z"].double().mean(0) - expected).abs() < 4 * error).all()
    found = fit(target)
    assert found.sample(7, seed=0)["z"].shape == (7, 3)
    assert "z[2]" in str(found.summary())


def test_too_many_configurations_are_kept_as_sites():
    parameters = {"z": discrete(2, 12), "mu": real()}
    assert Target(log_joint, parameters).sites is None
    assert Target(log_joint, {**parameters, "one": discrete(1)}).sites is None
    assert Target(log_joint, {**parameters, "w": discrete(2)}).dim == 14
    assert Target(log_joint, parameters, largest_sum=4095).dim == 13
    with pytest.raises(ConfigError, match="largest_sum is -1"):
        Target(log_joint, parameters, largest_sum=-1)


def test_a_target_with_sites_is_the_one_that_sums_over_them():
    summed = with_classes()
    kept = Target(summed.log_joint, summed.parameters, largest_sum=0)
    assert (kept.dim, kept.continuous) == (5, 2)
    assert kept.coordinates == ["mu[0]", "mu[1]", "z[0]", "z[1]", "z[2]"]
    assert kept.slices == {"mu": slice(0, 2), "z": slice(2, 5)}
    point = torch.tensor([0.5, 2.5], dtype=torch.float64)
    states = torch.cartesian_prod(*[torch.arange(2.0, dtype=torch.float64)] * 3)
    points = torch.cat([point.expand(8, 2), states], 1)
    torch.testing.assert_close(kept.log_prob(points).logsumexp(0), summed.log_prob(point[None])[0])
    values, slopes = kept.value_and_gradient(points)
    weights = values.softmax(0)
    torch.testing.assert_close(weights @ slopes[:, :2], summed.value_and_gradient(point[None])[1][0])
    assert not slopes[:, 2:].any()


def test_sites_there_and_back():
    target = Target(
        lambda p: -p["s"], {"z": discrete(3, 2, 2), "s": positive(), "b": discrete(4)}, largest_sum=0
    )
    points = torch.tensor([[0.3, 2, 0, 1, 2, 3], [-1.0, 0, 0, 0, 1, 0]], dtype=torch.float64)
    values = target.complete(points)
    assert list(values) == ["z", "s", "b"]
    assert values["z"].tolist() == [[[2, 0], [1, 2]], [[0, 0], [0, 1]]]
    assert values["b"].dtype == torch.long
    torch.testing.assert_close(target.unconstrain(values), points)
    assert target.starting_points(5, 0).shape == (5, 6)
    with pytest.raises(DataError, match=r"'z\[1,1\]' is a whole number from 0 to 2, got \[3.0\]"):
        target.unconstrain({"z": torch.tensor([[0, 1], [2, 3]]), "s": 1.0, "b": 0})
    with pytest.raises(DataError, match="can't be moved like real ones"):
        target.log_prob(points + 0.5)
    with pytest.raises(ConfigError, match="no value for the parameter 'b'"):
        target.unconstrain({"z": torch.zeros(2, 2), "s": 1.0})


def test_a_floor_is_where_the_density_is_zero():
    target = Target(lambda p: (p["x"] - 1).sqrt() + (0 * p["x"] - 1).log(), {"x": real()})
    point = torch.tensor([[3.0]], dtype=torch.float64)
    assert not torch.isfinite(target.log_prob(point)).any()
    values, slopes = target.floored(-7.0).value_and_gradient(point)
    assert (values.item(), slopes.item()) == (-7.0, 0.0)
    assert target.floored(-7.0).plain_log_prob(point).item() == -7.0


def test_data_may_be_a_tensor_or_arrays() -> None:
    def log_likelihood(p: dict[str, Tensor], y: Tensor) -> Tensor:
        return Normal(p["m"], 1.0).log_prob(y)

    rows = torch.linspace(-1, 1, 6).double()
    found = [
        Target(lambda p: -p["m"].square(), {"m": real()}, log_likelihood=log_likelihood, data=data)
        for data in ((rows,), rows, (rows.numpy(),))
    ]
    values = [target.log_prob(torch.ones(1, 1)).tolist() for target in found]
    assert values[0] == values[1] == values[2]
    assert float(found[1].subsample(torch.arange(2)).log_prob(torch.ones(1, 1))) != values[0][0]
    with pytest.raises(ShapeError, match="got a single number"):
        Target(lambda p: p["m"], {"m": real()}, log_likelihood=log_likelihood, data=torch.tensor(3.0))


def test_what_a_log_joint_may_not_do() -> None:
    x = torch.ones(3, 2)

    def writes(p: dict[str, Tensor]) -> Tensor:
        p["w"].mul_(2)
        return -p["w"].square().sum()

    for log_joint, message in (
        (lambda p: -(x @ p["w"]).square().sum(), "mixes precisions.*x.double"),
        (writes, "writes into 'w'"),
        (lambda p: -p["w"].square().sum() + sum(p["w"].tolist()), "at many points at once.*loop=True"),
        (
            lambda p: -p["w"].square().sum() + float(p["w"].detach().numpy().sum()),
            "at many points.*loop=True",
        ),
    ):
        with pytest.raises(FitError, match=message):
            Target(log_joint, {"w": real(2)}).plain_log_prob(torch.ones(1, 2).double())
    with pytest.raises(FitError, match=r"leaves torch.*gradient='score'"):
        Target(lambda p: torch.tensor(-float((p["w"].numpy() ** 2).sum())), {"w": real(2)}, loop=True).check(
            gradient=True
        )


def test_numpy_needs_no_detach_where_no_gradient_is_asked_for() -> None:
    target = Target(lambda p: torch.tensor(-float((p["w"].numpy() ** 2).sum())), {"w": real(2)}, loop=True)
    assert target.plain_log_prob(torch.ones(1, 2).double()).tolist() == [-2.0]
    assert not target.differentiable


def test_distributions_that_validate_have_no_density_outside_their_support() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        return Normal(0.0, p["s"], validate_args=True).log_prob(torch.tensor(1.0).double())

    points = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    values = Target(log_joint, {"s": real()}, loop=True).plain_log_prob(points)
    assert torch.isfinite(values).tolist() == [True, False, True]
    with pytest.raises(FitError, match="no validate_args=True"):
        Target(log_joint, {"s": real()}).plain_log_prob(points)


def test_a_parameter_that_is_used_elsewhere_is_used() -> None:
    target = Target(
        lambda p: -p["a"].square() - (p["b"].square() if p["a"] > 1 else 0.0),
        {"a": real(), "b": real()},
        loop=True,
    )
    target.check(gradient=True)
    assert target.unused == ()
    assert target.remarks == []


def test_a_parameter_of_finite_volume_may_be_uniform() -> None:
    parameters = {"x": real(), "u": interval(1, 3), "p": simplex(3)}
    target = Target(lambda p: -0.5 * p["x"].square(), parameters)
    found = fit(target, pool=400)
    # The volumes of an interval of length 2 and of the simplex, as a density of two of its numbers.
    assert float(found.evidence) == pytest.approx(math.log(math.sqrt(2 * math.pi) * 2 / 2), abs=0.05)
    assert "doesn't depend on 'u', 'p'" in found.notes[-1]
    draws = mcmc.nuts(target, draws=50, chains=4)
    assert "doesn't depend on 'u', 'p'" in draws.summary().words[-1]


def test_bounds_have_the_shape_of_their_parameter() -> None:
    point = torch.zeros(1, 1).double()
    with pytest.raises(ShapeError, match=r"bound of shape \(3,\) for a parameter of shape \(\)"):
        Target(lambda p: p["x"].sum(), {"x": interval(0, torch.tensor([1.0, 2.0, 3.0]))}).log_prob(point)
    with pytest.raises(ConfigError, match=r"asks for 'y', but it knows .* none"):
        Target(lambda p: -p["x"], {"x": lower_bounded(lambda p: p["y"])}).log_prob(point)


def test_there_is_no_density_where_bounds_cross() -> None:
    parameters = {"a": real(), "b": interval(0, lambda p: 1 - p["a"])}
    values = Target(lambda p: -p["a"].square() - p["b"], parameters).plain_log_prob(
        torch.tensor([[0.5, 0.0], [1.5, 0.0]]).double()
    )
    assert torch.isfinite(values).tolist() == [True, False]


def test_a_sum_over_discrete_parameters_may_branch_with_the_loop() -> None:
    y = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)

    def branches(p: dict[str, Tensor]) -> Tensor:
        return (
            -0.5 * p["x"].square()
            + Normal(p["x"] if p["z"] == 1 else -p["x"], 1.0).log_prob(y[: int(p["k"])]).sum()
        )

    def masks(p: dict[str, Tensor]) -> Tensor:
        terms = Normal(torch.where(p["z"] == 1, p["x"], -p["x"]), 1.0).log_prob(y)
        return -0.5 * p["x"].square() + torch.where(torch.arange(3) < p["k"], terms, 0.0).sum()

    parameters = {"x": real(), "z": discrete(2), "k": discrete(4)}
    points = torch.linspace(-2, 2, 5).double()[:, None]
    looped, mapped = Target(branches, parameters, loop=True), Target(masks, parameters)
    torch.testing.assert_close(looped.plain_log_prob(points), mapped.plain_log_prob(points))
    drawn = looped.complete(points)
    assert drawn["k"].shape == (5,)
    with pytest.raises(FitError, match="loop=True"):
        Target(branches, parameters).plain_log_prob(points)


def test_minibatches_of_a_sum_are_refused() -> None:
    target = Target(
        lambda p: -p["a"].square(),
        {"a": real(), "z": discrete(2)},
        log_likelihood=lambda p, x: Normal(p["a"] + p["z"], 1.0).log_prob(x),
        data=torch.linspace(0, 1, 8).double(),
    )
    with pytest.raises(ConfigError, match="minibatches would bias the sum over 'z'"):
        fit(target, "full-rank", gradient="pathwise", batch_size=4)
    with pytest.raises(ConfigError, match="minibatches would bias the sum over 'z'"):
        mcmc.sgld(target, batch_size=4)
