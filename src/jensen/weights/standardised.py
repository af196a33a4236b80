"""A network that sees data and targets in units of their spread, with a posterior over its weights."""

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from jensen.errors import ConfigError, DataError, ShapeError
from jensen.weights.fitting import fit, unpacked
from jensen.weights.likelihoods import NoiseScale
from jensen.weights.network import MEMORY
from jensen.weights.posterior import Posterior
from jensen.weights.predictive import Predictive
from jensen.weights.priors import PriorScale
from jensen.weights.rescaled import RescaledPredictive


class Standardised:
    """A posterior over a network's weights, with data and targets in units that networks like.

    Data are shifted by their mean and divided by their standard deviation: of each column of a table, or of all cells
    together of images, where a cell that hardly varies in the fit must not become the loudest one. Targets with normal
    noise likewise, each column of several; predictions come in the targets' own unit, densities with their Jacobian.

    Args:
        network: Of any weights; it isn't changed.
        view: Shape in which it takes a datum.
        likelihood: Of the targets: "categorical", "bernoulli", "normal" or "poisson".
        scale: Whether data, and targets with normal noise, are brought into these units; else they are taken as they
            are.
        columns: Whether each column has a unit of its own; None: where the network takes a datum as a vector.

    Attributes:
        posterior: Over the weights; None before a fit.

    Example:
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> model = Standardised(nn.Linear(1, 1), (1,), "normal").fit(x, 500 + 100 * x[:, 0], method="map", epochs=300)
        >>> model.predict(x).mean.shape
        torch.Size([20])
    """

    def __init__(
        self,
        network: nn.Module,
        view: tuple[int, ...],
        likelihood: str,
        *,
        scale: bool = True,
        columns: bool | None = None,
    ) -> None:
        self.network = network
        self.view = view
        self.likelihood = likelihood
        self.scale = scale
        self.columns = len(view) == 1 if columns is None else columns
        self.shift = torch.zeros((), dtype=torch.float64)
        self.unit = torch.ones((), dtype=torch.float64)
        self.target_shift: float | Tensor = 0.0
        self.target_unit: float | Tensor = 1.0
        self.posterior: Posterior | None = None
        self._embeds = embeds(network)
        self._whole = True

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        noise_scale: NoiseScale | None = None,
        prior: str = "normal",
        prior_scale: PriorScale | None = None,
        method: str = "ensemble",
        seed: int = 0,
        on_epoch: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> "Standardised":
        """Finds the units and fits the posterior; see ``jensen.weights.fit``.

        Args:
            x: Data, (n, ...).
            y: Targets, (n,), or (n, d) of several a datum.
            noise_scale: In the targets' unit where it is a number. Several targets have units of their own, which one
                number can't be in.
            prior: On weights, which see data of unit variance.
            prior_scale: Of the prior.
            method: Of the fit.
            seed: Of all that is random.
            on_epoch: Called after each epoch.
            **options: Of the method.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If data or targets can't be used.
        """
        data = torch.as_tensor(x).reshape(len(x), *self.view)
        if data.is_floating_point() and not bool(data.isfinite().all()):
            raise DataError(
                f"{int((~data.isfinite()).sum())} of {data.numel()} cells of X are NaN or infinite; impute them or "
                "leave those data out"
            )
        targets = torch.as_tensor(y)
        self._whole = _whole(data)
        if self.scale and not self._embeds:
            self.shift, self.unit = _units(data, columns=self.columns)
        if self.likelihood == "normal":
            targets = targets.double()
            if not bool(targets.isfinite().all()):
                raise DataError("targets are NaN or infinite; leave those data out")
            if self.scale:
                self.target_shift, self.target_unit = _target_units(targets)
            targets = (targets - self.target_shift) / self.target_unit
            if isinstance(noise_scale, float | int) and isinstance(self.target_unit, Tensor):
                raise ConfigError(
                    f"noise_scale={noise_scale:g} is one number, and each of the {targets.shape[1]} targets has a unit "
                    "of its own; use noise_scale='learned' (a part of each one's spread) or 'network'"
                )
            if isinstance(noise_scale, float | int) and isinstance(self.target_unit, float):
                noise_scale = noise_scale / self.target_unit
        self.posterior = fit(
            self.network,
            self._standard(data),
            targets,
            method=method,
            likelihood=self.likelihood,
            prior=prior,
            prior_scale=prior_scale,
            noise_scale=noise_scale,
            seed=seed,
            on_epoch=on_epoch,
            **options,
        )
        return self

    def predict(self, x: Any, samples: int = 64, seed: int | None = 0, memory: int = MEMORY) -> Predictive:
        """The predictive distribution of targets, in their own unit.

        Args:
            x: Data, (n, ...).
            samples: Sets of weights to average over.
            seed: Of the draws.
            memory: Bytes of intermediate results at once.

        Raises:
            ConfigError: If nothing was fitted yet.
            ShapeError: If data have another shape than those of the fit.
        """
        found = self._fitted.predict(self._standard(self._viewed(x)), samples, seed, memory)
        if self.likelihood != "normal":
            return found
        return RescaledPredictive(found, self.target_shift, self.target_unit)

    def update(self, x: Any, y: Any, **options: Any) -> "Standardised":
        """Online learning: the same after further data; units stay those of the first fit.

        Args:
            x: New data, (n, ...).
            y: Their targets.
            **options: Of the method's update.

        Raises:
            ConfigError: If the method's posterior can't be a prior.
        """
        targets = torch.as_tensor(y)
        if self.likelihood == "normal":
            targets = (targets.double() - self.target_shift) / self.target_unit
        other = Standardised(self.network, self.view, self.likelihood, scale=self.scale, columns=self.columns)
        other.shift, other.unit, other._whole = self.shift, self.unit, self._whole
        other.target_shift, other.target_unit = self.target_shift, self.target_unit
        other.posterior = self._fitted.update(self._standard(self._viewed(x)), targets, **options)
        return other

    @property
    def noise_scale(self) -> float | None:
        """Standard deviation of the noise in the targets' unit, where the posterior has one for all data."""
        found = getattr(self.posterior, "noise_scale", None)
        unit = self.target_unit
        return None if found is None or isinstance(unit, Tensor) else float(found) * unit

    @property
    def _fitted(self) -> Posterior:
        if self.posterior is None:
            raise ConfigError("nothing was fitted yet; call fit first")
        return self.posterior

    def _viewed(self, x: Any) -> Tensor:
        data = torch.as_tensor(x)
        if data.ndim < 1 or not len(data) or data[0].numel() != prod(self.view):
            raise ShapeError(f"wanted data (n, {self.view}), got shape {tuple(data.shape)}")
        return data.reshape(len(data), *self.view)

    def _standard(self, data: Shaped[Tensor, "n *event"]) -> Shaped[Tensor, "n *event"]:
        """Data as the network takes them.

        Raises:
            DataError: If an embedding's places aren't whole numbers, as they were in the fit.
        """
        if self._embeds and self._whole:
            if not _whole(data):
                raise DataError(
                    "X has parts of numbers, and was whole, an embedding's places, in the fit; round it"
                )
            return data.long()
        first = next(self.network.parameters(), None)
        if first is None or not self.scale or self._embeds:
            return data
        dtype = first.dtype
        return ((data.double() - self.shift.to(data.device)) / self.unit.to(data.device)).to(dtype)

    def parameters(self) -> Iterator[Tensor]:
        """The network's weights, those of the posterior where there is one."""
        values = (
            dict(self.network.named_parameters()) if self.posterior is None else self.posterior.network.all
        )
        return iter(values.values())

    def to(self, device: str | torch.device) -> "Standardised":
        """Puts network and posterior on a device."""
        held = None if self.posterior is None else self.state_dict()
        self.network.to(device)
        if held is not None:
            self.load_state_dict(held)
        return self

    def eval(self) -> "Standardised":
        """Itself; predictions are always those of evaluation mode."""
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All that a file holds: units, the posterior's tensors, and its facts as the bytes of a JSON text."""
        tensors, about = self._fitted.packed()
        facts = {
            "target_shift": _plain(self.target_shift),
            "target_unit": _plain(self.target_unit),
            "whole": self._whole,
            "posterior": about,
        }
        text = bytearray(json.dumps(facts).encode())
        return {
            **tensors,
            "shift": self.shift,
            "unit": self.unit,
            "about": torch.frombuffer(text, dtype=torch.uint8).clone(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes what ``state_dict`` gave.

        Raises:
            ShapeError: If the network's parameters have other names or shapes.
            RuntimeError: If something is missing or damaged.
        """
        try:
            facts = json.loads(bytes(state["about"].cpu().numpy().tobytes()))
            tensors = {name: value for name, value in state.items() if "/" in name}
            self.shift, self.unit = state["shift"].double().cpu(), state["unit"].double().cpu()
            self.target_shift, self.target_unit = (
                _restored(facts[name]) for name in ("target_shift", "target_unit")
            )
            self._whole = bool(facts["whole"])
            self.posterior = unpacked(tensors, facts["posterior"], self.network, "the Run")
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, ShapeError):
                raise
            raise RuntimeError(f"it holds no posterior over weights ({error})") from None


def embeds(network: nn.Module) -> bool:
    """Whether a network looks up places of a table.

    Example:
        >>> embeds(nn.Sequential(nn.Embedding(3, 2)))
        True
    """
    return any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in network.modules())


def _whole(data: Tensor) -> bool:
    return not data.is_floating_point() or bool((data == data.round()).all())


def _units(data: Tensor, *, columns: bool) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Mean and standard deviation: of each column, or of all cells of images; one where nothing varies."""
    found = data.double().cpu()
    if columns:
        mean, spread = found.mean(0), found.std(0, correction=0)
    else:
        mean, spread = found.mean(), found.std(correction=0)
    least = np.finfo(np.float64).eps * mean.abs() * 8
    return mean, torch.where(spread > least, spread, 1.0)


def _target_units(targets: Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Mean and standard deviation of targets, of each column (d,) where there are several; one where none varies."""
    if targets.ndim > 1:
        spread = targets.std(0, correction=0)
        return targets.mean(0).cpu(), torch.where(spread > 1e-12, spread, 1.0).cpu()
    spread = float(targets.std(correction=0)) if len(targets) > 1 else 0.0
    return float(targets.mean()), spread if spread > 1e-12 else 1.0


def _plain(value: float | Tensor) -> float | list[float]:
    return value.tolist() if isinstance(value, Tensor) else value


def _restored(value: float | list[float]) -> float | Tensor:
    return torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
