"""The joint density of data and weights under a normal prior of any precision, and steps towards its top."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.weights.curvature import Precision
from jensen.weights.laplace.evidence import Residuals
from jensen.weights.likelihoods import NOISE, NormalLikelihood
from jensen.weights.network import MEMORY, Values
from jensen.weights.problem import Problem


def deviations(weights: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> Values:
    """Weights less the prior's mean, by name."""
    return {name: value.double() - mean[name].double() for name, value in weights.items()}


@dataclass(frozen=True)
class Joint:
    """log p(y | x, w) + log N(w; m, P^-1), up to the prior's constant, in evaluation mode over all data.

    Attributes:
        problem: Network, data and likelihood.
        mean: m by name.
        log_noise: Logarithm of the noise's scale; None where there is none.
    """

    problem: Problem
    mean: Values
    log_noise: Tensor | None

    @property
    def _row_bytes(self) -> int:
        return self.problem.network.row_bytes(self.problem.x)

    def _chunks(self) -> list[slice]:
        size = max(1, MEMORY // (4 * self._row_bytes))
        return [slice(start, start + size) for start in range(0, len(self.problem), size)]

    def _values(self, weights: Mapping[str, Tensor]) -> Values:
        values = {name: value[None] for name, value in weights.items()}
        if self.log_noise is not None:
            values[NOISE] = self.log_noise.to(self.problem.network.dtype)[None]
        return values

    @torch.no_grad()
    def log_likelihood(self, weights: Mapping[str, Tensor]) -> float:
        """Log p(y | x, w), nats."""
        values, problem = self._values(weights), self.problem
        parts = [
            problem.log_likelihood(values, problem.x[rows], problem.y[rows]).double().sum()
            for rows in self._chunks()
        ]
        return float(torch.stack(parts).sum())

    @torch.no_grad()
    def residuals(self, weights: Mapping[str, Tensor]) -> Residuals:
        """What the noise has to explain: at least that targets are known to their rounding.

        Else noise that a network fits exactly would vanish, and the evidence have no largest value.
        """
        problem, total, count, size = self.problem, 0.0, 0, 0.0
        for rows in self._chunks():
            outputs = problem.network(
                {name: value[None] for name, value in weights.items()}, problem.x[rows]
            )[0]
            rest = problem.y[rows].reshape(outputs.shape) - outputs
            total += float(rest.double().square().sum())
            size += float(problem.y[rows].double().square().sum())
            count += rest.numel()
        rounding = torch.finfo(problem.network.dtype).eps ** 2
        return Residuals(max(total, rounding * (size or count)), count)

    def gradient(self, weights: Mapping[str, Tensor]) -> Values:
        """Of the log-likelihood in the weights, by name, in double precision."""
        problem = self.problem
        leaves = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
        total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in weights.items()}
        with torch.enable_grad():
            for rows in self._chunks():
                values = self._values(leaves)
                value = problem.log_likelihood(values, problem.x[rows], problem.y[rows]).sum()
                parts = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
                for name, part in zip(leaves, parts, strict=True):
                    total[name] += part
        return total

    def with_noise(self, log_noise: Tensor | None) -> "Joint":
        """The same with another scale of the noise."""
        return Joint(self.problem, self.mean, log_noise)

    @torch.no_grad()
    def step(
        self,
        weights: Values,
        log_likelihood: float,
        prior: Precision,
        posterior: Precision,
        before: "Step | None" = None,
    ) -> "Step":
        """One step of conjugate gradients with the posterior's precision as the preconditioner.

        The first one is a Newton step, which ends at the top where the precision is the curvature of the joint density;
        the conjugate directions that follow make up for what a diagonal or a product leaves out. The length is that of
        a parabola through both ends, or halved until the joint density grows.

        Args:
            weights: Where to start.
            log_likelihood: There.
            prior: P.
            posterior: Lambda.
            before: The last step; None: the first.
        """
        away = deviations(weights, self.mean)
        pull = prior.multiply(away)
        slope = {name: part - pull[name] for name, part in self.gradient(weights).items() if name in pull}
        scaled = posterior.solve(slope)
        turned = 0.0 if before is None else max(0.0, _dot(scaled, slope) - _dot(scaled, before.slope))
        weight = 0.0 if before is None or before.rise == 0 else turned / before.rise
        direction = {
            name: part if before is None else part + weight * before.direction[name]
            for name, part in scaled.items()
        }
        rise = _dot(direction, slope)
        if before is not None and rise <= 0:
            direction, rise = scaled, _dot(scaled, slope)
        quadratic = float(prior.quadratic(away))

        def at(size: float) -> tuple[float, float, Values]:
            moved = {
                name: (value.double() + size * direction[name]).to(value.dtype)
                if name in direction
                else value
                for name, value in weights.items()
            }
            there = self.log_likelihood(moved)
            change = float(prior.quadratic(deviations(moved, self.mean))) - quadratic
            return there - log_likelihood - 0.5 * change, there, moved

        size, best = 1.0, at(1.0)
        for _ in range(8):
            bend = rise * size - best[0]
            parabola = 0.5 * rise * size**2 / bend if bend > 0 else size
            if best[0] > 0:
                if abs(parabola / size - 1) > 1e-6:
                    best = max(best, at(min(parabola, 1000 * size)), key=lambda found: found[0])
                break
            size = min(max(parabola, 0.1 * size), 0.5 * size)
            best = at(size)
        gain, there, moved = best
        if not gain > 0:
            return Step(weights, log_likelihood, 0.0, direction, slope, 0.0)
        return Step(moved, there, gain, direction, slope, _dot(scaled, slope))


@dataclass(frozen=True)
class Step:
    """Where a step led.

    Attributes:
        weights: By name.
        log_likelihood: There.
        gain: By which the joint density grew, nats; 0 where no step gains.
        direction: That was taken.
        slope: The joint density's gradient where it began.
        rise: That gradient's square in the preconditioner's metric; 0 where the next step is to begin anew.
    """

    weights: Values
    log_likelihood: float
    gain: float
    direction: Values
    slope: Values
    rise: float


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return float(torch.stack([(part * b[name]).sum() for name, part in a.items()]).sum())


def noise_of(problem: Problem, values: Mapping[str, Tensor]) -> Tensor | None:
    """Logarithm of the noise's scale among values, or as the user fixed it; None where there is none."""
    likelihood = problem.likelihood
    if not isinstance(likelihood, NormalLikelihood) or likelihood.noise_scale == "network":
        return None
    if likelihood.noise_scale == "learned":
        return values[NOISE].detach().double().reshape(())
    return torch.tensor(float(likelihood.noise_scale), dtype=torch.float64).log()
