import pytest
import torch

from jensen.errors import ShapeError
from jensen.linalg import Factor, Kronecker
from jensen.seeding import seeded


def spread(d: int, seed: int, rank: int | None = None) -> torch.Tensor:
    root = torch.randn(d, rank or d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / d


def vector(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


PRODUCTS = {
    "dense": lambda: Kronecker([Factor(spread(7, 0))], 2.0, 0.3),
    "diagonal": lambda: Kronecker([Factor(vector(7).square())], 0.5, 0.1),
    "two": lambda: Kronecker([Factor(spread(3, 1)), Factor(spread(4, 2, rank=2))], 1.5, 0.7),
    "embedding": lambda: Kronecker([Factor(vector(5).square()), Factor(spread(3, 2))], 1.5, 0.7),
    "three": lambda: Kronecker(
        [Factor(spread(2, 1)), Factor(vector(3).square()), Factor(spread(4, 2))], 1.0, 0.2
    ),
}


@pytest.fixture(params=list(PRODUCTS))
def product(request: pytest.FixtureRequest) -> Kronecker:
    return PRODUCTS[request.param]()


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def test_algebra_equals_that_of_the_dense_matrix(product: Kronecker) -> None:
    dense = product.dense()
    x = vector(6, *product.shape)
    flat = x.flatten(1)
    assert_close(product.multiply(x).flatten(1), flat @ dense)
    assert_close(product.solve(x).flatten(1), torch.linalg.solve(dense, flat.T).T)
    assert_close(product.inverse_sqrt(product.inverse_sqrt(x)), product.solve(x))
    assert_close(product.log_det, dense.logdet())
    assert_close(product.trace, dense.trace())
    assert_close(product.quadratic(x), ((flat @ dense) * flat).sum(1))
    assert_close(product.inverse_gram(x), flat @ torch.linalg.solve(dense, flat.T))
    assert_close(product.inverse_diagonal().flatten(), torch.linalg.inv(dense).diagonal())


def test_draws_have_the_inverse_as_covariance(product: Kronecker) -> None:
    n = 20_000
    with seeded(0):
        draws = product.sample(n).flatten(1)
    covariance = torch.linalg.inv(product.dense())
    wanted = covariance.diagonal()
    # The variance of an estimated covariance of normals is (c_ij^2 + c_ii c_jj) / n.
    error = ((covariance.square() + wanted[:, None] * wanted) / n).sqrt()
    assert float(((draws.T @ draws / n - covariance) / error).abs().max()) < 4.5


def test_shift_and_scale_keep_the_eigenbasis() -> None:
    product = PRODUCTS["two"]()
    moved = product.with_shift(2.0).with_scale(3.0)
    assert moved.factors[0] is product.factors[0]
    eye = torch.eye(12, dtype=torch.float64)
    assert_close(moved.dense(), 2 * eye + (product.dense() - 0.7 * eye) * 2)
    assert_close(moved.log_det, moved.dense().logdet())


def test_nothing_but_the_identity_needs_no_basis() -> None:
    product = PRODUCTS["two"]().with_scale(0.0).with_shift(3.0)
    x = vector(2, 3, 4)
    assert product.isotropic
    assert_close(product.multiply(x), 3 * x)
    assert_close(product.quadratic(x), 3 * x.square().sum((1, 2)))
    assert_close(product.log_det, product.dense().logdet())
    assert "_decomposed" not in vars(product.factors[0])


def test_covariance_of_a_contraction() -> None:
    product = PRODUCTS["two"]()
    a = vector(5, 4)
    values, vectors = product.contracted_inverse(a), product.factors[0].vectors
    jacobian = torch.stack([torch.kron(torch.eye(3, dtype=a.dtype), row[None]) for row in a])
    assert vectors is not None
    assert_close(
        vectors @ values.diag_embed() @ vectors.T,
        jacobian @ torch.linalg.inv(product.dense()) @ jacobian.mT,
    )


def test_sum_is_exact_for_one_factor() -> None:
    a, b = PRODUCTS["dense"](), Kronecker([Factor(vector(7).square())], 3.0, 0.4)
    assert_close(a.plus(b).dense(), a.dense() + b.dense())
    assert_close(b.plus(b).dense(), 2 * b.dense())
    assert b.plus(b).factors[0].diagonal


def test_sum_is_exact_where_a_factor_is_shared() -> None:
    shared = spread(3, 1)
    a = Kronecker([Factor(shared), Factor(spread(4, 2))], 1.5, 0.7)
    b = Kronecker([Factor(shared * 5), Factor(spread(4, 3))], 0.5, 0.2)
    assert_close(a.plus(b).dense(), a.dense() + b.dense())
    c = Kronecker([Factor(spread(3, 5)), Factor(a.factors[1].matrix * 2)], 1.0)
    assert_close(a.plus(c).dense(), a.dense() + c.dense())


def test_sum_is_the_nearest_product() -> None:
    a = Kronecker([Factor(spread(3, 1)), Factor(spread(4, 2))], 1.5)
    b = Kronecker([Factor(spread(3, 3)), Factor(spread(4, 4))], 0.5)
    got = a.plus(b)
    whole = a.dense() + b.dense()
    # Van Loan's rearrangement: blocks as rows; its best rank-one part has the other singular values as its error.
    rows = whole.reshape(3, 4, 3, 4).transpose(1, 2).reshape(9, 16)
    rest = torch.linalg.svdvals(rows)[1:].square().sum().sqrt()
    assert_close((whole - got.dense()).norm(), rest)
    assert min(float(factor.values.min()) for factor in got.factors) >= 0
    assert float(torch.linalg.eigvalsh(got.dense()).min()) > 0


def test_sum_with_an_empty_product_is_the_other() -> None:
    a = PRODUCTS["two"]()
    nothing = Kronecker([Factor(torch.zeros(3, 3).double()), Factor(torch.zeros(4, 4).double())])
    assert_close(a.plus(nothing).dense(), a.dense())
    assert_close(nothing.plus(nothing).dense(), torch.zeros(12, 12).double())


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"square matrix or a diagonal, got the shape \(2, 3\)"):
        Factor(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="can't be added"):
        PRODUCTS["dense"]().plus(PRODUCTS["two"]())
    with pytest.raises(ShapeError, match="two factors, got 1"):
        PRODUCTS["dense"]().contracted_inverse(vector(7))
    with pytest.raises(ShapeError, match="at least one"):
        Kronecker([])
