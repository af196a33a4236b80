"""A user's log-joint as a density over unconstrained coordinates."""

from collections.abc import Callable, Mapping
from copy import copy
from itertools import product
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from jensen.errors import ConfigError, DataError, FitError, JensenError, ShapeError
from jensen.inference.batching import Batched, explained, no_density, unvalidated
from jensen.inference.parameters import Parameter
from jensen.inference.sites import Sites
from jensen.registry import Registry
from jensen.seeding import seeded

LogJoint = Callable[[dict[str, Tensor]], Tensor]

LARGEST_SUM = 4096
"""Configurations of discrete parameters that a target sums over, unless the user says otherwise."""

LOOKS = 10
"""Points at which a log-joint is looked at, at most, before anything else."""

STARTS = 20
"""Attempts for each starting point, the second half at shrinking distances from the origin."""


class Target:
    r"""A density known up to its normaliser, given by a function of named parameters.

    .. math::
        \log \tilde p(u) = \log p(x, \theta(u)) + \log |\det \partial \theta / \partial u|

    over coordinates u in R^dim. The log-joint is written for one value of each parameter; the log-Jacobian of the
    transforms is added here. With ``log_likelihood`` and ``data`` the target can be restricted to rows of the data,
    whose part is then scaled by N/B (stochastic inference).

    Discrete parameters have no coordinates as long as they have few configurations: the density is that of the others,
    summed over all of these, and ``complete`` draws them given the others. With more configurations than
    ``largest_sum``, or where there are no other parameters, nothing is summed: each of their numbers is a *site*, and
    the sites' states are the last columns of every point, as whole numbers. ``fit`` takes such a target; samplers that
    move along real coordinates don't.

    Args:
        log_joint: From a dict of parameters to a scalar, nats. With ``log_likelihood``: the part without data.
        parameters: By name, in the order in which bounds may depend on them.
        log_likelihood: From the dict and the rows' tensors to (rows,), nats.
        data: Tensors or arrays with as many rows each; a single tensor may stand for itself.
        loop: Evaluate points one after the other, for log-joints that vmap refuses.
        largest_sum: Configurations of the discrete parameters, all together, that are summed over at most.

    Raises:
        ConfigError: If there is no parameter, something that isn't a parameter, only one of log_likelihood and data, or
            largest_sum is negative.
        ShapeError: If data have differing numbers of rows.

    Example:
        >>> from jensen.inference import positive, real
        >>> target = Target(lambda p: -0.5 * (p["x"] - 1) ** 2 - p["s"], {"x": real(), "s": positive()})
        >>> target.dim, target.log_prob(torch.zeros(1, 2)).tolist()
        (2, [-1.5])
    """

    def __init__(
        self,
        log_joint: LogJoint,
        parameters: Mapping[str, Any],
        *,
        log_likelihood: Callable[..., Tensor] | None = None,
        data: tuple[Any, ...] | list[Any] | Tensor | None = None,
        loop: bool = False,
        largest_sum: int = LARGEST_SUM,
    ) -> None:
        for name, parameter in parameters.items():
            if not isinstance(parameter, Parameter):
                raise ConfigError(
                    f"the parameter '{name}' is {type(parameter).__name__}; give one of jensen.inference's, such as "
                    "real(), positive(3) or interval(0, 1)"
                )
        if not parameters:
            raise ConfigError("a target needs at least one parameter, such as {'mu': real()}")
        if (log_likelihood is None) != (data is None):
            raise ConfigError("give log_likelihood and data together, or neither")
        if largest_sum < 0:
            raise ConfigError(
                f"largest_sum is {largest_sum}; it is a number of configurations, at least 0 (sum over nothing)"
            )
        self.log_joint = log_joint
        self.parameters: Mapping[str, Parameter] = Registry("parameter", parameters)
        self.log_likelihood = log_likelihood
        self.data = None if data is None else _rows(data)
        self.loop = loop
        self.largest_sum = largest_sum
        self.scale = 1.0
        self.continuous = sum(parameter.size for parameter in parameters.values())
        discrete = {name: parameter for name, parameter in parameters.items() if parameter.states}
        summed = self.continuous > 0 and 0 < _configurations(discrete) <= largest_sum
        self.configurations = _table(discrete) if summed else None
        self.sites = Sites(discrete) if discrete and not summed else None
        self.dim = self.continuous + (len(self.sites) if self.sites else 0)
        self._batched = Batched(self._one, loop=loop)
        self._checked: bool | str = False
        self.unused: tuple[str, ...] = ()
        self._floor: float | None = None

    @property
    def rows(self) -> int | None:
        """How many rows the data have, if they were given apart."""
        return None if self.data is None else len(self.data[0])

    @property
    def names(self) -> list[str]:
        """Of every number that a value holds, in order, such as ``theta[3]``."""
        return [
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, parameter in self.parameters.items()
            for index in product(*map(range, parameter.shape))
        ]

    @property
    def coordinates(self) -> list[str]:
        """Names of the unconstrained coordinates and then of the sites, in order."""
        found = [
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, parameter in self._continuous()
            for index in product(*map(range, parameter.unconstrained))
        ]
        return found + (self.sites.names if self.sites else [])

    def log_prob(self, points: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The log-density at unconstrained points, differentiable.

        Args:
            points: (n, dim), float64.

        Returns:
            Nats up to the log evidence, log-Jacobian included, (n,).
        """
        self.check()
        return self._floored(self._batched.values(self._points(points)))

    def plain_log_prob(self, points: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The same, detached and faster."""
        self.check()
        return self._floored(self._batched.plain_values(self._points(points)))

    def value_and_gradient(
        self, points: Float[Tensor, "n dim"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n dim"]]:
        """The log-density and its gradient, detached.

        Args:
            points: (n, dim), float64.

        Returns:
            (n,) nats and (n, dim); zero along sites.

        Raises:
            FitError: If the log-joint isn't differentiable, or doesn't use a parameter.
        """
        self.check(gradient=True)
        values, gradients = self._batched.values_and_gradients(self._points(points))
        if self._floor is not None:
            gradients = torch.where(torch.isfinite(values)[:, None], gradients, 0.0)
        return self._floored(values), gradients

    def floored(self, level: float) -> "Target":
        """The same target with a log-density of ``level`` wherever it isn't finite.

        With it a bound is finite although q still gives some probability to what the log-joint rules out.

        Args:
            level: Nats.
        """
        found = copy(self)
        found._floor = level
        return found

    def _floored(self, values: Tensor) -> Tensor:
        return values if self._floor is None else torch.where(torch.isfinite(values), values, self._floor)

    @property
    def remarks(self) -> list[str]:
        """What a reader of any result should know of the log-joint."""
        names = ", ".join(map(repr, self.unused))
        return [f"the log-joint doesn't depend on {names}, uniform over all that it can be"] if names else []

    def complete(self, points: Float[Tensor, "*batch dim"]) -> dict[str, Tensor]:
        """Values of all parameters at unconstrained points (*batch, dim); summed ones are drawn given the others.

        Draws come from torch's generator.
        """
        values = self.constrain(points)
        if self.configurations is None:
            return values
        flat = points.reshape(-1, self.dim)
        chosen = torch.zeros(0, dtype=torch.long)
        if len(flat):
            with torch.no_grad():
                parts = Batched(self._configured, loop=self.loop).values(flat).softmax(1)
            chosen = torch.multinomial(parts, 1)[:, 0]
        for name, states in self.configurations.items():
            values[name] = states[chosen].reshape(points.shape[:-1] + states.shape[1:])
        return {name: values[name] for name in self.parameters}

    def constrain(self, points: Float[Tensor, "*batch dim"]) -> dict[str, Tensor]:
        """Values of the parameters at unconstrained points (*batch, dim), each (*batch, *shape); not of summed ones."""
        flat = points.reshape(-1, self.dim)
        with unvalidated():
            values: dict[str, Tensor] = vmap(lambda point: self._constrain(point)[0])(flat)
        lead = points.shape[:-1]
        return {name: value.reshape(lead + value.shape[1:]) for name, value in values.items()}

    def unconstrain(self, values: Mapping[str, Any]) -> Float[Tensor, "*batch dim"]:
        """Unconstrained coordinates of values of all parameters, and the states of sites.

        Args:
            values: Each (*batch, *shape); discrete ones that are summed over are left out of account.

        Returns:
            (*batch, dim).

        Raises:
            ConfigError: If a parameter is missing or unknown.
            ShapeError: If a value has another shape.
            DataError: If a value lies outside the parameter's support.
        """
        for name in values:
            self.parameters[name]
        tensors: dict[str, Tensor] = {}
        batch: tuple[int, ...] | None = None
        for name, parameter in (*self._continuous(), *self._sites()):
            if name not in values:
                raise ConfigError(f"no value for the parameter '{name}'")
            try:
                value = torch.as_tensor(values[name], dtype=torch.float64)
            except (TypeError, ValueError, RuntimeError) as error:
                raise DataError(f"the value of '{name}' isn't made of numbers: {values[name]!r}") from error
            lead = value.ndim - len(parameter.shape)
            if lead < 0 or tuple(value.shape[lead:]) != parameter.shape:
                raise ShapeError(f"'{name}' has shape {parameter.shape}, got {tuple(value.shape)}")
            if batch is not None and tuple(value.shape[:lead]) != batch:
                raise ShapeError(
                    f"'{name}' has leading dimensions {tuple(value.shape[:lead])}, others have {batch}"
                )
            batch = tuple(value.shape[:lead])
            tensors[name] = value.reshape(-1, *parameter.shape)
        with unvalidated():
            points = vmap(self._unconstrain)(tensors)
        self._supported(points, tensors)
        return points.reshape(*(batch or ()), self.dim)

    def starting_points(self, n: int, seed: int | None = 0) -> Float[Tensor, "n dim"]:
        """Points where the log-density is finite, uniform within 2 of the origin or nearer.

        Args:
            n: How many.
            seed: Of the draws.

        Returns:
            (n, dim).

        Raises:
            FitError: If none is found.
        """
        with seeded(seed):
            draws = 4 * torch.rand(STARTS, n, self.continuous, dtype=torch.float64) - 2
            if self.sites:
                draws = torch.cat([draws, self.sites.random(STARTS, n)], 2)
        points, values = draws[0], self.plain_log_prob(draws[0])
        for attempt in range(1, STARTS):
            wrong = ~torch.isfinite(values)
            if not wrong.any():
                return points
            nearer = torch.ones(self.dim, dtype=torch.float64)
            nearer[: self.continuous] = 0.7 ** max(0, attempt - STARTS // 2)
            points = torch.where(wrong[:, None], nearer * draws[attempt], points)
            values = self.plain_log_prob(points)
        finite = torch.isfinite(values)
        if finite.any():
            # Copies of points that were found, for those that were not.
            return points[finite][torch.arange(n) % int(finite.sum())]
        value = float(values[0])
        raise FitError(
            f"the log-joint is {value} at every starting point that was tried, within 2 of the origin of the "
            "unconstrained coordinates: give init, a dict with a value of each parameter where it is finite, or look "
            "for a logarithm of zero or a wrong support in the log-joint"
        )

    def subsample(self, index: Int[Tensor, " batch"]) -> "Target":
        """The target of these rows alone, whose log-likelihood is scaled by N/B; unbiased for random rows.

        Args:
            index: Row numbers, (B,).

        Returns:
            A target with the same coordinates.

        Raises:
            ConfigError: If the target wasn't given log_likelihood and data, or sums over discrete parameters: the
                logarithm of a sum of likelihoods has no unbiased estimate from some rows.
        """
        if self.data is None:
            raise ConfigError("a target takes minibatches if it was given log_likelihood and data apart")
        if self.configurations is not None:
            raise ConfigError(
                f"minibatches would bias the sum over {', '.join(map(repr, self.configurations))}: the logarithm of a "
                "sum of likelihoods of all rows can't be estimated from some of them. Sum what belongs to one row in "
                "log_likelihood (logsumexp), or take all rows"
            )
        part = Target(
            self.log_joint,
            self.parameters,
            log_likelihood=self.log_likelihood,
            data=tuple(tensor.index_select(0, index) for tensor in self.data),
            loop=self.loop,
            largest_sum=self.largest_sum,
        )
        part._floor = self._floor
        part.scale = self.scale * len(self.data[0]) / len(index)
        part._checked = self._checked
        if self._batched.chunk is not None:
            part._batched.chunk = int(self._batched.chunk * max(1.0, len(self.data[0]) / len(index)))
        return part

    def check(self, *, gradient: bool = False) -> None:
        """Looks once at what the log-joint returns.

        Args:
            gradient: Also ask for a gradient with respect to every parameter.

        Raises:
            FitError: If it isn't a scalar tensor, or has no gradient.
        """
        if self._checked and not gradient:
            return
        if self._checked == "gradient":
            return
        if gradient:
            self._examine()
        else:
            self._looked()
        self._checked = "gradient" if gradient else True

    @property
    def differentiable(self) -> bool:
        """Whether what the log-joint returns has a gradient with respect to some continuous parameter."""
        if self.continuous == 0:
            return False
        try:
            return self._looked(gradient=True)[0].requires_grad
        except FitError:
            return False

    def _looked(self, *, gradient: bool = False, skipped: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The log-joint and the continuous values that it is made of, with each site in its first state.

        It is looked at the origin, or where it has a value at all.
        """
        with seeded(0):
            draws = 4 * torch.rand(LOOKS, self.dim, dtype=torch.float64) - 2
        points = torch.cat([torch.zeros(1, self.dim, dtype=torch.float64), draws])
        points[:, self.continuous :] = 0
        trouble: Exception | None = None
        for point in points[skipped:]:
            try:
                return self._seen(point, gradient)
            except JensenError:
                raise
            except (RuntimeError, ValueError) as error:
                trouble = error
                if not no_density(error):
                    raise (explained(error) if isinstance(error, RuntimeError) else error) from error
        raise FitError(
            f"the log-joint can't be evaluated at any of {len(points)} points: {str(trouble).splitlines()[0]}"
        ) from trouble

    def _seen(self, point: Tensor, gradient: bool) -> tuple[Tensor, dict[str, Tensor]]:
        with unvalidated(), torch.set_grad_enabled(gradient):
            values, _ = self._constrain(point)
            leaves = {name: values[name].detach().requires_grad_(gradient) for name, _ in self._continuous()}
            first = {name: states[0] for name, states in (self.configurations or {}).items()}
            before = {name: leaf._version for name, leaf in leaves.items()}
            result = self._log_density({**values, **leaves, **first})
        for name, leaf in leaves.items():
            if leaf._version != before[name]:
                raise FitError(f"the log-joint writes into '{name}'; make a new tensor, as in x = x + 1")
        return result, leaves

    def _examine(self) -> None:
        unused = {name for name, _ in self._continuous()}
        # One that may branch on values may use a parameter elsewhere.
        for skipped in range(LOOKS if self.loop else 1):
            result, leaves = self._looked(gradient=True, skipped=skipped)
            if not result.requires_grad:
                raise FitError(
                    "the log-joint has no gradient with respect to any parameter: it leaves torch (numpy, .item(), "
                    "float) or detaches; write it in torch operations, or use gradient='score' or mcmc.metropolis"
                )
            gradients: Any = torch.autograd.grad(result, list(leaves.values()), allow_unused=True)
            unused &= {name for name, value in zip(leaves, gradients, strict=True) if value is None}
            if not unused:
                break
        self.unused = tuple(
            name for name in self.parameters if name in unused and not self._bounds_others(name)
        )
        endless = [name for name in self.unused if not self._bounded(name)]
        if endless:
            raise FitError(
                f"the log-joint doesn't depend on {', '.join(map(repr, endless))}: its posterior would be improper; "
                "give it a prior, use it, or leave it out"
            )

    def _bounded(self, name: str) -> bool:
        """Whether a parameter's values have a finite volume, so that a flat density over them is proper."""
        return self.parameters[name].support in ("interval", "simplex", "cholesky-correlation")

    def _bounds_others(self, name: str) -> bool:
        """Whether the Jacobian of another parameter depends on this one; its density may then still be proper."""

        def of_others(shift: float) -> Tensor:
            point = torch.zeros(self.dim, dtype=torch.float64)
            point[self.slices[name]] = shift
            values, jacobian = self._constrain(point)
            return jacobian - self.parameters[name].constrain(point[self.slices[name]], values)[1]

        # Up to rounding.
        return not torch.allclose(of_others(0.0), of_others(0.7), rtol=1e-9, atol=1e-9)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each parameter's coordinates, or its sites, are among all of them; not of summed ones."""
        found: dict[str, slice] = {}
        start = 0
        for name, parameter in (*self._continuous(), *self._sites()):
            found[name] = slice(start, start + (parameter.size or prod(parameter.shape)))
            start = found[name].stop
        return found

    def _constrain(self, point: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        values: dict[str, Tensor] = {}
        jacobian = point.new_zeros(())
        start = 0
        for name, parameter in self._continuous():
            values[name], log_det = parameter.constrain(point[start : start + parameter.size], values)
            jacobian = jacobian + log_det
            start += parameter.size
        if self.sites:
            values.update(self.sites.values(point[self.continuous :]))
            values = {name: values[name] for name in self.parameters}
        return values, jacobian

    def _unconstrain(self, values: dict[str, Tensor]) -> Tensor:
        found = [parameter.inverse(values[name], values) for name, parameter in self._continuous()]
        return torch.cat([*found, *(values[name].reshape(-1) for name, _ in self._sites())])

    def _supported(self, points: Tensor, values: dict[str, Tensor]) -> None:
        if self.sites:
            self.sites.check(points[:, self.continuous :])
        back = self.constrain(torch.nan_to_num(points))
        for name, _ in self._continuous():
            value = values[name]
            found = torch.isfinite(points[:, self.slices[name]]).all() and torch.allclose(
                back[name], value, rtol=1e-5, atol=1e-8
            )
            if not found:
                raise DataError(
                    f"a value of '{name}' is outside its support ({self.parameters[name].support}) or on its edge"
                )

    def _one(self, point: Tensor) -> Tensor:
        if self.configurations is not None:
            return self._configured(point).logsumexp(0)
        values, jacobian = self._constrain(point)
        return self._log_density(values) + jacobian

    def _configured(self, point: Tensor) -> Tensor:
        """The log-density at a point with each configuration of the discrete parameters."""
        values, jacobian = self._constrain(point)
        assert self.configurations is not None

        def one(states: dict[str, Tensor]) -> Tensor:
            return self._log_density({**values, **states})

        if not self.loop:
            return vmap(one)(self.configurations) + jacobian
        names, tables = self.configurations.keys(), self.configurations.values()
        each = zip(*(table.unbind() for table in tables), strict=True)
        return torch.stack([one(dict(zip(names, states, strict=True))) for states in each]) + jacobian

    def _continuous(self) -> list[tuple[str, Parameter]]:
        return [(name, parameter) for name, parameter in self.parameters.items() if not parameter.states]

    def _sites(self) -> list[tuple[str, Parameter]]:
        return list(self.sites.parameters.items()) if self.sites else []

    def _log_density(self, values: dict[str, Tensor]) -> Tensor:
        result = _scalar(self.log_joint(values))
        if self.log_likelihood is None or self.data is None:
            return result
        rows: Any = self.log_likelihood(values, *self.data)
        if not isinstance(rows, Tensor) or rows.shape != self.data[0].shape[:1]:
            got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise FitError(
                f"log_likelihood has to return one number for each of {len(self.data[0])} rows, got {got}"
            )
        return result + self.scale * rows.double().sum()

    def _points(self, points: Tensor) -> Tensor:
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ShapeError(f"points have shape (n, {self.dim}), got {tuple(points.shape)}")
        if self.sites:
            self.sites.check(points[:, self.continuous :])
        return points.double()


def _configurations(discrete: Mapping[str, Parameter]) -> int:
    """How many joint values discrete parameters have; zero if there are none of them."""
    return prod(p.states ** prod(p.shape) for p in discrete.values()) if discrete else 0


def _table(discrete: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """Every joint value of discrete parameters, each (configurations, *shape)."""
    ranges = [torch.arange(p.states) for p in discrete.values() for _ in range(prod(p.shape))]
    table = torch.cartesian_prod(*ranges).reshape(_configurations(discrete), -1)
    parts = table.split([prod(parameter.shape) for parameter in discrete.values()], 1)
    return {
        name: part.reshape(len(part), *parameter.shape)
        for (name, parameter), part in zip(discrete.items(), parts, strict=True)
    }


def _rows(data: Any) -> tuple[Tensor, ...]:
    parts = (data,) if isinstance(data, Tensor) else tuple(data)
    parts = tuple(torch.as_tensor(part) for part in parts)
    if any(part.ndim == 0 for part in parts):
        raise ShapeError("data have rows, got a single number; give it as a tensor of shape (1,)")
    sizes = [len(part) for part in parts]
    if len(set(sizes)) != 1 or sizes[0] == 0:
        raise ShapeError(f"data are tensors with the same number of rows, at least one; got {sizes}")
    return parts


def _scalar(result: Any) -> Tensor:
    if not isinstance(result, Tensor):
        raise FitError(
            f"log_joint has to return a torch scalar, got {type(result).__name__}: no gradient without one"
        )
    if result.numel() != 1:
        raise FitError(
            f"log_joint has to return one number, got shape {tuple(result.shape)}; sum the log-densities: .sum()"
        )
    return result.reshape(()).double()
