import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import jensen as jn
from jensen.errors import ConfigError, DataError, ShapeError
from jensen.weights import FunctionalNetwork
from jensen.weights.network import flat, tensor_of, unflat
from jensen.weights.stacked import LARGE, Product, stacked

NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "chain": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)), (3,)),
    "images": (
        nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)),
        (1, 3, 4),
    ),
    "convolution": (
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)),
        (1, 5, 5),
    ),
    "attention": (
        nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.1), nn.Flatten(), nn.Linear(12, 2)
        ),
        (3, 4),
    ),
}


def drawn(network: FunctionalNetwork, sets: int) -> dict[str, Tensor]:
    return {n: torch.randn(sets, *v.shape) * 0.3 for n, v in network.weights.items()}


def by_hand(network: nn.Module, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    network = copy.deepcopy(network).eval()
    sets = len(next(iter(weights.values())))
    with torch.no_grad():
        return torch.stack(
            [functional_call(network, {n: v[s] for n, v in weights.items()}, (x,)) for s in range(sets)]
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_in_chunks_are_those_of_one_set_after_the_other(name: str) -> None:
    torch.manual_seed(0)
    network, event = NETWORKS[name]
    x = torch.randn(7, *event)
    with torch.no_grad():
        network(x)
    function = FunctionalNetwork(network)
    weights = drawn(function, 5)
    expected = by_hand(network, weights, x)
    for memory in (1, 3000, 2**26):
        torch.testing.assert_close(function.outputs(weights, x, memory), expected, atol=1e-5, rtol=1e-4)
    each = function(weights, torch.stack([x] * 5), each=True)
    torch.testing.assert_close(each, expected, atol=1e-5, rtol=1e-4)


def test_chunks_keep_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    function = FunctionalNetwork(nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 1)))
    x, seen = torch.randn(100, 3), []
    call = FunctionalNetwork.__call__

    def counted(self: FunctionalNetwork, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        seen.append(len(weights["0.weight"]) * len(x))
        return call(self, weights, x)

    monkeypatch.setattr(FunctionalNetwork, "__call__", counted)
    row = function.row_bytes(x)
    assert row == 4 * (3 + 50 + 50 + 1)
    function.outputs(drawn(function, 8), x, memory=40 * row)
    assert sum(seen) == 800
    assert max(seen) == 40


def test_the_users_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 1))
    network.train()
    network(torch.randn(4, 2)).sum().backward()
    network[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    modes = [module.training for module in network.modules()]
    function = FunctionalNetwork(network)
    weights = {n: v[None].clone().requires_grad_() for n, v in function.weights.items()}
    buffers = {n: v[None].clone() for n, v in function.buffers.items()}
    function(weights, torch.randn(4, 2), buffers, training=True).sum().backward()
    function.outputs(weights, torch.randn(4, 2))
    assert "0.bias" not in function.weights
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(p.grad, gradients[n]) for n, p in network.named_parameters() if n in gradients)
    assert [module.training for module in network.modules()] == modes
    assert not network[0].bias.requires_grad
    assert not torch.equal(buffers["1.running_mean"][0], before["1.running_mean"])


def test_batch_statistics_in_training_belong_to_each_set() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    function = FunctionalNetwork(network)
    weights, x = drawn(function, 4), torch.randn(6, 2)
    buffers = {n: v.expand(4, *v.shape).clone() for n, v in function.buffers.items()}
    function(weights, x, buffers, training=True)
    for s in range(4):
        alone = copy.deepcopy(network).train()
        functional_call(alone, {n: v[s] for n, v in weights.items()}, (x,))
        torch.testing.assert_close(buffers["1.running_var"][s], alone[1].running_var)
    assert buffers["1.num_batches_tracked"].tolist() == [1, 1, 1, 1]


def test_random_modules_draw_for_each_set_in_training() -> None:
    torch.manual_seed(0)
    for hidden in (nn.Tanh(), nn.Hardtanh()):  # a chain of known layers, and one for vmap
        function = FunctionalNetwork(nn.Sequential(nn.Linear(2, 50), hidden, nn.Dropout(), nn.Linear(50, 1)))
        same = {n: v.expand(3, *v.shape) for n, v in function.weights.items()}
        x = torch.randn(4, 2)
        first, second, third = function(same, x, training=True)
        assert not torch.allclose(first, second)
        assert not torch.allclose(second, third)
        first, second, third = function(same, x)
        assert torch.equal(first, second)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x if x.sum().item() > 0 else -x


