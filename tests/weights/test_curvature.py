from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional

from jensen.errors import ConfigError
from jensen.seeding import seeded
from jensen.weights.curvature import STRUCTURES, CurvatureProblem, Precision
from jensen.weights.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    Likelihood,
    NormalLikelihood,
    PoissonLikelihood,
)
from jensen.weights.network import FunctionalNetwork


def made(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with seeded(seed):
        return make().double().eval()


def normal(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(
    network: nn.Module, x: torch.Tensor, likelihood: Likelihood, y: Any = None, **options: Any
) -> CurvatureProblem:
    function = FunctionalNetwork(network, options.pop("subset", "all"))
    targets = torch.zeros(len(x)) if y is None else y
    return CurvatureProblem(function, function.weights, x, targets, likelihood, **options)


def dense(precision: Precision) -> torch.Tensor:
    """The whole matrix over the weights in the order of the blocks, each a vector, weights before biases."""
    parts = []
    for block in precision.blocks:
        packing = block.packing
        identity = torch.eye(sum(torch.Size(s).numel() for s in packing.shapes), dtype=torch.float64)
        sizes = [torch.Size(shape).numel() for shape in packing.shapes]
        values = {
            name: part.reshape(-1, *shape)
            for name, shape, part in zip(packing.names, packing.shapes, identity.split(sizes, 1), strict=True)
        }
        rows = packing.pack(values).flatten(1)
        parts.append(rows @ block.matrix.dense() @ rows.T)
    return torch.block_diag(*parts)


def reference(
    network: nn.Module, x: torch.Tensor, hess: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Sum of J^T H J with dense Jacobians."""
    weights = {name: value.detach() for name, value in network.named_parameters()}
    jacobian = jacrev(lambda w: functional_call(network, w, (x,)))(weights)
    j = torch.cat([jacobian[name].flatten(2) for name in weights], 2)
    outputs = network(x).detach()
    return torch.einsum("ncp,ncd,ndq->pq", j, vmap(hess)(outputs), j)


def hessian(f: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return jacrev(jacrev(f))


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2))


LIKELIHOODS: dict[str, tuple[Likelihood, Callable[[torch.Tensor], torch.Tensor]]] = {
    "categorical": (
        CategoricalLikelihood(),
        lambda f: -functional.log_softmax(f, -1)[0],
    ),
    "bernoulli": (BernoulliLikelihood(), lambda f: functional.softplus(f).sum()),
    "poisson": (PoissonLikelihood(), lambda f: f.exp().sum()),
    "normal": (NormalLikelihood("learned"), lambda f: 0.5 * f.square().sum()),
}


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_full_and_diagonal_equal_dense_gauss_newton(name: str) -> None:
    likelihood, negative_log = LIKELIHOODS[name]
    network, x = made(mlp), normal(5, 3)
    # These links are canonical: the Hessian in the outputs doesn't depend on the target.
    wanted = reference(network, x, hessian(negative_log))
    assert_close(dense(STRUCTURES["full"](problem(network, x, likelihood))), wanted)
    got = STRUCTURES["diagonal"](problem(network, x, likelihood, memory=1000))
    assert_close(dense(got), wanted.diagonal().diag())


class Odd(nn.Module):
    """Layers that a datum goes through twice, that see two fixed rows, places of a picture, or one place alone."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.fixed = nn.Linear(3, 4)
        self.places = nn.Conv1d(1, 1, 1)
        self.single = nn.Conv1d(4, 2, 1)
        self.register_buffer("rows", torch.arange(6.0).reshape(2, 3) / 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twice(self.twice(x).tanh()).tanh() + self.fixed(self.rows).sin().sum(0)
        x = self.places(x[:, None])[:, 0].tanh()
        return self.single(x[..., None])[..., 0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_diagonal_of_layers_whose_rows_are_not_data(count: int) -> None:
    network, x = made(Odd), normal(count, 4)
    likelihood, negative_log = LIKELIHOODS["categorical"]
    wanted = reference(network, x, hessian(negative_log))
    got = STRUCTURES["diagonal"](problem(network, x, likelihood))
    assert_close(dense(got), wanted.diagonal().diag())


def test_heteroscedastic_information_is_the_expected_hessian() -> None:
    network, x = made(mlp), normal(5, 3)

    def information(f: torch.Tensor) -> torch.Tensor:
        variance = (2 * f[1]).exp()
        # E of the Hessian of log s + (y - m)^2 / 2 s^2 in (m, log s), with E (y - m)^2 = s^2.
        return torch.stack([1 / variance, torch.full_like(variance, 2.0)]).diag()

    got = STRUCTURES["full"](problem(network, x, NormalLikelihood("network")))
    assert_close(dense(got), reference(network, x, information))


def test_empirical_is_the_sum_of_squared_gradients() -> None:
    network, x = made(mlp), normal(6, 3)
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    rows = []
    for i in range(6):
        loss = functional.cross_entropy(network(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
    wanted = torch.stack(rows).T @ torch.stack(rows)
    options = {"curvature": "empirical"}
    assert_close(
        dense(STRUCTURES["full"](problem(network, x, CategoricalLikelihood(), y, **options))), wanted
    )
    got = STRUCTURES["kronecker"](problem(network, x[:1], CategoricalLikelihood(), y[:1], **options))
    one = torch.outer(rows[0], rows[0])
    for start, stop in ((0, 16), (16, 24), (24, 34)):
        assert_close(dense(got)[start:stop, start:stop], one[start:stop, start:stop])


ONE_ROW = {
    "mlp": (mlp, normal(1, 3)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3, 2)),
        normal(1, 2, 3, 3),
    ),
    "convolution 1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.Flatten(), nn.Linear(3, 2)),
        normal(1, 2, 5),
    ),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), normal(1, 3)),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Tanh(), nn.Linear(3, 2)),
        torch.tensor([[2]]),
    ),
}


