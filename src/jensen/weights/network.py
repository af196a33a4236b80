"""A network as a function of its weights: many sets of weights in one call, the user's own network left alone."""

import copy
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from jensen.errors import ConfigError, DataError, JensenError, ShapeError
from jensen.seeding import seeded
from jensen.weights.stacked import stacked

MEMORY = 8 * 2**20
"""Bytes of intermediate results at once, as of sets of weights. Small enough to stay in a processor's cache; on a GPU
give more."""

Values = dict[str, Tensor]
"""Names of parameters (and of what else is drawn with them) and their values, sets of them first: (S, *shape)."""

Subset = str | Sequence[str]
"""Which parameters: "all", "last-layer", or their names, where "0" also stands for "0.weight" and "0.bias"."""


_SLOW = "There is a performance drop"
"""How torch begins to say that it goes through something one by one."""

REFUSALS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""What modules raise of data that they can't take."""


class FunctionalNetwork:
    """A user's network as a function of its weights and the data.

    It holds a copy of the network without weights of its own; values, modes, buffers, gradients and
    ``requires_grad`` of the user's are never touched, and later changes to it change nothing here.

    Args:
        network: Any module that returns (n, outputs), or (n,), for n data.
        subset: The parameters that are unknown, among those that aren't frozen; all others stay as they are.
        frozen_too: Whether frozen ones may be unknown as well.

    Attributes:
        weights: The unknown parameters as they were, by name.
        fixed: The other ones.
        buffers: Such as the running statistics of batch normalisation.
        skeleton: The copy; its parameters hold nothing.

    Raises:
        ConfigError: If there is no such parameter, or none that isn't frozen; if a lazy module has no shapes yet, or
            batch normalisation keeps no statistics.

    Example:
        >>> network = FunctionalNetwork(nn.Linear(3, 2))
        >>> sets = {name: torch.zeros(5, *value.shape) for name, value in network.weights.items()}
        >>> network(sets, torch.ones(4, 3)).shape
        torch.Size([5, 4, 2])
    """

    def __init__(self, network: nn.Module, subset: Subset = "all", *, frozen_too: bool = False) -> None:
        _usable(network)
        named = dict(network.named_parameters())
        if not named:
            raise ConfigError(
                f"{type(network).__name__} has no parameters, so there is no posterior over them; give a "
                "network with weights (a lazy one after its first call)"
            )
        free = [name for name, parameter in named.items() if parameter.requires_grad or frozen_too]
        if not free:
            raise ConfigError(
                f"all {len(named)} parameters of {type(network).__name__} are frozen (requires_grad=False); "
                "unfreeze those that are unknown by requires_grad_(True)"
            )
        self.all = {name: parameter.detach().clone() for name, parameter in named.items()}
        self.free = free
        self.chosen = chosen(network, free, subset)
        self.buffers = {name: value.detach().clone() for name, value in network.named_buffers()}
        self.skeleton = _hollow(network)
        self.tied = len(list(network.named_parameters(remove_duplicate=False))) > len(named)
        self.attends = any(isinstance(module, nn.MultiheadAttention) for module in network.modules())
        self._looped: set[tuple[bool, bool]] = set()
        self._slow: dict[tuple[bool, bool], bool] = {}
        self._bytes: dict[torch.Size, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all but a function that is made again when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_stacked"}

    @cached_property
    def weights(self) -> Values:
        """The unknown parameters as they were."""
        return {name: self.all[name] for name in self.chosen}

    @cached_property
    def fixed(self) -> Values:
        """The parameters that stay as they are."""
        return {name: value for name, value in self.all.items() if name not in self.weights}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.all.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the weights."""
        return next(iter(self.all.values())).dtype

    @property
    def size(self) -> int:
        """How many unknown numbers there are."""
        return sum(value.numel() for value in self.weights.values())

    def changed(
        self,
        values: Mapping[str, Tensor] | None = None,
        subset: Subset | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> "FunctionalNetwork":
        """The same network with other values of parameters or buffers, or with others of them unknown.

        Args:
            values: Parameters by name, single ones; those that aren't given stay.
            subset: The parameters that are unknown; None: the same as here.
            buffers: Buffers by name; those that aren't given stay.

        Raises:
            ConfigError: If there is no such parameter.
        """
        other = copy.copy(self)
        for name in ("weights", "fixed", "_stacked"):
            other.__dict__.pop(name, None)
        other.all = {**self.all, **{name: v.detach().clone() for name, v in (values or {}).items()}}
        other.buffers = {**self.buffers, **{name: v.detach().clone() for name, v in (buffers or {}).items()}}
        if subset is not None:
            other.chosen = chosen(self.skeleton, self.free, subset)
        return other

    def rebuilt(self, change: Callable[[nn.Module], nn.Module]) -> "FunctionalNetwork":
        """The same network with what a function makes of a copy of its skeleton; buffers may be added."""
        other = copy.copy(self)
        other.__dict__.pop("_stacked", None)
        other.skeleton = change(copy.deepcopy(self.skeleton))
        known = self.buffers
        added = {name: value.detach().clone() for name, value in other.skeleton.named_buffers()}
        other.buffers = {**added, **known}
        other._looped, other._slow = set(), {}
        other._bytes = {}
        return other

    @cached_property
    def _stacked(self) -> Callable[..., Tensor] | None:
        return None if self.tied else stacked(self.skeleton)

    def inputs(self, x: Any) -> Shaped[Tensor, "n *event"]:
        """Data as the network takes them: on its device, in its number type; integers stay so for embeddings.

        Raises:
            ShapeError: If there are no data.
            DataError: If a cell isn't finite, or no number.
        """
        found = tensor_of(x, "X")
        if found.ndim == 0 or len(found) == 0:
            raise ShapeError(f"wanted data (n, ...) with n of at least 1, got shape {tuple(found.shape)}")
        if found.is_complex():
            raise DataError("X holds complex numbers; give real ones, as both parts in columns of their own")
        embeds = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in self.skeleton.modules())
        keeps = embeds and not found.is_floating_point()
        if found.is_floating_point() and not bool(found.isfinite().all()):
            raise DataError(
                f"{int((~found.isfinite()).sum())} of {found.numel()} cells of X are NaN or infinite; impute them or "
                "leave those data out"
            )
        return found.to(self.device, torch.int64 if keeps else self.dtype)

    def single(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        buffers: Mapping[str, Tensor] | None = None,
        *,
        training: bool = False,
    ) -> Float[Tensor, "n outputs"]:
        """The outputs for one set of weights; transformations of ``torch.func`` pass through it.

        Args:
            weights: Unknown parameters by name, without a dimension of sets; those that aren't given are as they were.
            x: Data (n, *event).
            buffers: In place of the network's own; in training batch normalisation writes into them.
            training: Whether the network is in training mode.
        """
        if self.skeleton.training != training:
            self.skeleton.train(training)
        # Parameters that aren't given are as they were; the skeleton has none.
        values = {**self.all, **self.buffers, **(buffers or {}), **weights}
        with _unfused() if self.attends else nullcontext():
            result: Any = functional_call(self.skeleton, values, (x,), tie_weights=self.tied)
        if not isinstance(result, Tensor) or result.ndim not in (1, 2) or len(result) != len(x):
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ShapeError(
                f"the network has to return a tensor ({len(x)}, outputs) for {len(x)} data, got {got}; "
                "wrap it in a module that does"
            )
        return result[:, None] if result.ndim == 1 else result

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        x: Shaped[Tensor, "..."],
        buffers: Mapping[str, Tensor] | None = None,
        *,
        training: bool = False,
        each: bool = False,
    ) -> Float[Tensor, "s n outputs"]:
        """The outputs for S sets of weights in one call.

        Args:
            weights: Unknown parameters, and buffers that are drawn with them, by name, each (S, *shape).
            x: Data (n, *event), or (S, n, *event) with ``each``.
            buffers: A set of them for each set of weights, (S, *shape); in training batch normalisation writes into
                them.
            training: Whether the network is in training mode; each set then draws randomness of its own.
            each: Whether each set of weights has data of its own.

        Returns:
            (S, n, outputs).

        Raises:
            ShapeError: If the network can't take the data, or returns something else.
        """
        sets = {**(buffers or {}), **weights}
        try:
            return self._evaluated(sets, x, training, each)
        except (JensenError, torch.OutOfMemoryError):
            raise
        except REFUSALS as error:
            raise self._refused(weights, x, each, training, error) from error

    def _evaluated(self, sets: Mapping[str, Tensor], x: Tensor, training: bool, each: bool) -> Tensor:
        if self._stacked is not None:
            return self._stacked({**self._others(sets), **sets}, x, each, training)
        if len(next(iter(sets.values()))) == 1:
            return self._loop(sets, x, training, each)
        if (training, each) in self._looped:
            return self._loop(sets, x, training, each)
        mapped = vmap(
            lambda values, rows: self.single(values, rows, training=training),
            in_dims=(0, 0 if each else None),
            randomness="different",
        )
        try:
            if (training, each) not in self._slow:
                return self._first(lambda values: mapped(values, x), sets, (training, each))
            with quiet() if self._slow[training, each] else nullcontext():
                return mapped(sets, x)
        except (JensenError, torch.OutOfMemoryError):
            raise
        except REFUSALS as error:
            # Either the data don't fit, or the network does what can't be done for many sets at once.
            where = self._where(lambda: mapped(sets, x))
            first = {name: value[0] for name, value in sets.items()}
            self.single(_copied(first), x[0] if each else x, training=training)
            self._looped.add((training, each))
            warnings.warn(
                f"{where} does what can't be done for many sets of weights at once "
                f"({str(error).splitlines()[0]}); they are gone through one after the other, which is slower. "
                "In-place changes, Python branches on values and .item() are the usual reasons",
                RuntimeWarning,
                stacklevel=3,
            )
            return self._loop(sets, x, training, each)

    def _first(
        self,
        call: Callable[[Mapping[str, Tensor]], Tensor],
        sets: Mapping[str, Tensor],
        mode: tuple[bool, bool],
    ) -> Tensor:
        """The first call of many sets at once; a warning names what torch goes through one by one on its own."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = call(sets)
        self._slow[mode] = any(str(one.message).startswith(_SLOW) for one in said)
        for one in said:
            if not str(one.message).startswith(_SLOW):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        if self._slow[mode]:

            def strict() -> None:
                with warnings.catch_warnings():
                    warnings.filterwarnings("error", _SLOW)
                    call(_copied(sets))

            warnings.warn(
                f"{self._where(strict)} has an operation that torch can't do for many sets of weights at once; within "
                "it they are gone through one after the other, which is slower",
                RuntimeWarning,
                stacklevel=4,
            )
        return result

    def _others(self, given: Mapping[str, Tensor]) -> Values:
        """The parameters and buffers that aren't given, once for each set."""
        sets = len(next(iter(given.values())))
        known = {**self.all, **self.buffers}
        return {name: known[name].expand(sets, *known[name].shape) for name in known.keys() - given.keys()}

    def _loop(self, sets: Mapping[str, Tensor], x: Tensor, training: bool, each: bool) -> Tensor:
        count = len(next(iter(sets.values())))
        rows = x if each else [x] * count
        if count == 1:
            return self.single({n: v[0] for n, v in sets.items()}, rows[0], training=training)[None]
        return torch.stack(
            [
                self.single({n: v[s] for n, v in sets.items()}, rows[s], training=training)
                for s in range(count)
            ]
        )

    def _refused(
        self, weights: Mapping[str, Tensor], x: Tensor, each: bool, training: bool, error: Exception
    ) -> ShapeError:
        """What to say of data that the network can't take."""
        first = {name: value[0].detach() for name, value in weights.items()}
        rows = x[0] if each else x
        where = self._where(lambda: self.single(first, rows, training=training))
        said = (str(error) or type(error).__name__).splitlines()[0]
        return ShapeError(
            f"the network can't take data of shape {tuple(rows.shape)}: {where} says '{said}'; give data as the "
            "network was made for"
        )

    def _where(self, call: Callable[[], Any]) -> str:
        """The innermost module in which a call fails."""
        inside: list[str] = []
        names = {module: name for name, module in self.skeleton.named_modules()}

        def enter(module: nn.Module, inputs: Any) -> None:
            inside.append(names[module])

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            inside.pop()

        handles = [
            handle
            for module in names
            for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
        ]
        try:
            call()
        except Exception:
            pass
        finally:
            for handle in handles:
                handle.remove()
        place = inside[-1] if inside else ""
        kind = type(self.skeleton.get_submodule(place)).__name__
        return f"module '{place}' ({kind})" if place else f"the network ({kind})"

    @torch.no_grad()
    def outputs(
        self, weights: Mapping[str, Tensor], x: Tensor, memory: int = MEMORY
    ) -> Float[Tensor, "s n outputs"]:
        """The outputs for S sets of weights, in evaluation mode, in chunks of bounded memory, without gradients.

        Args:
            weights: Unknown parameters, and buffers that are drawn with them, by name, each (S, *shape).
            x: Data (n, *event).
            memory: Bytes of intermediate results at once.

        Returns:
            (S, n, outputs).
        """
        sets = len(next(iter(weights.values())))
        row = self.row_bytes(x)
        rows = max(1, min(len(x), memory // row))
        some = max(1, min(sets, memory // (row * rows)))
        if rows >= len(x) and some >= sets:
            return self(weights, x)
        return torch.cat(
            [
                torch.cat(
                    [
                        self({n: v[s : s + some] for n, v in weights.items()}, x[r : r + rows])
                        for r in range(0, len(x), rows)
                    ],
                    1,
                )
                for s in range(0, sets, some)
            ]
        )

    def sets_at_once(self, memory: int = MEMORY) -> int:
        """How many sets of weights fit into so many bytes; at least one."""
        one = sum(value.numel() * value.element_size() for value in self.weights.values())
        return max(1, memory // one)

    @torch.no_grad()
    def row_bytes(self, x: Tensor) -> int:
        """Bytes of intermediate results for one datum and one set of weights."""
        event = x.shape[1:]
        if event not in self._bytes:
            self._bytes[event] = self._counted(x)
        return self._bytes[event]

    def _counted(self, x: Tensor) -> int:
        count = x[0].numel() * x.element_size()

        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal count
            if isinstance(output, Tensor):
                count += output.numel() * output.element_size()

        leaves = [m for m in self.skeleton.modules() if not list(m.children())]
        handles = [leaf.register_forward_hook(add) for leaf in leaves]
        try:
            # Networks that draw numbers must draw the same ones whether their rows were counted before or not.
            with seeded(0):
                self.single({}, x[:1])
        except REFUSALS:
            # The call that follows says what is wrong.
            return max(1, count)
        finally:
            for handle in handles:
                handle.remove()
        return count


def tensor_of(values: Any, name: str) -> Tensor:
    """Numbers as a tensor, from a tensor, an array, a list or a data frame.

    Args:
        values: The numbers.
        name: What they are, for messages.

    Raises:
        DataError: If they aren't numbers, or rows differ in length.

    Example:
        >>> tensor_of([[1, 2]], "X").shape
        torch.Size([1, 2])
    """
    if isinstance(values, Tensor):
        return _signed(values)
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{name} has rows of several lengths; give one shape for all data") from None
    if not array.flags.writeable or not array.dtype.isnative or any(step < 0 for step in array.strides):
        # torch knows neither foreign byte orders nor reversed arrays, and warns of those that can't be written to.
        array = np.array(array, array.dtype.newbyteorder("="), order="C")
    try:
        return _signed(torch.as_tensor(array))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{name} has to hold numbers, got dtype {array.dtype}; encode text and categories as numbers first"
        ) from None


def _signed(values: Tensor) -> Tensor:
    """Integers of a type that torch can compare and index with."""
    return values.long() if values.dtype in (torch.uint16, torch.uint32, torch.uint64) else values


def chosen(network: nn.Module, free: Sequence[str], subset: Subset) -> list[str]:
    """The names that a subset stands for, in the network's order.

    Args:
        network: Whose parameters they are.
        free: Names to choose from.
        subset: "all", "last-layer" (the last module that has parameters of its own), or names of parameters or of
            modules that hold them, in a sequence or with commas between them.

    Raises:
        ConfigError: If nothing has such a name; the message lists what there is.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> chosen(net, [name for name, _ in net.named_parameters()], "last-layer")
        ['2.weight', '2.bias']
    """
    if isinstance(subset, str):
        if subset == "all":
            return list(free)
        if subset == "last-layer":
            owner = free[-1].rpartition(".")[0]
            return [name for name in free if name.rpartition(".")[0] == owner]
        # As from a command line.
        subset = [part.strip() for part in subset.split(",")]
    found = {name for wanted in subset for name in free if _within(name, wanted)}
    for wanted in subset:
        if not any(_within(name, wanted) for name in free):
            raise ConfigError(
                f"no parameter that isn't frozen is, or lies in, '{wanted}'; there are: {', '.join(free)}, and "
                "'all' and 'last-layer'"
            )
    return [name for name in free if name in found]


def _within(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


def _usable(network: Any) -> None:
    """Refuses what isn't a network with weights whose outputs for a datum depend on that datum alone."""
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"wanted a torch.nn.Module, got {type(network).__name__}; put the function into a module's forward"
        )
    for name, module in network.named_modules():
        if any(nn.parameter.is_lazy(value) for value in (*module.parameters(False), *module.buffers(False))):
            raise ConfigError(
                f"module '{name}' ({type(module).__name__}) is lazy and has no shapes yet; call the network once with "
                "data before it is fitted"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ConfigError(
                f"module '{name}' ({type(module).__name__}) keeps no running statistics, so that what the network says "
                "of a datum depends on its batch; set track_running_stats=True, or take nn.LayerNorm or nn.GroupNorm"
            )


def _hollow(network: nn.Module) -> nn.Module:
    """A copy of a network whose parameters hold nothing."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in network.parameters()
    }
    hollow = copy.deepcopy(network, memo)
    return hollow.eval()


@contextmanager
def quiet() -> Generator[None]:
    """Within the block torch doesn't say of each operation that it is slow for many sets of weights at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _SLOW, UserWarning)
        yield


@contextmanager
def _unfused() -> Generator[None]:
    """Within the block attention takes the path that can be mapped over sets of weights."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _copied(values: Mapping[str, Tensor]) -> Values:
    return {name: value.detach().clone() for name, value in values.items()}


def stack(sets: Iterable[Mapping[str, Tensor]]) -> Values:
    """Several sets of values as one, sets first.

    Example:
        >>> stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])["w"].shape
        torch.Size([2, 2])
    """
    kept = list(sets)
    return {name: torch.stack([one[name] for one in kept]) for name in kept[0]}


def flat(values: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Float[Tensor, "*sets size"]:
    """Sets of values as vectors, tensor by tensor in the order of ``like``.

    Example:
        >>> flat({"w": torch.zeros(4, 2), "b": torch.ones(4)}, {"w": torch.zeros(2), "b": torch.zeros(())}).shape
        torch.Size([4, 3])
    """
    return torch.cat(
        [
            values[n].flatten(values[n].ndim - v.ndim) if v.ndim else values[n][..., None]
            for n, v in like.items()
        ],
        -1,
    )


def unflat(vectors: Float[Tensor, "*sets size"], like: Mapping[str, Tensor]) -> Values:
    """Vectors as sets of values: what ``flat`` was made of."""
    parts = vectors.split([value.numel() for value in like.values()], -1)
    return {
        name: part.reshape((*vectors.shape[:-1], *value.shape))
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


__all__ = [
    "MEMORY",
    "REFUSALS",
    "FunctionalNetwork",
    "Subset",
    "Values",
    "chosen",
    "flat",
    "quiet",
    "stack",
    "tensor_of",
    "unflat",
]
