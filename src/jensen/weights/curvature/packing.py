"""How some of a network's weights lie in the one tensor that a block of a precision acts on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Packing:
    """Some weights in one tensor: side by side as columns, or one after the other as a vector.

    As columns, a layer's matrix (out, in) and its bias (out,) make (out, in + 1), so that both have one Kronecker
    product. As a vector, entries can be left out, which makes a subnetwork.

    Attributes:
        names: Of the weights.
        shapes: Theirs.
        columns: Whether they stand side by side: each is laid out as (out, -1).
        index: Which entries of the vector are kept; None: all.

    Example:
        >>> layer = Packing(("weight", "bias"), ((2, 3), (2,)), columns=True)
        >>> layer.shape
        (2, 4)
        >>> layer.unpack(torch.ones(5, 2, 4))["bias"].shape
        torch.Size([5, 2])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    columns: bool = False
    index: Tensor | None = None

    @property
    def _widths(self) -> list[int]:
        rows = self.shapes[0][0] if self.columns else 1
        return [prod(shape) // rows for shape in self.shapes]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        if self.columns:
            return (self.shapes[0][0], sum(self._widths))
        return (sum(self._widths) if self.index is None else len(self.index),)

    def pack(self, values: Weights) -> Tensor:
        """The tensor that holds these weights.

        Args:
            values: Tensors by name, each (..., *shape) with the same leading shape.

        Returns:
            (..., *packed shape).
        """
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            value = values[name]
            leading = value.shape[: value.ndim - len(shape)]
            parts.append(value.reshape(*leading, *(shape[:1] if self.columns else ()), -1))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return whole if self.index is None else whole[..., self.index]

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The weights by name, (..., *shape) each; entries that were left out are zero.

        Args:
            packed: (..., *packed shape).
        """
        leading = packed.shape[: packed.ndim - len(self.shape)]
        if self.index is not None:
            whole = packed.new_zeros(*leading, sum(self._widths))
            whole[..., self.index] = packed
            packed = whole
        parts = packed.split(self._widths, -1)
        return {
            name: part.reshape((*leading, *shape))
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def masks(self) -> dict[str, Tensor]:
        """Which entries are kept, by name, for a vector that leaves some out."""
        if self.index is None:
            return {}
        ones = torch.ones(len(self.index), dtype=torch.bool, device=self.index.device)
        return self.unpack(ones)