@pytest.mark.parametrize("name", list(ONE_ROW))
def test_kronecker_is_exact_for_one_datum_of_one_place(name: str) -> None:
    make, x = ONE_ROW[name]
    network = made(make)
    whole = reference(network, x, hessian(LIKELIHOODS["poisson"][1]))
    got = STRUCTURES["kronecker"](problem(network, x, PoissonLikelihood()))
    # The reference holds all cross-covariances; the blocks are those of the layers.
    start = 0
    for block in got.blocks:
        size = sum(torch.Size(shape).numel() for shape in block.packing.shapes)
        assert_close(dense(Precision([block])), whole[start : start + size, start : start + size])
        start += size
    assert start == len(whole)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean(1))


def test_attention_has_kronecker_products() -> None:
    network, x = made(Attends), normal(1, 1, 4)
    got = STRUCTURES["kronecker"](problem(network, x, PoissonLikelihood()))
    names = [block.packing.names for block in got.blocks]
    assert names[:2] == [
        ("layer.self_attn.in_proj_weight", "layer.self_attn.in_proj_bias"),
        ("layer.self_attn.out_proj.weight", "layer.self_attn.out_proj.bias"),
    ]
    assert [len(block.matrix.factors) for block in got.blocks] == [2, 2, 2, 2, 1, 1, 2]
    weights = {name: value.detach() for name, value in network.named_parameters()}
    rows = []
    for output in network(x)[0].unbind():
        parts = torch.autograd.grad(output, list(network.parameters()), retain_graph=True)
        rows.append(dict(zip(weights, parts, strict=True)))
    jacobian = {name: torch.stack([row[name] for row in rows]) for name in weights}
    rate = network(x)[0].exp().detach()
    for block in got.blocks:
        j = block.packing.pack(jacobian).flatten(1)
        assert_close(block.matrix.dense(), (j.T * rate) @ j)


def test_kronecker_is_exact_for_a_linear_model_with_normal_noise() -> None:
    network, x = made(lambda: nn.Linear(3, 2)), normal(20, 3)
    wanted = reference(network, x, hessian(LIKELIHOODS["normal"][1]))
    got = STRUCTURES["kronecker"](problem(network, x, NormalLikelihood("learned"), memory=500))
    assert_close(dense(got), wanted)


class Scaled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) * 1.0


@pytest.mark.parametrize("name", ["categorical", "poisson"])
@pytest.mark.parametrize("curvature", ["ggn", "empirical"])
def test_the_short_way_for_the_last_layer_is_the_long_way(name: str, curvature: str) -> None:
    x, y = normal(9, 3), torch.tensor([0, 1, 1, 0, 1, 0, 1, 1, 1])
    targets = y if name == "categorical" else torch.stack([y, 1 - y], 1).double()
    found = []
    for network in (made(mlp), Scaled(made(mlp))):
        layer = "3" if isinstance(network, nn.Sequential) else "network.3"
        options = {"curvature": curvature, "memory": 700}
        found.append(
            STRUCTURES["kronecker"](
                problem(network, x, LIKELIHOODS[name][0], targets, subset=[layer], **options)
            )
        )
    assert_close(dense(found[0]), dense(found[1]))
    assert float(dense(found[0]).diagonal().min()) > 0


def test_changes_in_place_after_a_layer_change_nothing() -> None:
    x = normal(7, 3)
    found = [
        STRUCTURES["kronecker"](
            problem(
                made(
                    lambda i=inplace: nn.Sequential(nn.Linear(3, 4), nn.ReLU(i), nn.Linear(4, 2), nn.ReLU(i))
                ),
                x,
                PoissonLikelihood(),
                subset=subset,
            )
        )
        for inplace in (False, True)
        for subset in ("all", "last-layer")
    ]
    assert_close(dense(found[2]), dense(found[0]))
    assert_close(dense(found[3]), dense(found[1]))


