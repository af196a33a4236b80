import itertools

import numpy as np
import torch
from torch import Tensor

from jensen.inference.ascent import _Curvature, ascend


def quadratic(precision: Tensor, centre: Tensor):
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        away = x - centre
        return -0.5 * ((away @ precision) * away).sum(1), -away @ precision

    return function


def test_a_quadratic_is_climbed_from_every_start():
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64)
    precision = root @ root.T + 0.1 * torch.eye(6)
    centre = torch.randn(6, dtype=torch.float64)
    end = ascend(quadratic(precision, centre), 10 * torch.randn(5, 6, dtype=torch.float64), tolerance=1e-16)
    assert end.converged.all()
    torch.testing.assert_close(end.points, centre.expand(5, 6), rtol=0, atol=1e-6)


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = -((1 - leaf[:, 0]) ** 2 + 100 * (leaf[:, 1] - leaf[:, 0] ** 2) ** 2)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def test_a_bent_valley():
    starts = torch.tensor([[-1.2, 1.0], [3.0, -2.0]], dtype=torch.float64)
    end = ascend(rosenbrock, starts, tolerance=1e-14)
    torch.testing.assert_close(end.points, torch.ones(2, 2, dtype=torch.float64), rtol=0, atol=1e-5)
    assert end.evaluations < 120


def test_searches_do_not_influence_each_other():
    starts = torch.tensor([[-1.2, 1.0], [3.0, -2.0]], dtype=torch.float64)
    both = ascend(rosenbrock, starts, tolerance=1e-14)
    alone = ascend(rosenbrock, starts[:1], tolerance=1e-14)
    torch.testing.assert_close(both.points[0], alone.points[0])


def test_steps_out_of_the_support_are_taken_back():
    def log_barrier(x: Tensor) -> tuple[Tensor, Tensor]:
        # log x - 100 x, not a number for x <= 0.
        return (x.log() - 100 * x)[:, 0], 1 / x - 100

    end = ascend(log_barrier, torch.tensor([[1.0]], dtype=torch.float64))
    assert end.converged.all()
    assert abs(float(end.points) - 0.01) < 1e-6


def test_a_search_that_has_not_arrived_says_so():
    starts = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    end = ascend(rosenbrock, starts, evaluations=5)
    assert not end.converged.any()
    assert end.evaluations == 5


def test_progress_is_told():
    seen = []
    starts = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    end = ascend(rosenbrock, starts, progress=lambda used, values: seen.append((used, float(values))))
    assert [used for used, _ in seen] == list(range(1, len(seen) + 1))
    assert len(seen) in {end.evaluations, end.evaluations - 1}
    assert all(b >= a for (_, a), (_, b) in itertools.pairwise(seen))


def directions(curvature: _Curvature, gradients: Tensor) -> Tensor:
    return torch.from_numpy(curvature.direction(gradients.numpy()))


def test_directions_are_those_of_updates_one_after_the_other():
    """The last pairs, applied to c I by the formula of Broyden, Fletcher, Goldfarb and Shanno."""
    generator = torch.Generator().manual_seed(0)
    count, dim, memory = 3, 5, 4
    curvature = _Curvature(count, dim, memory)
    gradients = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(directions(curvature, gradients).norm(dim=1), torch.ones(count).double())
    root = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(dim)
    pairs: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(count)]
    for number in range(7):
        step = torch.randn(count, dim, generator=generator, dtype=torch.float64)
        change = step @ hessian
        # One search takes in all pairs, one every second, one none.
        usable = np.array([True, number % 2 == 0, False])
        curvature.learn(step.numpy(), change.numpy(), usable)
        for search in usable.nonzero()[0].tolist():
            pairs[search].append((step[search], change[search]))
    found = directions(curvature, gradients)
    for search in range(2):
        s, y = pairs[search][-1]
        inverse = s @ y / (y @ y) * torch.eye(dim, dtype=torch.float64)
        for s, y in pairs[search][-memory:]:
            left = torch.eye(dim) - torch.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)
        torch.testing.assert_close(found[search], inverse @ gradients[search], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[2], gradients[2] / gradients[2].norm())
