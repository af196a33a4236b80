import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.errors import ConfigError, FitError, ShapeError
from jensen.inference import Fit, Target, discrete, fit, real
from jensen.inference.families import FullRank, MeanField, Mixed, Mixture

F64 = torch.float64


def probs(found: Fit) -> Tensor:
    assert isinstance(found.posterior, Mixed)
    return found.posterior.probs


def rows(states: int, sites: int, seed: int = 0) -> Tensor:
    return torch.randn(sites, states, dtype=F64, generator=torch.Generator().manual_seed(seed))


def independent(table: Tensor) -> Target:
    sites, states = table.shape
    return Target(
        lambda p: table[torch.arange(sites), p["z"]].sum(), {"z": discrete(states, sites)}, largest_sum=0
    )


@pytest.mark.parametrize("neighbours", [8192, 0])
def test_independent_sites_are_found_exactly(neighbours: int) -> None:
    table = rows(3, 9)
    found = fit(independent(table), neighbours=neighbours)
    log_z = float(table.logsumexp(1).sum())
    assert found.method == "categorical"
    # Below the tolerance of 5e-4 nats a site; the bound's own error is that of 4,000 draws.
    kl = (probs(found) * (probs(found).log() - table.log_softmax(1))).sum()
    assert 0 <= float(kl) < 9 * 5e-4
    assert abs(found.elbo - log_z) < 9 * 5e-4 + 4 * found.elbo_standard_error
    assert abs(float(found.evidence) - log_z) < 1e-3 + 4 * float(found.evidence.standard_error)
    assert found.pareto_k < 0.7
    assert "Trust means, spreads and 90 % intervals" in str(found.summary())


COUPLING, FIELDS = 0.4, torch.linspace(-0.5, 0.7, 14, dtype=F64)


def ising(p: dict[str, Tensor]) -> Tensor:
    spins = 2.0 * p["z"].double() - 1
    return COUPLING * (spins[1:] * spins[:-1]).sum() + (FIELDS * spins).sum()


def mean_field_bound(means: Tensor) -> float:
    sides = torch.stack([(1 - means) / 2, (1 + means) / 2])
    entropy = -torch.special.xlogy(sides, sides).sum()
    return float(COUPLING * (means[1:] * means[:-1]).sum() + (FIELDS * means).sum() + entropy)


def best_means() -> Tensor:
    """By coordinate ascent; the weakly coupled chain has one optimum."""
    means = torch.zeros(len(FIELDS) + 2, dtype=F64)
    for _ in range(200):
        for site, field in enumerate(FIELDS, start=1):
            means[site] = torch.tanh(field + COUPLING * (means[site - 1] + means[site + 1]))
    return means[1:-1]


@pytest.mark.parametrize("neighbours", [pytest.param(8192, marks=pytest.mark.slow), 20, 0])
def test_an_ising_chain_reaches_the_mean_field_optimum(neighbours: int) -> None:
    target = Target(ising, {"z": discrete(2, 14)})
    assert target.sites is not None
    found = fit(target, neighbours=neighbours)
    spins = torch.tensor([-1.0, 1.0], dtype=F64)
    forward = FIELDS[0] * spins
    for field in FIELDS[1:]:
        forward = (forward[:, None] + COUPLING * spins[:, None] * spins).logsumexp(0) + field * spins
    log_z = float(forward.logsumexp(0))
    best, mine = mean_field_bound(best_means()), mean_field_bound(2 * probs(found)[:, 1] - 1)
    assert best - 14 * 5e-4 < mine <= best + 1e-9
    assert abs(found.elbo - mine) < 4 * found.elbo_standard_error
    assert found.elbo < log_z - 0.3
    assert abs(float(found.evidence) - log_z) < 4 * float(found.evidence.standard_error)


Y = torch.cat([rows(12, 1)[0] - 2, rows(8, 1, 1)[0] + 2])
SHARES = torch.tensor([0.6, 0.4], dtype=F64)
CENTRES = torch.tensor([-2.0, 2.0], dtype=F64)


def mixture(p: dict[str, Tensor]) -> Tensor:
    z = p["z"]
    prior = Normal(CENTRES, 0.5).log_prob(p["mu"]).sum() + SHARES.log()[z].sum()
    return prior + Normal(p["mu"][z], 1.0).log_prob(Y).sum()


def summed(p: dict[str, Tensor]) -> Tensor:
    rest = (SHARES.log() + Normal(p["mu"], 1.0).log_prob(Y[:, None])).logsumexp(1).sum()
    return Normal(CENTRES, 0.5).log_prob(p["mu"]).sum() + rest


@pytest.fixture(scope="module")
def of_mixture() -> Fit:
    return fit(Target(mixture, {"mu": real(2), "z": discrete(2, 20)}))


