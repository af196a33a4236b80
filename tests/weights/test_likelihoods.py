import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, Poisson

from jensen.errors import ConfigError, DataError, ShapeError, SupportError
from jensen.weights.likelihoods import LIKELIHOODS, NOISE, NormalLikelihood, likelihood

TORCH = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(3, 5, 4, generator=TORCH)
COUNTS = torch.randint(0, 4, (5, 4), generator=TORCH)


def test_log_prob_is_torchs() -> None:
    y = torch.tensor([0, 3, 1, 2, 2])
    torch.testing.assert_close(
        likelihood("categorical").log_prob(OUTPUTS, y), Categorical(logits=OUTPUTS).log_prob(y)
    )
    bits = (COUNTS > 1).float()
    torch.testing.assert_close(
        likelihood("bernoulli").log_prob(OUTPUTS, bits), Bernoulli(logits=OUTPUTS).log_prob(bits).sum(-1)
    )
    torch.testing.assert_close(
        likelihood("poisson").log_prob(OUTPUTS, COUNTS.float()),
        Poisson(OUTPUTS.exp()).log_prob(COUNTS.float()).sum(-1),
    )
    y = torch.randn(5, 4)
    torch.testing.assert_close(
        likelihood("normal", 0.3).log_prob(OUTPUTS, y), Normal(OUTPUTS, 0.3).log_prob(y).sum(-1)
    )
    scales = torch.tensor([0.1, 1.0, 2.0])
    torch.testing.assert_close(
        likelihood("normal").log_prob(OUTPUTS, y, {NOISE: scales.log()}),
        Normal(OUTPUTS, scales[:, None, None]).log_prob(y).sum(-1),
    )
    torch.testing.assert_close(
        likelihood("normal", "network").log_prob(OUTPUTS, y[:, :2]),
        Normal(OUTPUTS[..., :2], OUTPUTS[..., 2:].exp()).log_prob(y[:, :2]).sum(-1),
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_fast_density_is_that_of_the_cells(name: str) -> None:
    family = likelihood(name, 0.7 if name == "normal" else None)
    y = family.targets(torch.tensor([0, 1, 1, 0, 1]), 2 if name == "categorical" else 1)
    outputs = OUTPUTS[..., : 2 if name == "categorical" else 1]
    torch.testing.assert_close(family.log_prob(outputs, y), family.cells(outputs, {}).log_prob(y))


def test_targets_of_each_set() -> None:
    y = torch.randint(0, 4, (3, 5))
    together = likelihood("categorical").log_prob(OUTPUTS, y)
    apart = [likelihood("categorical").log_prob(OUTPUTS[s : s + 1], y[s])[0] for s in range(3)]
    torch.testing.assert_close(together, torch.stack(apart))


@pytest.mark.parametrize(
    ("name", "y", "outputs", "error", "message"),
    [
        ("categorical", [0.5, 1.0], 3, SupportError, "got 0.5"),
        ("categorical", [0, 3], 3, SupportError, "class numbers 0, ..., 2"),
        ("categorical", [[0, 1], [1, 0]], 3, ShapeError, r"\(2, 2\)"),
        ("categorical", [0, 1], 1, ShapeError, "one output a class"),
        ("bernoulli", [0, 2], 1, SupportError, "0 or 1"),
        ("bernoulli", [float("nan"), 1.0], 1, DataError, "1 of 2 targets are NaN"),
        ("poisson", [-1, 2], 1, SupportError, "counts"),
        ("normal", [1.0, float("inf")], 1, DataError, "NaN or infinite"),
        ("normal", [1.0, 2.0], 2, ShapeError, r"\(n, 2\)"),
    ],
)
def test_wrong_targets_are_refused(name: str, y: list, outputs: int, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        likelihood(name).targets(torch.tensor(y), outputs)


def test_one_class_only_is_refused_in_training() -> None:
    for name in ("categorical", "bernoulli"):
        family = likelihood(name)
        with pytest.raises(DataError, match="one class, 1"):
            family.trainable(family.targets(torch.tensor([1, 1, 1]), 2 if name == "categorical" else 1))


def test_noise_scales() -> None:
    for wrong in (0.0, -1.0, "much"):
        with pytest.raises(ConfigError, match="noise_scale"):
            NormalLikelihood(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave it out"):
        likelihood("poisson", 0.1)
    with pytest.raises(ConfigError, match="did you mean 'normal'"):
        likelihood("norml")
    with pytest.raises(ShapeError, match="two outputs"):
        likelihood("normal", "network").targets(torch.zeros(3), 1)