def test_what_vmap_refuses_is_named_and_gone_through_one_by_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), Branching(), nn.Linear(2, 1))
    function = FunctionalNetwork(network)
    weights, x = drawn(function, 5), torch.randn(4, 3)
    with pytest.warns(RuntimeWarning, match=r"module '1' \(Branching\)"):
        found = function(weights, x)
    torch.testing.assert_close(found, by_hand(network, weights, x))
    torch.testing.assert_close(function(weights, x), found)  # a second warning would be an error


def test_wrong_data_are_a_clear_error() -> None:
    for hidden in (nn.Tanh(), nn.Hardtanh()):
        function = FunctionalNetwork(nn.Sequential(nn.Linear(3, 2), hidden, nn.Linear(2, 1)))
        with pytest.raises(ShapeError, match=r"\(4, 5\).*module '0' \(Linear\)"):
            function(drawn(function, 2), torch.randn(4, 5))
    with pytest.raises(ShapeError, match="n of at least 1"):
        function.inputs(torch.zeros(0, 3))
    lstm = FunctionalNetwork(nn.LSTM(3, 2, batch_first=True))
    with pytest.raises(ShapeError, match="has to return a tensor"):
        lstm.single({}, torch.zeros(4, 2, 3))


def test_no_parameters_and_frozen_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        FunctionalNetwork(nn.ReLU())
    with pytest.raises(ConfigError, match="frozen"):
        FunctionalNetwork(nn.Linear(1, 1).requires_grad_(False))
    with pytest.raises(ConfigError, match=r"lies in, '3'; there are: 0\.weight"):
        FunctionalNetwork(nn.Sequential(nn.Linear(1, 1)), ["3"])


def test_subsets_leave_the_rest_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    function = FunctionalNetwork(network, ["2.weight"])
    x = torch.randn(5, 3)
    found = function({"2.weight": torch.zeros(6, 2, 4)}, x)
    torch.testing.assert_close(found, network[2].bias.detach().expand(6, 5, 2))
    assert list(FunctionalNetwork(network, "last-layer").weights) == ["2.weight", "2.bias"]
    assert list(FunctionalNetwork(network, "0").fixed) == ["2.weight", "2.bias"]
    assert list(FunctionalNetwork(network, "2, 0.bias").fixed) == ["0.weight"]
    moved = function.changed({"2.bias": torch.ones(2)})
    torch.testing.assert_close(moved({"2.weight": torch.zeros(1, 2, 4)}, x), torch.ones(1, 5, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_tied_weights_stay_tied() -> None:
    network = Tied()
    function = FunctionalNetwork(network)
    weights, x = drawn(function, 2), torch.randn(4, 3)
    assert "second.weight" not in weights
    hidden = x @ weights["first.weight"][0].T + weights["first.bias"][0]
    expected = hidden @ weights["first.weight"][0].T + weights["second.bias"][0]
    torch.testing.assert_close(function(weights, x)[0], expected)


def test_chains_of_known_layers_only_are_stacked() -> None:
    assert stacked(NETWORKS["chain"][0]) is not None
    assert stacked(NETWORKS["images"][0]) is not None
    assert stacked(NETWORKS["attention"][0]) is None
    assert stacked(nn.ReLU()) is None
    hooked = nn.Sequential(nn.Linear(1, 1))
    hooked[0].register_forward_hook(lambda *_: None)
    assert stacked(hooked) is None


def test_flat_and_back() -> None:
    like = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    values = {"a": torch.randn(4, 2, 3), "b": torch.randn(4)}
    vectors = flat(values, like)
    assert vectors.shape == (4, 7)
    for name, value in unflat(vectors, like).items():
        assert torch.equal(value, values[name])


def test_large_layers_have_the_slopes_of_plain_ones() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double(), torch.randn(2, 5).double()
    inputs = tuple(value.requires_grad_() for value in (x, weight, bias))
    assert torch.autograd.gradcheck(Product.apply, inputs)
    torch.testing.assert_close(
        Product.apply(*inputs), torch.stack([x[s] @ weight[s].T + bias[s] for s in range(2)])
    )
    wide = nn.Sequential(nn.Linear(130, 130), nn.ReLU(), nn.Linear(130, 1))
    assert wide[0].weight.numel() >= LARGE
    function = FunctionalNetwork(wide)
    weights, rows = drawn(function, 3), torch.randn(6, 130)
    torch.testing.assert_close(function(weights, rows), by_hand(wide, weights, rows), atol=1e-4, rtol=1e-4)


def test_arrays_that_torch_cannot_share_are_copied() -> None:
    values = np.arange(6.0).reshape(2, 3)
    frozen = values.copy()
    frozen.flags.writeable = False
    for other in (
        values[::-1][::-1],
        values[::-1],
        frozen,
        values.astype(">f8"),
        values.astype("<f4")[:, ::-1],
    ):
        torch.testing.assert_close(tensor_of(other, "X").double(), torch.tensor(other.astype("<f8").copy()))
    for kind in (np.uint16, np.uint32, np.uint64):
        assert tensor_of(values.astype(kind), "y").dtype == torch.int64
    with pytest.raises(DataError, match="y has rows of several lengths"):
        tensor_of([[1, 2], [3]], "y")
    with pytest.raises(DataError, match="y has to hold numbers, got dtype <U1"):
        tensor_of(["a"], "y")


def test_inputs_are_real_and_places_of_embeddings_are_whole() -> None:
    network = FunctionalNetwork(nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(4, 1)))
    assert network.inputs(np.array([[0, 4]], dtype=np.uint8)).dtype == torch.int64
    with pytest.raises(DataError, match="complex"):
        FunctionalNetwork(nn.Linear(1, 1)).inputs(torch.ones(2, 1, dtype=torch.complex64))


class Picky(nn.Module):
    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 3:
            raise self.error("three columns, please")
        return self.layer(x)


@pytest.mark.parametrize("error", [AssertionError, IndexError, RuntimeError, TypeError, ValueError])
def test_what_a_module_says_of_data_is_told(error: type[Exception]) -> None:
    function = FunctionalNetwork(nn.Sequential(Picky(error)))
    for sets in (1, 2):
        with pytest.raises(ShapeError, match=r"module '0' \(Picky\) says 'three columns, please'"):
            function.outputs(drawn(function, sets), torch.zeros(4, 2))


def test_places_beyond_an_embedding_and_batches_of_one_are_named() -> None:
    embedding = FunctionalNetwork(nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(4, 1)))
    with pytest.raises(ShapeError, match=r"module '0' \(Embedding\) says 'index out of range"):
        embedding(drawn(embedding, 2), torch.tensor([[0, 5]]))
    normalised = FunctionalNetwork(nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ShapeError, match=r"module '1' \(BatchNorm1d\) says 'Expected more than 1 value"):
        normalised(drawn(normalised, 1), torch.zeros(1, 1), training=True)