def test_a_mixture_with_its_assignments(of_mixture: Fit) -> None:
    exact = fit(Target(summed, {"mu": real(2)}))
    found = of_mixture
    assert found.method == "full-rank and categoricals"
    assert not found.weighted
    gap = float(exact.evidence) - found.elbo
    assert 0 < gap < 0.5
    assert abs(float(found.evidence) - float(exact.evidence)) < 4 * float(found.evidence.standard_error)
    truth, mine = (one.sample(4000, seed=0)["mu"] for one in (exact, found))
    assert ((mine.mean(0) - truth.mean(0)).abs() / truth.std(0)).max() < 0.15
    assert (mine.std(0) <= 1.05 * truth.std(0)).all()


def test_draws_have_their_shapes_and_one_q(of_mixture: Fit) -> None:
    found = of_mixture
    draws = found.sample(torch.Size([3, 2]), seed=0)
    assert draws["mu"].shape == (3, 2, 2)
    assert draws["z"].shape == (3, 2, 20)
    assert draws["z"].dtype == torch.long
    again = found.sample(2000, seed=1)
    log_weights = torch.stack(
        [mixture({name: value[i] for name, value in again.items()}) for i in range(300)]
    ) - found.log_prob({name: value[:300] for name, value in again.items()})
    assert abs(float(log_weights.mean()) - found.elbo) < 4 * float(log_weights.std()) / 300**0.5
    frequencies = again["z"].double().mean(0)
    wanted = probs(found)[:, 1]
    assert ((frequencies - wanted).abs() < 4 * (wanted * (1 - wanted) / 2000).sqrt() + 1e-9).all()


def test_weighted_draws_are_nearer_to_the_posterior() -> None:
    target = Target(ising, {"z": discrete(2, 14)})
    found = fit(target, weighted=True, steps=200)
    plain = fit(target, steps=200)
    truth = exact_means()
    draws = 2.0 * found.sample(4000, seed=0)["z"].double().mean(0) - 1
    assert (draws - truth).abs().mean() < 0.5 * (2 * probs(plain)[:, 1] - 1 - truth).abs().mean()
    assert found.elbo > plain.elbo


def exact_means() -> Tensor:
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=F64)] * 14)
    energy = COUPLING * (states[:, 1:] * states[:, :-1]).sum(1) + states @ FIELDS
    return energy.softmax(0) @ states


def test_summary_and_arviz(of_mixture: Fit) -> None:
    found = of_mixture.summary()
    assert list(found.probabilities) == [f"z[{i}]" for i in range(20)]
    assert all(abs(sum(shares) - 1) < 1e-9 for shares in found.probabilities.values())
    text = str(found)
    assert "P(state)" in text
    assert sum(line.startswith("z[0]") for line in text.splitlines()) == 1
    data = of_mixture.to_arviz(100)
    assert data.posterior["z"].shape == (1, 100, 20)


def test_states_that_are_ruled_out_get_no_probability() -> None:
    table = rows(3, 8)
    table[2, 1] = table[5, 0] = -torch.inf
    found = fit(independent(table))
    assert probs(found)[2, 1] == 0
    assert probs(found)[5, 0] == 0
    assert found.elbo == pytest.approx(float(table.logsumexp(1).sum()), abs=8 * 5e-4)


def test_a_constraint_between_sites() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        same = p["z"][0] == p["z"][1]
        return torch.where(same, -torch.inf, 0.3 * p["z"].sum() + 0.2 * p["z"][0])

    found = fit(Target(log_joint, {"z": discrete(2, 3)}))
    # Independent sites can follow only one of the two ways to differ: the better one, z = (1, 0, any).
    assert probs(found)[0].tolist() == [0.0, 1.0]
    assert probs(found)[1].tolist() == [1.0, 0.0]
    rest = torch.tensor([0.5, 0.8], dtype=F64).logsumexp(0)
    assert found.elbo == pytest.approx(float(rest), abs=3 * 5e-4)


def test_sites_with_one_state_and_of_several_shapes() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        level = 1.0 * p["a"].sum() + 0.5 * p["b"] * p["one"].sum() + p["b"]
        return level - 0.5 * (p["x"] - 1).square()

    parameters = {"a": discrete(3, 2, 2), "x": real(), "one": discrete(1, 2), "b": discrete(2)}
    found = fit(Target(log_joint, parameters, largest_sum=0), "mean-field")
    draws = found.sample(5, seed=0)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "a": (5, 2, 2), "x": (5,), "one": (5, 2), "b": (5,),
    }  # fmt: skip
    assert not draws["one"].any()
    expected = 4 * torch.arange(3.0).logsumexp(0) + torch.arange(2.0).logsumexp(0) + 0.9189385
    assert found.elbo == pytest.approx(float(expected), abs=0.005)
    assert found.summary().probabilities["one[0]"] == (1.0,)


def test_only_states_that_have_no_choice() -> None:
    found = fit(Target(lambda p: p["z"].sum() - 2.0, {"z": discrete(1, 3)}))
    assert found.elbo == -2.0
    assert found.sample(4)["z"].tolist() == [[0, 0, 0]] * 4


def strong(p: dict[str, Tensor]) -> Tensor:
    """Thirteen spins that all want to be alike, either way."""
    spins = 2.0 * p["z"].double() - 1
    return 1.5 * (spins[1:] * spins[:-1]).sum()


