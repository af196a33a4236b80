"""Which layers a network's weights go through, watched while it runs, with what goes in and comes out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def leaves(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers as tensors of which gradients are taken."""
    return {name: value.detach().requires_grad_() for name, value in weights.items()}


@dataclass(frozen=True)
class Use:
    """One call of a layer: its weights, its output, and the rows that its matrix was multiplied with.

    Attributes:
        weight: Name of its matrix; None if that is no weight of interest.
        bias: Name of its bias; None likewise.
        output: With its gradient graph.
        returned: What the network went on with: a copy, so that changes in place don't reach the output.
        groups: Of a convolution.
        rows: Makes the inputs, (rows, in); None for an embedding.
        counts: Makes how often each row of an embedding was taken, (entries,); None otherwise.
        flatten: Lays out something of the output's shape as (rows, out).
    """

    weight: str | None
    bias: str | None
    output: Tensor
    returned: Tensor
    groups: int
    rows: Callable[[], Tensor] | None
    counts: Callable[[], Tensor] | None
    flatten: Callable[[Tensor], Tensor]

    def ends(self, outputs: Tensor) -> bool:
        """Whether this layer's output is the network's (n, outputs), as it is."""
        same = outputs is self.returned or (
            outputs.shape[-1] == 1
            and outputs.numel() == self.returned.numel()
            and outputs.data_ptr() == self.returned.data_ptr()
        )
        return same and self.returned._version == 0


def output_gradients(
    outputs: Tensor, uses: Sequence[Use], columns: Tensor
) -> Iterator[list[tuple[Use, Tensor]]]:
    """What comes back at the layers' outputs, laid out as (rows, out), one column after the other.

    Args:
        outputs: Of the network, (n, outputs), with their graph.
        uses: The layers' calls.
        columns: What is sent back from the outputs, (n, outputs, columns).
    """
    for column in columns.unbind(-1):
        found = torch.autograd.grad(
            outputs, [use.output for use in uses], column, retain_graph=True, materialize_grads=True
        )
        yield [(use, use.flatten(gradient)) for use, gradient in zip(uses, found, strict=True)]


class Watch(TorchFunctionMode):
    """Within the block, calls of linear, convolutional and embedding layers with some weights are noted.

    The weights are known by identity, so that it doesn't matter which module holds them: attention's projections,
    shared weights and calls of ``torch.nn.functional`` are seen like modules.

    Args:
        weights: The tensors to watch, by name; the network has to be called with these very tensors.

    Attributes:
        weights: The same.
        uses: Calls of layers, in the order in which they were made.
        others: Names of weights that something else was done with too.

    Example:
        >>> weights = {"w": torch.ones(2, 3, requires_grad=True)}
        >>> with Watch(weights) as seen:
        ...     _ = functional.linear(torch.ones(5, 3), weights["w"])
        >>> seen.uses[0].weight, seen.uses[0].rows().shape
        ('w', torch.Size([5, 3]))
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.names = {id(value): name for name, value in weights.items()}
        self.uses: list[Use] = []
        self.others: set[str] = set()

    def __enter__(self) -> "Watch":
        """Starts to watch."""
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops watching."""
        super().__exit__(kind, error, trace)

    def name(self, value: Any) -> str | None:
        """The name of a watched tensor, None for anything else."""
        return self.names.get(id(value)) if isinstance(value, Tensor) else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes the call if it is a layer's, and makes it."""
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        note = _LAYERS.get(func)
        if note is not None:
            return note(self, func, args, kwargs)
        result = func(*args, **kwargs)
        self.note_others([*args, *kwargs.values()], result)
        return result

    def note(self, use: Use) -> Tensor:
        """Keeps a layer's call; returns what the network is to go on with."""
        self.uses.append(use)
        return use.returned

    def note_others(self, inputs: list[Any], result: Any) -> None:
        """Notes weights from which something differentiable was made in another way than through a layer."""
        results = result if isinstance(result, tuple | list) else [result]
        if any(isinstance(value, Tensor) and value.requires_grad for value in results):
            flat = [
                part for value in inputs for part in (value if isinstance(value, tuple | list) else [value])
            ]
            self.others.update(name for name in map(self.name, flat) if name is not None)


def _linear(seen: Watch, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parts(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Any, Any]:
        return input, weight, bias

    x, weight, bias = parts(*args, **kwargs)
    output = func(x, weight, bias)
    seen.note_others([x], output)
    names = seen.name(weight), seen.name(bias)
    if names == (None, None):
        return output
    x = x.detach()
    return seen.note(
        Use(
            *names,
            output,
            output.clone(),
            1,
            lambda: x.reshape(-1, x.shape[-1]),
            None,
            lambda gradient: gradient.reshape(-1, gradient.shape[-1]),
        )
    )


def _convolution(seen: Watch, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parts(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor | None, Any, Any, Any, int]:
        return input, weight, bias, stride, padding, dilation, groups

    x, weight, bias, stride, padding, dilation, groups = parts(*args, **kwargs)
    output = func(x, weight, bias, stride, padding, dilation, groups)
    seen.note_others([x], output)
    names = seen.name(weight), seen.name(bias)
    if names == (None, None):
        return output
    spatial = weight.ndim - 2
    x = x.detach()
    batched = x if x.ndim == spatial + 2 else x[None]
    kernel = weight.shape[2:]
    size = kernel.numel()

    def rows() -> Tensor:
        # A convolution with one kernel for each cell of a patch lays the patches out, whatever the padding.
        channels = batched.shape[1]
        cells = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *kernel)
        cells = cells.repeat(channels, *[1] * (spatial + 1))
        patches = func(batched, cells, None, stride, padding, dilation, channels)
        patches = patches.unflatten(1, (groups, -1)).movedim(2, -1)
        return patches.reshape(-1, patches.shape[-1])

    def flatten(gradient: Tensor) -> Tensor:
        return gradient.movedim(-spatial - 1, -1).reshape(-1, weight.shape[0])

    return seen.note(Use(*names, output, output.clone(), groups, rows, None, flatten))


def _embedding(seen: Watch, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parts(
        input: Tensor, weight: Tensor, padding_idx: int | None = None, *rest: Any, **options: Any
    ) -> tuple[Tensor, Tensor, int | None]:
        return input, weight, padding_idx

    index, weight, padding = parts(*args, **kwargs)
    output = func(*args, **kwargs)
    name = seen.name(weight)
    if name is None:
        return output
    entries, width = weight.shape

    def counts() -> Tensor:
        found = torch.bincount(index.reshape(-1), minlength=entries).to(weight.dtype)
        if padding is not None:
            found[padding] = 0
        return found

    def flatten(gradient: Tensor) -> Tensor:
        rows = gradient.reshape(-1, width)
        return rows if padding is None else rows * (index.reshape(-1, 1) != padding)

    return seen.note(Use(name, None, output, output.clone(), 1, None, counts, flatten))


_LAYERS: dict[Any, Callable[[Watch, Any, Any, Any], Tensor]] = {
    functional.linear: _linear,
    functional.embedding: _embedding,
    **dict.fromkeys([functional.conv1d, functional.conv2d, functional.conv3d], _convolution),
}

# A Python function that hands itself to the mode would do so again when the mode calls it. This is the same code with
# that one question answered by no, so that the projections inside it are seen.
_attention: Callable[..., Any] = FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**vars(functional), "has_torch_function": lambda _: False},
    "attention",
    functional.multi_head_attention_forward.__defaults__,
    functional.multi_head_attention_forward.__closure__,
)