def test_what_is_no_network_of_single_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"module '1' \(LazyLinear\) is lazy"):
        FunctionalNetwork(nn.Sequential(nn.Linear(1, 1), nn.LazyLinear(1)))
    with pytest.raises(ConfigError, match=r"module '0' \(BatchNorm1d\) keeps no running statistics"):
        FunctionalNetwork(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.Linear(2, 1)))


class Jittery(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.rand_like(x))


@pytest.mark.parametrize("method", ["map", "laplace"])
def test_a_network_that_draws_numbers_predicts_by_the_seed(method: str) -> None:
    x, y = torch.randn(6, 2), torch.tensor([0, 1] * 3)
    posterior = jn.weights.fit(Jittery(), x, y, method=method, epochs=1)
    state = torch.get_rng_state()
    first = posterior.predict(x, seed=1).mean
    posterior.network._bytes.clear()
    assert torch.equal(posterior.predict(x, seed=1).mean, first)
    assert torch.equal(posterior.predict(x, seed=1).mean, first)
    assert torch.equal(torch.get_rng_state(), state)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 3)
        for place in range(x.shape[1]):
            state = self.cell(x[:, place], state)
        return state


def test_what_torch_goes_through_one_by_one_is_named_once() -> None:
    torch.manual_seed(0)
    network, x = Recurrent(), torch.randn(6, 4, 2)
    function = FunctionalNetwork(network)
    weights = drawn(function, 5)
    with pytest.warns(RuntimeWarning, match=r"module 'cell' \(GRUCell\) has an operation") as said:
        found = function(weights, x)
    assert len(said) == 1
    torch.testing.assert_close(found, by_hand(network, weights, x))
    function(weights, x)  # a second warning would be an error
    with pytest.warns(RuntimeWarning) as said:
        jn.weights.fit(network, x, torch.arange(6) % 3, method="ensemble", members=2, epochs=2).predict(x)
    assert all(str(one.message).startswith("module 'cell'") for one in said)
