import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.func import grad_and_value, vmap

from jensen.inference import Target, positive, real
from jensen.recording import Dispatch, record

DATA = torch.linspace(-1, 2, 7, dtype=torch.float64)


def log_density(point: Tensor) -> Tensor:
    loop = point[0] * 0
    for x in DATA[:3]:
        loop = torch.tanh(loop + x * point[1])
    parts = torch.stack(point.unbind()).split([1, 2])
    matrix = torch.outer(point, point) + 3 * torch.eye(3, dtype=point.dtype)
    factor = torch.linalg.cholesky(matrix)
    return loop + (parts[1].max() - DATA).square().sum() - factor.diagonal().log().sum()


def both(points: Tensor) -> tuple[Tensor, Tensor]:
    slope, value = vmap(grad_and_value(log_density))(points)
    return value, slope


def test_a_recording_gives_the_same_values_and_gradients_elsewhere() -> None:
    first, other = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recorded = record(both, first)
    for wanted, found in zip(both(other), recorded(other), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_writes_into_tensors_are_recorded() -> None:
    def counted(x: Tensor) -> tuple[Tensor]:
        room = torch.zeros(3)
        room[1] = x[0]
        room.add_(x)
        return (room,)

    assert record(counted, torch.zeros(3))(torch.tensor([1.0, 2.0, 3.0]))[0].tolist() == [1, 3, 3]


def test_random_numbers_are_drawn_afresh() -> None:
    recorded = record(lambda x: (x + torch.randn(3),), torch.zeros(3))
    torch.manual_seed(5)
    found = [recorded(torch.ones(3))[0] for _ in range(2)]
    torch.manual_seed(5)
    assert torch.equal(torch.stack(found), torch.stack([1 + torch.randn(3) for _ in range(2)]))


def test_branches_on_arguments_are_refused_and_those_on_constants_are_not() -> None:
    with pytest.raises(RuntimeError, match="looks at a value"):
        record(lambda x: (x if x.sum() > 0 else -x,), torch.ones(3))
    with pytest.raises(RuntimeError, match="looks at a value"):
        record(lambda x: (x * float(torch.rand(())),), torch.ones(3))
    assert record(lambda x: (x * float(DATA.sum()),), torch.ones(1))(torch.ones(1))[0] == DATA.sum().float()


def test_writes_into_tensors_from_outside_are_refused() -> None:
    kept = torch.zeros(3)
    with pytest.raises(RuntimeError, match="from outside"):
        record(lambda x: (kept[:2].add_(x),), torch.ones(2))
    with pytest.raises(RuntimeError, match="from outside"):
        record(lambda x: (torch.mul(x, x, out=kept),), torch.ones(3))
    assert (
        record(lambda x: (torch.mul(kept, x, out=torch.empty(3)),), torch.ones(3))(torch.ones(3))[0].sum()
        == 0
    )


@pytest.mark.parametrize("kind", ["argument", "constant"])
def test_results_that_no_operation_makes(kind: str) -> None:
    chosen = {"argument": lambda x: (x,), "constant": lambda x: (DATA,)}[kind]
    wanted = torch.ones(7, dtype=torch.float64) if kind == "argument" else DATA
    assert torch.equal(record(chosen, torch.zeros(7, dtype=torch.float64))(torch.ones(7).double())[0], wanted)


def test_a_target_is_the_same_before_and_after_it_is_recorded() -> None:
    target = Target(
        lambda p: -0.5 * (p["x"] - p["s"]).square().sum() - p["s"], {"x": real(3), "s": positive()}
    )
    points = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = target.value_and_gradient(points)
    for _ in range(60):
        after = target.value_and_gradient(points)
    assert all(record.recorded is not None for record in target._batched._recorded.values())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_nothing_loads_the_compiler() -> None:
    """It takes a second, which is longer than most fits."""
    code = (
        "import sys, torch; from jensen.inference import Target, real\n"
        "target = Target(lambda p: -p['x'].square().sum(), {'x': real(2)})\n"
        "for _ in range(60): target.value_and_gradient(torch.zeros(3, 2).double())\n"
        "assert all(r.recorded for r in target._batched._recorded.values())\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_factorisation_that_fails_gives_no_density():
    def log_density(x: torch.Tensor) -> torch.Tensor:
        matrix = torch.eye(2, dtype=torch.float64) + x[0] * torch.ones(2, 2, dtype=torch.float64)
        return -torch.linalg.cholesky(matrix).diagonal().log().sum()

    def batch(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradients, values = torch.func.vmap(torch.func.grad_and_value(log_density))(points)
        return values, gradients

    good = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    values, gradients = record(batch, good)(torch.tensor([[0.5], [-3.0]], dtype=torch.float64))
    torch.testing.assert_close(values[0], batch(good)[0][0])
    assert values[1] == -torch.inf
    assert gradients[1] == 0


class Work(Dispatch):
    """Counts the numbers that each operation makes, and large results in memory by twos."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()
        self.twos = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # What aliases an argument makes none.
        if isinstance(result, Tensor) and func._schema.returns[0].alias_info is None:
            self.made[func.overloadpacket.__name__] += result.numel()
            self.twos += result.numel() > 5000 and result.shape[-1] == 2 and result.stride(-1) == 1
        return result


X = torch.linspace(-1, 1, 500, dtype=torch.float64)


def regression(point: Tensor) -> Tensor:
    # Spreads the scale over the data and takes its logarithm and square there, as torch's distributions do.
    return Normal(point[0] + point[1] * X, point[2].exp(), validate_args=False).log_prob(X.sin()).sum()


def mixture(point: Tensor) -> Tensor:
    components = Normal(point[:2], point[2].exp(), validate_args=False).log_prob(X[:, None])
    return (point.new_tensor([-0.5, -1.0]) + components).logsumexp(1).mean()


def both_of(density: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def function(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaves = points.detach().requires_grad_()
            values = vmap(density)(leaves)
            (slopes,) = torch.autograd.grad(values.sum(), leaves)
        return values.detach(), slopes

    return function


@pytest.mark.parametrize("density", [regression, mixture])
def test_work_is_left_out(density: Callable[[Tensor], Tensor]) -> None:
    first, other = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    function = both_of(density)
    wanted = function(other)
    works: list[Work] = []
    for exact in (True, False):
        recorded = record(function, first, exact=exact)
        with Work() as work:
            found = recorded(other)
        works.append(work)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        assert all(x.is_contiguous() for x in found)
    all_of_it, less = works
    if density is regression:
        assert (all_of_it.made["log"], less.made["log"]) == (20 * 500, 20)
        assert sum(less.made.values()) < 0.4 * sum(all_of_it.made.values())
    else:
        assert all_of_it.twos > 5
        assert less.twos == 0


def test_sums_of_what_is_the_same_for_some_terms() -> None:
    """Terms and factors that repeat, on either side, as numbers, and of fewer dimensions than the sum."""
    rows = torch.arange(150.0).double()[:, None] / 30

    def sums(x: Tensor) -> tuple[Tensor, ...]:
        y = torch.outer(x, x).cos()
        shared = y * 1.5
        return (
            ((y - x) * 2 - 0.5).sum(0),
            ((y - x) / 3 + rows.expand(150, 200)[:, :150]).sum(1, keepdim=True),
            (2 - (x * (y + 1)) * rows[0]).sum(),
            (rows / (y + 2)).sum([0, -1]) + torch.add(y, x, alpha=3).sum(1),
            torch.neg(-(x[:, None] - rows.T)).sum(1),
            shared.sum() + shared.sum(1),
            (y - x[:, None]).sum(1, dtype=torch.float32).double(),
        )

    x = torch.randn(150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recorded = record(sums, torch.zeros(150, dtype=torch.float64))
    torch.testing.assert_close(recorded(x), sums(x), rtol=1e-12, atol=1e-9)


def test_a_sum_after_its_terms_were_written_into() -> None:
    def late(x: Tensor) -> tuple[Tensor]:
        y = torch.outer(x, x)
        terms = y - x
        y += 1
        return (terms.sum(0),)

    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(record(late, torch.zeros(100))(x), late(x))


def test_what_asks_for_memory_in_order_gets_it() -> None:
    shift = torch.tensor([1.0, 2.0])
    recorded = record(lambda x: ((x[:, None] + shift).view(-1),), torch.zeros(5000))
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(recorded(x)[0], (x[:, None] + shift).view(-1))


def test_what_is_written_into_is_not_taken_for_a_repeated_number() -> None:
    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.expand(100, 50)
        room = wide.exp()
        room[3] += 1
        kept = wide.exp()
        return room.log() + kept.cos(), kept

    x = torch.rand(50, generator=torch.Generator().manual_seed(0))
    recorded = record(counted, torch.zeros(50))
    torch.testing.assert_close(recorded(x), counted(x))
    # A result can be written into as well.
    recorded(x)[1].add_(1)


def test_dimensions_of_different_tensors_repeat_together() -> None:
    shift = torch.arange(40.0).reshape(40, 1, 1)

    def mixed(x: Tensor) -> tuple[Tensor]:
        a = x[:, None].expand(30, 40)
        b = (a.exp() * 2).clamp(max=3) + shift.expand(40, 30, 40)
        c = torch.where(a > 0, a.square(), -1.0) + b.sigmoid().sum(0)
        return (torch.stack([c, a.tanh()]),)

    x = torch.randn(30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(record(mixed, torch.zeros(30))(x), mixed(x))


def at(values: Tensor) -> Tensor:
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(7), dtype=values.dtype)


PAIR = torch.tensor([1.0, 2.0])


def grown(x: Tensor) -> tuple[Tensor, ...]:
    a = x[None].expand(70, 70)
    b = a.exp() + 1
    a.transpose_(0, 1)
    return (b * a,)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        pytest.param(lambda x: (((x[x > 0] - 1.5) * 2).sum(),), torch.ones(20000), id="shapes of data"),
        pytest.param(
            lambda x: (torch.where(x[:, None] > 0, PAIR, x.double().sum()),), torch.ones(5000), id="types"
        ),
        pytest.param(grown, torch.ones(70), id="shapes in place"),
        pytest.param(
            lambda x: ((x.expand(100, 60) * 2).sum(), (x.expand(100, 60) * 2).sum(-1)),
            torch.ones(60),
            id="sums of one tensor",
        ),
        pytest.param(
            lambda x: ((x + 10**16).sum(),), torch.ones(5000, dtype=torch.float64), id="large number"
        ),
        pytest.param(
            lambda x: (x * 2, x.detach().unsqueeze_(0)), torch.ones(60), id="shape of a detached one"
        ),
    ],
)
def test_rewriting_keeps_what_is_asked_for(function: Callable[..., Any], x: Tensor) -> None:
    other = at(x)
    torch.testing.assert_close(record(function, x)(other), function(other), rtol=1e-5, atol=1e-5)


def test_what_depends_on_an_argument_by_way_of_a_write_is_not_looked_at() -> None:
    def branched(x: Tensor) -> tuple[Tensor]:
        room = torch.zeros(3)
        room[1] = x.sum()
        return (x if float(room.sum()) > 0 else -x,)

    with pytest.raises(RuntimeError, match="looks at a value"):
        record(branched, torch.ones(3))
    with pytest.raises(RuntimeError, match="looks at a value"):
        record(lambda x: (x if torch.equal(x.abs(), x) else -x,), torch.ones(3))
    with pytest.raises(RuntimeError, match="another size"):
        record(lambda x: ((x[:, None] + PAIR).resize_(3) * 1,), torch.ones(3))


def recorded_target(log_joint: Callable[[Any], Tensor], parameters: dict[str, Any], points: Tensor) -> Target:
    target = Target(log_joint, parameters)
    for _ in range(60):
        target.value_and_gradient(points)
    assert all(one.recorded is not None for one in target._batched._recorded.values())
    return target


def test_points_of_any_layout() -> None:
    ones = torch.ones(3, dtype=torch.float64)
    points = at(torch.ones(5, 6, dtype=torch.float64))
    target = recorded_target(lambda p: -(p["x"] @ ones).square().sum(), {"x": real(2, 3)}, points)
    for other in (at(torch.ones(6, 5, dtype=torch.float64)).T, points[:1].expand(5, 6)):
        for found, wanted in zip(
            target.value_and_gradient(other), target.value_and_gradient(other.contiguous()), strict=True
        ):
            assert torch.equal(found, wanted)


def test_a_decomposition_that_fails_in_a_recording_has_no_density() -> None:
    def density(p: Any) -> Tensor:
        x = p["x"]
        return -torch.linalg.eigvalsh(torch.outer(x, x) + torch.eye(3) * x[0].log()).square().sum()

    points = 1 + at(torch.ones(6, 3, dtype=torch.float64)).abs()
    target = recorded_target(density, {"x": real(3)}, points)
    points[2, 0] = -1.0
    values, _ = target.value_and_gradient(points)
    assert torch.isfinite(values).tolist() == [True, True, False, True, True, True]


def test_constant_factors_and_mixtures_of_vectors_are_recorded() -> None:
    covariance = torch.eye(3, dtype=torch.float64) + 1
    points = at(torch.ones(4, 3, dtype=torch.float64))
    recorded_target(
        lambda p: MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(p["x"]),
        {"x": real(3)},
        points,
    )
    data = at(torch.ones(500, 2, dtype=torch.float64))

    def vectors(point: Tensor) -> Tensor:
        eye = torch.eye(2, dtype=torch.float64)
        parts = MultivariateNormal(point[2:6].reshape(2, 2), scale_tril=eye, validate_args=False)
        shares = Categorical(logits=point[:2], validate_args=False)
        return MixtureSameFamily(shares, parts, validate_args=False).log_prob(data).sum()

    function = both_of(vectors)
    other = at(torch.ones(20, 6, dtype=torch.float64))
    found = record(function, torch.zeros_like(other))(other)
    torch.testing.assert_close(found, function(other), rtol=1e-11, atol=1e-11)
