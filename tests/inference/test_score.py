from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from inference.test_stochastic import LOG_EVIDENCE, MEAN, PRECISION, displaced, gaussian, negative_kl
from jensen.errors import ConfigError
from jensen.inference import Target, real
from jensen.inference.families import Family, Flow, FullRank, LowRank, MeanField, Mixture
from jensen.inference.pathwise import pathwise
from jensen.inference.score import Quadratic, Score
from jensen.inference.stochastic import Ascending, stochastic
from jensen.seeding import seeded


def estimates(estimator: Callable, family: nn.Module, target: Target, samples: int, n: int) -> Tensor:
    found = []
    with seeded(1):
        for _ in range(n):
            family.zero_grad()
            estimator(target.value_and_gradient, family, samples).surrogate.backward()
            found.append(torch.cat([p.grad.reshape(-1) for p in family.parameters()]))
    return torch.stack(found)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("make", [MeanField, FullRank])
def test_gradient_is_unbiased(make: type, learned: bool) -> None:
    family = displaced(make(3))
    negative_kl(family).backward()
    exact = torch.cat([p.grad.reshape(-1) for p in family.parameters()])
    # Never enough to learn exactly: the control variate stays imperfect, as in practice.
    drawn = estimates(Score(learned=learned), family, gaussian(), 4, 300)
    standard_error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - exact).abs() < 4 * standard_error + 1e-6).all()


def cubic() -> Target:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        x = p["x"] - MEAN
        return -0.5 * x @ PRECISION @ x - 0.05 * (p["x"] ** 4).sum()

    return Target(log_joint, {"x": real(3)})


@pytest.mark.parametrize(
    "make", [LowRank, Flow, lambda dim: Mixture.around(torch.zeros(dim), torch.eye(dim), 2)]
)
def test_agrees_with_the_pathwise_gradient(make: Callable[[int], Family]) -> None:
    family = displaced(make(3))
    score = estimates(Score(), family, cubic(), 32, 120)
    path = estimates(pathwise, family, cubic(), 32, 60)
    standard_error = (score.var(0) / len(score) + path.var(0) / len(path)).sqrt()
    assert ((score.mean(0) - path.mean(0)).abs() < 4.5 * standard_error + 1e-9).all()


def test_learned_control_variate_takes_the_variance_of_a_quadratic() -> None:
    family = displaced(FullRank(3))
    score = Score()
    estimates(score, family, gaussian(), 50, 10)
    with_it = estimates(score, family, gaussian(), 16, 30).var(0).sum()
    without = estimates(Score(learned=False), family, gaussian(), 16, 30).var(0).sum()
    assert with_it < 1e-3 * without


def test_quadratic_expectation_is_exact() -> None:
    with seeded(0):
        points = torch.randn(400, 3, dtype=torch.float64)
    values = 1 + points[:, 0] - 2 * points[:, 1] * points[:, 2] + points[:, 2] ** 2
    h = Quadratic.fitted(points, values, MEAN, torch.ones(3).double(), True)
    torch.testing.assert_close(h.at(points), values, rtol=0, atol=0.01)
    family = displaced(FullRank(3))
    with seeded(1), torch.no_grad():
        drawn = h.at(family.sample(100_000))
    standard_error = float(drawn.std()) / len(drawn) ** 0.5
    assert abs(float(h.expectation(family(None)).detach()) - float(drawn.mean())) < 4 * standard_error


def test_a_log_joint_without_gradient() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        x = (p["x"].detach() - MEAN).numpy()
        return torch.tensor(float(-0.5 * x @ PRECISION.numpy() @ x), dtype=torch.float64)

    target = Target(log_joint, {"x": real(3)}, loop=True)
    found = stochastic(target, FullRank(3), estimator=Score(), ascending=Ascending(steps=300))
    assert abs(found.lower_bound - LOG_EVIDENCE) < 0.05


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        Score()(gaussian().value_and_gradient, MeanField(3), 1)
