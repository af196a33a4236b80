import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from jensen.inference import Target, positive, real
from jensen.recording import record

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
