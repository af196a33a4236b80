import pytest
import torch
from torch.distributions import MultivariateNormal

from jensen.errors import ConfigError
from jensen.inference import Target, real
from jensen.inference.stein import direction, stein
from jensen.seeding import seeded

MEAN = torch.tensor([2.0, -1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[4.0, 1.0], [1.0, 0.5]], dtype=torch.float64)


def gaussian() -> Target:
    matrix = torch.linalg.inv(COVARIANCE)
    return Target(lambda p: -0.5 * (p["x"] - MEAN) @ matrix @ (p["x"] - MEAN), {"x": real(2)})


def test_direction_is_its_definition() -> None:
    with seeded(0):
        x = torch.randn(5, 2, dtype=torch.float64)
        scores = torch.randn(5, 2, dtype=torch.float64)
    squares = torch.tensor([[float((a - b).square().sum()) for b in x] for a in x], dtype=torch.float64)
    h = squares[~torch.eye(5, dtype=torch.bool)].median() / torch.log(torch.tensor(6.0, dtype=torch.float64))
    expected = []
    for i in range(5):
        leaf = x.clone().requires_grad_()
        kernel = torch.exp(-(leaf - x[i]).square().sum(1) / h)
        (repulsion,) = torch.autograd.grad(kernel.sum(), leaf)
        expected.append(((kernel.detach()[:, None] * scores) + repulsion).mean(0))
    torch.testing.assert_close(direction(x, scores), torch.stack(expected))


def test_gaussian_target() -> None:
    found = stein(gaussian(), torch.zeros(1, 2).double(), particles=150, steps=300, tolerance=1e-3)
    assert found.particles is not None
    sd = COVARIANCE.diagonal().sqrt()
    assert ((found.particles.mean(0) - MEAN).abs() / sd).max() < 0.03
    # Finite particles are known to lie a little too near together, never too far apart.
    ratio = found.particles.std(0) / sd
    assert ((ratio > 0.85) & (ratio < 1.02)).all()
    assert found.history[-1] > found.history[0]


def test_particles_are_shared_out_among_modes() -> None:
    modes = MultivariateNormal(
        torch.tensor([[-8.0], [8.0]], dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    )
    log_weights = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    target = Target(lambda p: (modes.log_prob(p["x"]) + log_weights).logsumexp(0), {"x": real(1)})
    found = stein(target, torch.tensor([[-5.0], [5.0]]).double(), particles=40, steps=20)
    assert found.particles is not None
    assert int((found.particles < 0).sum()) == 10


def test_bad_input_and_notes() -> None:
    with pytest.raises(ConfigError, match="at least 2 particles"):
        stein(gaussian(), torch.zeros(1, 2).double(), particles=1)
    found = stein(gaussian(), torch.zeros(1, 2).double(), particles=10, steps=2)
    assert any("still move after 2 steps" in note for note in found.notes)
    wide = Target(lambda p: -0.5 * p["x"].square().sum(), {"x": real(12)})
    assert any(
        "spread is too small" in note for note in stein(wide, torch.zeros(1, 12).double(), steps=2).notes
    )
