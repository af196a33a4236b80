from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, kl_divergence

from jensen.errors import BoundError, ShapeError
from jensen.inference import Target, discrete, real
from jensen.inference.blockwise import Blockwise
from jensen.inference.families import Categoricals, Factorised, FullRank, MeanField, Mixed
from jensen.inference.local_expectations import LocalExpectations, Neighbours
from jensen.inference.pathwise import pathwise
from jensen.inference.score import Score
from jensen.inference.stochastic import Estimator
from jensen.seeding import seeded

STATES = {"a": 2, "b": 3, "one": 1, "c": 2}


def table() -> Tensor:
    with seeded(3):
        return 2 * torch.randn(2, 3, 1, 2, dtype=torch.float64)


def enumerated() -> Target:
    values = table()
    return Target(
        lambda p: values[p["a"], p["b"], p["one"], p["c"]],
        {name: discrete(count) for name, count in STATES.items()},
    )


def beside() -> Target:
    """Two coordinates whose centre depends on the sites, which have a table."""
    values, centre = table(), table().sin()

    def log_joint(p: dict[str, Tensor]) -> Tensor:
        state = (p["a"], p["b"], p["one"], p["c"])
        return values[state] - 0.5 * (p["u"] - torch.stack([centre[state], p["a"] * 1.0])).square().sum()

    parameters = {"u": real(2), **{name: discrete(count) for name, count in STATES.items()}}
    return Target(log_joint, parameters, largest_sum=0)


def posterior(target: Target) -> Factorised:
    assert target.sites is not None
    rest = FullRank(2) if target.continuous else None
    q = Factorised(rest, Categoricals(target.sites.possible))
    with seeded(5), torch.no_grad():
        for parameter in q.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return q


def exact_bound(target: Target, q: Factorised) -> Tensor:
    """By enumeration; the expectation over a normal's coordinates in closed form."""
    joint = torch.ones((), dtype=torch.float64)
    for row, count in zip(q.sites.log_probs.exp(), STATES.values(), strict=True):
        joint = joint[..., None] * row[:count]
    bound = (joint * table()).sum() + q(None).site_entropy
    if q.continuous is None:
        return bound
    normal = q.continuous(None)
    centre = torch.stack([table().sin(), torch.arange(2.0)[:, None, None, None].expand(2, 3, 1, 2)])
    away = (normal.mean[:, None, None, None, None] - centre).square().sum(0)
    return bound - 0.5 * ((joint * away).sum() + normal.variance.sum()) + normal.entropy()


def gradients(
    estimator: Estimator, target: Target, q: Factorised, n: int, samples: int = 6
) -> tuple[Tensor, Tensor]:
    """Of n estimates: all parameters' gradients (n, parameters), and the bounds (n,)."""
    density = target.value_and_gradient if getattr(estimator, "needs_gradient", True) else values_only(target)
    found, bounds = [], []
    with seeded(1):
        for _ in range(n):
            q.zero_grad()
            one = estimator(density, q, samples)
            one.surrogate.backward()
            bounds.append(one.bound)
            found.append(torch.cat([p.grad.reshape(-1) for p in q.parameters() if p.grad is not None]))
    return torch.stack(found), torch.stack(bounds)


def values_only(target: Target) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda points: (target.plain_log_prob(points), torch.zeros_like(points))


def local(target: Target, budget: int = 1000, rest: Estimator | None = None) -> LocalExpectations:
    assert target.sites is not None
    return LocalExpectations(
        target.plain_log_prob, Neighbours(target.sites.states, target.continuous, 1000, budget), rest
    )


# A draw has 1 + 2 + 0 + 1 neighbours: 9 points are two draws' at each site.
CASES: dict[str, tuple[Callable[[], Target], Callable[[Target], Estimator]]] = {
    "local": (enumerated, local),
    "local, at some draws": (enumerated, lambda target: local(target, 9)),
    "score": (enumerated, lambda target: Score()),
    "local and path-wise": (beside, lambda target: local(target, rest=pathwise)),
    "local and score": (beside, lambda target: local(target, rest=Score())),
    "score and path-wise": (beside, lambda target: Blockwise(pathwise, Score())),
    "score of both": (beside, lambda target: Score()),
}


@pytest.mark.parametrize(("make", "estimator"), CASES.values(), ids=CASES)
def test_gradient_and_bound_are_unbiased(
    make: Callable[[], Target], estimator: Callable[[Target], Estimator]
) -> None:
    target = make()
    q = posterior(target)
    bound = exact_bound(target, q)
    bound.backward()
    exact = torch.cat([p.grad.reshape(-1) for p in q.parameters() if p.grad is not None])
    drawn, bounds = gradients(estimator(target), target, q, 120)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - exact).abs() < 4 * error + 1e-9).all()
    assert abs(bounds.mean() - bound.detach()) < 4 * bounds.std() / len(bounds) ** 0.5


