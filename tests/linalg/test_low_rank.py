import torch
from scipy.stats import multivariate_normal

from jensen.linalg import LowRankPlusDiagonal


def made(d: int = 6, m: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(d, m, generator=generator, dtype=torch.float64)
    diagonal = torch.rand(d, generator=generator, dtype=torch.float64) + 0.1
    return factor, diagonal, torch.randn(9, d, generator=generator, dtype=torch.float64)


def test_density_equals_scipys_dense_normal() -> None:
    factor, diagonal, x = made()
    covariance = LowRankPlusDiagonal(factor, diagonal)
    dense = multivariate_normal(torch.zeros(6).numpy(), (factor @ factor.T + diagonal.diag()).numpy())
    torch.testing.assert_close(
        covariance.log_prob(x)[0], torch.from_numpy(dense.logpdf(x.numpy())), rtol=1e-10, atol=0
    )
    torch.testing.assert_close(covariance.log_det[0], covariance.dense().logdet(), rtol=1e-12, atol=0)


def test_patterns_are_blocks_of_the_matrix() -> None:
    factor, diagonal, x = made()
    patterns = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    patterns[3] = False
    which = torch.arange(9) % 4
    covariance = LowRankPlusDiagonal(factor, diagonal, patterns)
    value, _ = covariance.log_prob(torch.where(patterns[which], x, 0.0), which)
    whole = (factor @ factor.T + diagonal.diag()).numpy()
    for i, row in enumerate(x.numpy()):
        seen = patterns[which[i]].numpy()
        expected = multivariate_normal(cov=whole[seen][:, seen]).logpdf(row[seen]) if seen.any() else 0.0
        assert abs(float(value[i]) - float(expected)) < 1e-11


def test_tiny_noise_loses_no_digits() -> None:
    factor, _, _ = made(5, 1)
    x = (factor @ torch.tensor([[3.0]], dtype=torch.float64)).T
    # On the line, the distance is that along it alone, whatever the noise: 3^2 in the limit.
    value, _ = LowRankPlusDiagonal(factor, torch.tensor(1e-14, dtype=torch.float64)).quadratic(x)
    torch.testing.assert_close(value[0], torch.tensor(9.0, dtype=torch.float64), rtol=1e-10, atol=0)