@pytest.mark.parametrize(("groups", "padding", "stride"), [(1, 1, 2), (2, "same", 1), (4, 0, 1)])
def test_convolutions_expand_over_places(groups: int, padding: Any, stride: int) -> None:
    network = made(
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, (3, 2) if padding == 0 else 3, stride, padding, groups=groups),
            nn.Flatten(),
            nn.LazyLinear(2),
        )
    )
    x = normal(3, 4, 5, 6)
    network(x)
    got = STRUCTURES["kronecker"](problem(network, x, NormalLikelihood("learned"), subset=["0"]))
    # A place by itself: the convolution as a linear layer of patches, one set of rows a place.
    layer = network[0]
    assert isinstance(layer, nn.Conv2d)
    hidden = layer(x).detach().requires_grad_()
    outputs = network[2](network[1](hidden))
    gradients = torch.stack(
        [torch.autograd.grad(outputs[:, c].sum(), hidden, retain_graph=True)[0] for c in range(2)]
    )
    places = hidden.shape[2] * hidden.shape[3]
    g = gradients.movedim(2, -1).reshape(-1, 4)
    group = torch.arange(4) // (4 // groups)
    left = g.T @ g / (3 * places) * (group[:, None] == group)
    # Each weight's input at each place, by the derivative of the output in the weight.
    jacobian = jacrev(lambda w: functional_call(layer, {"weight": w, "bias": layer.bias.detach()}, (x,)))(
        layer.weight.detach()
    )
    first = [
        jacobian[:, o, :, :, o].flatten(3).reshape(-1, 4 // groups * layer.weight[0, 0].numel())
        for o in range(0, 4, 4 // groups)
    ]
    rows = torch.cat([torch.cat(first), torch.ones(3 * places * groups, 1)], 1)
    assert_close(got.blocks[0].matrix.dense(), torch.kron(left, rows.T @ rows / groups))


def test_embedding_counts_its_entries() -> None:
    network = made(lambda: nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2)))
    x = torch.tensor([[1, 1], [4, 0], [1, 3]])
    got = STRUCTURES["kronecker"](problem(network, x, NormalLikelihood("learned")))
    left, right = got.blocks[0].matrix.factors
    assert_close(left.matrix, torch.tensor([0.0, 3.0, 0.0, 1.0, 1.0]).double())
    weight = network[2].weight.detach()
    # The second place of the second datum is padding, which has no gradient.
    g = torch.cat([weight[:, :3]] * 3 + [weight[:, 3:]] * 2)
    assert_close(right.matrix, g.T @ g / 5)


def test_masked_entries_are_left_out() -> None:
    network, x = made(mlp), normal(5, 3)
    weights = dict(network.named_parameters())
    mask = torch.zeros_like(weights["0.weight"], dtype=torch.bool)
    mask[1] = True
    whole = STRUCTURES["full"](problem(network, x, PoissonLikelihood(), subset=["0.weight"]))
    part = STRUCTURES["full"](
        problem(network, x, PoissonLikelihood(), subset=["0.weight"], masks={"0.weight": mask})
    )
    assert_close(part.blocks[0].matrix.dense(), whole.blocks[0].matrix.dense()[3:6, 3:6])
    with seeded(0):
        drawn = part.with_shifts([1.0]).sample(3)["0.weight"]
    assert drawn.shape == (3, 4, 3)
    assert torch.equal(drawn[:, ~mask], torch.zeros(3, 9, dtype=torch.float64))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 1e9:
            raise AssertionError
        return self.layer(x).tanh()


def test_networks_that_vmap_refuses_are_gone_through_with_a_warning() -> None:
    network, x = made(Branches), normal(4, 3)
    wanted = reference(network, x, hessian(LIKELIHOODS["poisson"][1]))
    with pytest.warns(RuntimeWarning, match=r"network \(Branches\) does what can't be done for many data"):
        got = STRUCTURES["full"](problem(network, x, PoissonLikelihood()))
    assert_close(dense(got), wanted)


def test_unsupported_layers_are_named() -> None:
    network = made(lambda: nn.Sequential(nn.ConvTranspose1d(16, 16, 9), nn.Flatten(), nn.LazyLinear(2)))
    x = normal(2, 16, 3)
    network(x)
    with pytest.raises(
        ConfigError, match=r"'0.weight' of ConvTranspose1d has 2304.*structure='diagonal'.*subset"
    ):
        STRUCTURES["kronecker"](problem(network, x, PoissonLikelihood()))
    got = STRUCTURES["kronecker"](problem(network, x, PoissonLikelihood(), subset="last-layer"))
    assert got.names == ("2.weight", "2.bias")


def test_a_full_matrix_that_is_too_large_is_refused() -> None:
    network = nn.Linear(300, 100)
    with pytest.raises(ConfigError, match=r"30,100 weights is a matrix of 7 GiB.*'kronecker'"):
        STRUCTURES["full"](problem(network, torch.zeros(1, 300), PoissonLikelihood()))