def chain(p: dict[str, Tensor]) -> Tensor:
    spins = 2.0 * p["z"].double() - 1
    return 0.4 * (spins[1:] * spins[:-1]).sum() + 0.3 * spins.sum()


def test_variance_beside_that_of_leaving_one_out() -> None:
    target = Target(chain, {"z": discrete(2, 20)})
    assert target.sites is not None
    q = Factorised(None, Categoricals(target.sites.possible))
    left_out, _ = gradients(Score(learned=False), target, q, 60)
    mine, _ = gradients(local(target), target, q, 60)
    # A site's own choice and all that it isn't coupled to add no noise: about two of twenty terms are left.
    assert mine.var(0).sum() < 0.1 * left_out.var(0).sum()
    learned = Score()
    # It needs two draws for each of 230 coefficients.
    gradients(learned, target, q, 40, samples=16)
    assert gradients(learned, target, q, 20)[0].var(0).sum() < 1e-3 * left_out.var(0).sum()


def test_independent_sites_have_no_noise_at_all() -> None:
    rows = table()[:, :, 0, 0]
    target = Target(lambda p: rows[torch.arange(2), p["z"]].sum(), {"z": discrete(3, 2)})
    assert target.sites is not None
    q = Factorised(None, Categoricals(target.sites.possible))
    drawn, _ = gradients(local(target), target, q, 5)
    probs = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    exact = probs * (rows - (probs * rows).sum(1, keepdim=True))
    torch.testing.assert_close(drawn, exact.reshape(1, -1).expand(5, -1))


def test_neighbours_differ_in_one_site_and_all_are_looked_at() -> None:
    target = enumerated()
    assert target.sites is not None
    near = Neighbours(target.sites.states, 0, 1000)
    points = torch.tensor([[0.0, 2, 0, 1], [1, 1, 0, 0]], dtype=torch.float64)
    rise, looked = near.rises(target.plain_log_prob, points, target.plain_log_prob(points))
    values = table()
    assert len(near) == 4
    assert looked.sum((1, 2)).tolist() == [4, 4]
    torch.testing.assert_close(rise[0, 1, 0], values[0, 0, 0, 1] - values[0, 2, 0, 1])
    torch.testing.assert_close(rise[1, 3, 1], values[1, 1, 0, 1] - values[1, 1, 0, 0])
    assert not rise[~looked].any()


def test_the_distribution_is_a_product() -> None:
    logits = torch.tensor([[0.5, -1.0, 0.3], [2.0, 0.0, -torch.inf]], dtype=torch.float64)
    normal = MeanField.around(torch.ones(2), torch.tensor([1.0, 2.0]))(None)
    q = Mixed(normal, logits.log_softmax(1))
    sites = Independent(Categorical(logits=logits), 1)
    with seeded(0):
        points = q.sample(torch.Size([20_000]))
    states = points[:, 2:].long()
    torch.testing.assert_close(q.log_prob(points), normal.log_prob(points[:, :2]) + sites.log_prob(states))
    error = points.std(0) / len(points) ** 0.5
    assert ((points.mean(0) - q.mean).abs() < 4 * error).all()
    assert ((points.var(0) - q.variance).abs() < 0.05 * q.variance).all()
    torch.testing.assert_close(q.covariance_matrix.diagonal(), q.variance)
    assert int(states[:, 1].max()) == 1
    expected = -(logits.softmax(1) * logits.log_softmax(1).nan_to_num(neginf=0.0)).sum()
    torch.testing.assert_close(q.site_entropy, expected)
    other = Mixed(MeanField(2)(None), torch.zeros(2, 3, dtype=torch.float64).log_softmax(1))
    drawn = q.log_prob(points) - other.log_prob(points)
    assert abs(drawn.mean() - kl_divergence(q, other)) < 4 * drawn.std() / len(drawn) ** 0.5


def test_a_state_of_probability_zero_has_no_gradient_and_is_never_drawn() -> None:
    q = Categoricals(torch.tensor([[True, False, True]]), torch.tensor([[0.0, 5.0, 1.0]]))
    q(None).site_entropy.backward()
    assert q.logits.grad is not None
    assert torch.isfinite(q.logits.grad).all()
    assert float(q.logits.grad[0, 1]) == 0
    noise = torch.tensor([[-40.0], [40.0], [0.0]], dtype=torch.float64)
    assert q.draw(noise).points.tolist() == [[0.0], [2.0], [2.0]]
    q.ruled_out(torch.tensor([[False, False, True]]))
    assert q.draw(noise).points.tolist() == [[0.0], [0.0], [0.0]]


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="a possible state"):
        Categoricals(torch.tensor([[True, True], [False, False]]))
    target = beside()
    with pytest.raises(BoundError, match=r"families\.Factorised"):
        local(target)(target.value_and_gradient, posterior(target), 4)
    with pytest.raises(BoundError, match=r"families\.Factorised"):
        Blockwise(pathwise, Score())(values_only(enumerated()), posterior(enumerated()), 4)