def test_two_modes_are_noticed() -> None:
    found = fit(Target(strong, {"z": discrete(2, 13)}), steps=100)
    assert any("modes were found" in note for note in found.notes)


def test_a_log_joint_without_a_gradient() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        z = p["z"].double()
        return (0.5 * z).sum() - 0.5 * (p["x"].detach() - 2 * z[0]).square()

    target = Target(log_joint, {"x": real(), "z": discrete(2, 4)}, largest_sum=0)
    found = fit(target, steps=300)
    assert any("the score's" in note for note in found.notes)
    with pytest.raises(FitError, match="no gradient"):
        fit(target, gradient="pathwise")
    # z[0] and x depend on each other; the other sites don't.
    torch.testing.assert_close(
        probs(found)[1:, 1], torch.full((3,), 0.5, dtype=F64).sigmoid(), rtol=0, atol=0.02
    )


def test_a_posterior_of_ones_own_beside_sites() -> None:
    target = Target(
        lambda p: p["z"].sum() - 0.5 * (p["x"] - 1).square().sum(),
        {"x": real(2), "z": discrete(2, 2)},
        largest_sum=0,
    )
    found = fit(target, FullRank(2), steps=300)
    assert found.method == "FullRank and categoricals"
    assert (found.sample(4000, seed=0)["x"].mean(0) - 1).abs().max() < 0.1
    with pytest.raises(ShapeError, match="over 2 coordinates"):
        fit(target, MeanField(4))
    with pytest.raises(ConfigError, match="a mixture beside discrete sites"):
        fit(target, Mixture.around(torch.zeros(2), torch.eye(2)))


@pytest.mark.parametrize("state", [0, 1])
def test_init_is_where_it_starts(state: int) -> None:
    target = Target(strong, {"z": discrete(2, 13)})
    found = fit(target, init={"z": torch.full((13,), state)}, steps=100)
    assert probs(found)[:, state].min() > 0.9


def test_bad_input() -> None:
    target = Target(ising, {"z": discrete(2, 14)})
    with pytest.raises(
        ConfigError, match=r"'laplace' needs .* keeps the discrete 'z' with 16,384 configurations"
    ):
        fit(target, "laplace")
    with pytest.raises(ConfigError, match="gradient='fixed' needs"):
        fit(target, gradient="fixed")
    with pytest.raises(ConfigError, match="did you mean 'score'"):
        fit(target, gradient="skore")
    with pytest.raises(ConfigError, match="did you mean 'mean-field'"):
        fit(target, "mean-fild")
    with pytest.raises(ConfigError, match="knows its rows"):
        fit(target, batch_size=3)
    with pytest.raises(ConfigError, match="neighbours is -1"):
        fit(target, neighbours=-1)
    with pytest.raises(ConfigError, match="no value for the parameter 'z'"):
        fit(target, init={})
    with pytest.raises(ConfigError, match="about 10\\^60"):
        fit(Target(ising, {"z": discrete(2, 200)}), "stein")
    with pytest.raises(FitError, match="at every starting point"):
        fit(Target(lambda p: p["z"].sum() + torch.tensor(-torch.inf), {"z": discrete(2, 14)}))


def test_minibatches_leave_the_sites_probabilities_alone() -> None:
    """The probabilities of one site are those of all rows, by Bayes's rule."""
    rows = torch.randn(300, generator=torch.Generator().manual_seed(0)).double() + 0.05
    means = torch.tensor([0.0, 0.08, 0.16], dtype=torch.float64)
    target = Target(
        lambda p: torch.zeros(()).double(),
        {"z": discrete(3)},
        log_likelihood=lambda p, x: Normal(means[p["z"]], 1.0).log_prob(x),
        data=rows,
    )
    wanted = Normal(means[:, None], 1.0).log_prob(rows).sum(1).softmax(0)
    assert float(wanted.max()) < 0.6
    found = fit(target, batch_size=100, steps=400, pool=400)
    assert found.posterior is not None
    torch.testing.assert_close(found.posterior.probs[0].detach(), wanted, rtol=0, atol=0.04)


def test_minibatches_beside_coordinates() -> None:
    """A switch that turns a shift on: with little to choose, q is near the posterior's marginals."""
    rows = 0.5 * torch.randn(400, generator=torch.Generator().manual_seed(1)).double() + 1
    target = Target(
        lambda p: Normal(0.0, 3.0).log_prob(p["x"]),
        {"x": real(), "z": discrete(2)},
        log_likelihood=lambda p, y: Normal(p["x"] + 0.01 * p["z"], 1.0).log_prob(y),
        data=rows,
        largest_sum=0,
    )
    found = fit(target, batch_size=80, steps=200, pool=400)
    draws = found.sample(4000, seed=0)
    assert abs(float((draws["x"] + 0.01 * draws["z"]).mean() - rows.mean())) < 0.02
    assert float(draws["x"].std()) == pytest.approx(0.05, rel=0.1)
