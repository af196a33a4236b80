from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import jensen as jn
from jensen.errors import ConfigError
from jensen.training import Batch, Progress
from jensen.weights import FunctionalNetwork, Problem
from jensen.weights.ensemble import EnsembleOptions, joint, starts
from jensen.weights.fitting import problem_of
from jensen.weights.likelihoods import NOISE, likelihood
from jensen.weights.optimise import MemberBatches, Objective
from jensen.weights.priors import prior
from weights.linear import DTYPE, regression

X, Y = torch.randn(40, 3), torch.randn(40)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))


def test_all_members_are_at_the_most_probable_weights_of_linear_regression() -> None:
    problem = regression()
    posterior = problem.fit("ensemble", members=4, epochs=300, batch_size=1000, learning_rate=0.5)
    assert len(posterior) == 4
    torch.testing.assert_close(
        posterior.members["weight"][:, 0], problem.mean.expand(4, 3), atol=1e-3, rtol=1e-3
    )
    found = posterior.predict(problem.x)
    assert found.samples == 4
    assert float(found.epistemic_variance.max()) < 1e-5


def test_members_differ_in_weights_and_data_order() -> None:
    torch.manual_seed(0)
    function = FunctionalNetwork(chain())
    drawn = starts(function, 3)
    assert not torch.equal(drawn["0.weight"][0], drawn["0.weight"][1])
    batches = list(MemberBatches(X, Y, 10, sets=3).epoch(0))
    assert batches[0].x.shape == (3, 10, 3)
    assert not torch.equal(batches[0].x[0], batches[0].x[1])
    for member in range(3):
        rows = torch.cat([batch.context[member] for batch in batches])
        assert torch.equal(rows.sort().values, Y.sort().values)
    assert not torch.equal(batches[0].x, next(MemberBatches(X, Y, 10, sets=3).epoch(1)).x)


def test_together_is_what_one_after_the_other_gives() -> None:
    """A member that is trained in company ends where it would alone: nothing is shared."""
    torch.manual_seed(0)
    function = FunctionalNetwork(chain().double())
    first = starts(function, 3)
    x, y = torch.randn(3, 8, 3, dtype=DTYPE), torch.randn(3, 8, dtype=DTYPE)
    problem = Problem(function, x[0], y[0], likelihood("normal", 0.3), prior("normal", function.weights))

    def loss(values: dict[str, Tensor], batch: Batch, progress: Progress) -> Tensor:
        outputs = function(values, batch.x, training=True, each=True)
        return -problem.likelihood.log_prob(outputs, batch.context).mean(-1)

    together = Objective(first, loss)
    together(Batch(x, y), Progress(0, 0.0, 0.0))[0].backward()
    for member in range(3):
        alone = Objective({n: v[member : member + 1] for n, v in first.items()}, loss)
        alone(Batch(x[member : member + 1], y[member : member + 1]), Progress(0, 0.0, 0.0))[0].backward()
        torch.testing.assert_close(together.own[""].grad[member], alone.own[""].grad[0])


def test_bagging_draws_rows_with_replacement() -> None:
    rows = torch.randint(40, (3, 40))
    batches = list(MemberBatches(X, Y, 7, sets=3, rows=rows).epoch(0))
    for member in range(3):
        seen = torch.cat([batch.context[member] for batch in batches])
        assert torch.equal(seen.sort().values, Y[rows[member]].sort().values)
    plain = jn.weights.fit(chain(), X, Y, method="ensemble", members=3, epochs=3)
    bagged = jn.weights.fit(chain(), X, Y, method="ensemble", members=3, epochs=3, bagging=True)
    assert not torch.equal(plain.members["0.weight"], bagged.members["0.weight"])


def test_weighted_members_count_by_their_joint_density() -> None:
    options = {"method": "ensemble", "members": 4, "epochs": 5, "noise_scale": 1.0}
    alike = jn.weights.fit(chain(), X, Y, **options)
    weighted = jn.weights.fit(chain(), X, Y, weighted=True, **options)
    problem = problem_of(weighted.network, X, Y, weighted.likelihood, None, weighted.prior)
    expected = joint(problem, weighted.members).softmax(0)
    found = weighted.predict(X, samples=2)
    assert found.samples == 4
    torch.testing.assert_close(found.mean, (expected[:, None] * found.outputs[..., 0]).sum(0))
    torch.testing.assert_close(alike.predict(X).mean, found.outputs[..., 0].mean(0))


def test_adversarial_training_looks_at_moved_data() -> None:
    options = {"method": "ensemble", "members": 2, "epochs": 60, "learning_rate": 0.02, "batch_size": 40}
    x = torch.linspace(-1, 1, 40)[:, None]
    y = (x[:, 0] > 0).long()
    network = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 2))
    plain = jn.weights.fit(network, x, y, **options)
    moved = jn.weights.fit(network, x, y, adversarial=0.2, **options)
    near = torch.tensor([[0.05]])
    assert float(moved.predict(near).mean.max()) < float(plain.predict(near).mean.max())


def test_heteroscedastic_members_learn_the_noise() -> None:
    torch.manual_seed(0)
    x = torch.rand(400, 1) * 2 - 1
    scale = torch.where(x[:, 0] < 0, 0.1, 1.0)
    y = scale * torch.randn(400)
    network = nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 2))
    posterior = jn.weights.fit(
        network, x, y, method="ensemble", members=3, noise_scale="network", epochs=100, learning_rate=0.02
    )
    found = posterior.predict(torch.tensor([[-0.5], [0.5]])).aleatoric_variance.sqrt()
    assert found.tolist() == pytest.approx([0.1, 1.0], rel=0.4)


def test_each_member_has_its_own_noise_and_batch_statistics(tmp_path: Path) -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    posterior = jn.weights.fit(network, X, Y, method="ensemble", members=3, epochs=3, batch_size=8)
    assert posterior.members[NOISE].shape == (3,)
    means = posterior.members["0.running_mean"]
    assert means.shape == (3, 3)
    assert not torch.equal(means[0], means[1])
    assert network[0].num_batches_tracked == 0
    posterior.save(tmp_path)
    again = jn.weights.load(tmp_path, network=network)
    assert torch.equal(again.predict(X).mean, posterior.predict(X).mean)


class Offset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


def test_parameters_that_no_module_draws_are_named() -> None:
    network = nn.Sequential(nn.Linear(3, 1), Offset())
    with pytest.warns(RuntimeWarning, match=r"1\.offset start alike.*Offset has no reset_parameters"):
        starts(FunctionalNetwork(network), 2)


def test_options() -> None:
    assert EnsembleOptions().members == 5
    with pytest.raises(ConfigError, match="greater than 0"):
        jn.weights.fit(chain(), X, Y, method="ensemble", members=0)


def test_places_of_an_embedding_are_not_moved() -> None:
    network = nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(4, 2))
    x, y = torch.arange(12).view(6, 2) % 4, torch.arange(6) % 2
    with pytest.raises(ConfigError, match="places of an embedding"):
        jn.weights.fit(network, x, y, method="ensemble", adversarial=0.01, epochs=1)
