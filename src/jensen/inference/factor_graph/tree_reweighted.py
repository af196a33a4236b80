"""Tree-reweighted belief propagation: an upper bound on log Z."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.factor_graph.arrays import Tables, taken, valid_states
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.graph import FactorGraph
from jensen.inference.factor_graph.spanning_trees import (
    Integers,
    Tree,
    TreeSums,
    covering_trees,
    spanning_tree,
)

# What is impossible gets this much below its table's largest entry. Raising entries keeps an upper bound one.
_FLOOR = 200.0


@dataclass(frozen=True)
class TreeReweighted:
    """What tree-reweighted belief propagation found.

    Attributes:
        upper_bound: An upper bound on log Z, nats. It holds whether or not the messages converged: it is an average of
            exact log Z of trees, whose potentials average to the graph's own.
        beliefs: Approximate marginals.
        edge_probabilities: For each pair of variables that share a factor the share of trees that use it.
        converged: Whether the messages stopped changing.
        iterations: How often all messages were sent.
        residual: The largest change of a log-message in the last iteration.
    """

    upper_bound: float
    beliefs: Beliefs
    edge_probabilities: dict[tuple[str, str], float]
    converged: bool
    iterations: int
    residual: float


@dataclass(frozen=True)
class _Pairwise:
    """The graph as potentials of variables and of pairs, in nats.

    Attributes:
        node: (variables, states), -inf where a variable has fewer states.
        ends: Sorted pairs, (edges, 2).
        pair: (edges, states, states), 0 where a variable has fewer states.
        log_constant: Nats.
    """

    node: Tensor
    ends: Integers
    pair: Tensor
    log_constant: float


def tree_reweighted(
    graph: FactorGraph,
    *,
    iterations: int = 500,
    tolerance: float = 1e-7,
    damping: float = 0.5,
    trees: int = 32,
    tree_updates: int = 0,
    seed: int = 0,
) -> TreeReweighted:
    r"""Bounds log Z from above by averaging over spanning trees.

    With :math:`\rho_{st}` the share of trees that use an edge,

    .. math::
        M_{t \to s}(x_s) \propto \sum_{x_t} e^{\theta_{st} / \rho_{st} + \theta_t}
        \frac{\prod_{v \ne s} M_{v \to t}^{\rho_{vt}}}{M_{s \to t}^{1 - \rho_{st}}}, \qquad
        \log Z \le \sum_T w_T \log Z(T)

    where each tree has the potentials that the messages give it. These average to the graph's own at any messages,
    so the bound (Jensen's inequality for the convex log Z) holds at any time and is tightest at the fixed point.

    Args:
        graph: Factors of at most two variables.
        iterations: At most so many, for each set of trees.
        tolerance: Stop when no log-message changes by more.
        damping: Share of the old message in the new one's logarithm, in 0..1 without 1.
        trees: At least so many spanning trees; more if some edge isn't in one.
        tree_updates: How often a tree is added that would use the pairs with the largest mutual information, which
            makes the bound tighter (conditional gradient steps).
        seed: Of the trees.

    Returns:
        Bound, beliefs, and whether the messages converged.

    Raises:
        ConfigError: If a factor has more than two variables, or an option is out of range.

    Source: A new class of upper bounds on the log partition function, 2005,
    https://doi.org/10.1109/TIT.2005.850091.

    Example:
        >>> from jensen.inference import ising_grid, mean_field
        >>> grid = ising_grid(3, 3, coupling=0.5)
        >>> mean_field(grid).lower_bound < tree_reweighted(grid).upper_bound
        True
    """
    if not 0 <= damping < 1 or min(iterations, trees) < 1 or tree_updates < 0:
        raise ConfigError(
            "wanted damping at least 0 and less than 1, at least one iteration and one tree; "
            f"got damping={damping}, iterations={iterations}, trees={trees}, tree_updates={tree_updates}"
        )
    model = _pairwise(graph)
    found = (
        covering_trees(len(graph.names), model.ends, trees, np.random.default_rng(seed))
        if len(graph.names)
        else []
    )
    weights = np.full(len(found), 1 / max(len(found), 1))
    messages = [torch.zeros(model.pair.shape[:2], dtype=torch.float64).T.contiguous() for _ in (0, 1)]
    best: TreeReweighted | None = None
    for update in range(tree_updates + 1):
        rho = _edge_probabilities(model, found, weights)
        messages, count, residual = _converge(model, rho, messages, iterations, tolerance, damping)
        node, pair = _potentials(model, rho, messages)
        bound = model.log_constant
        if found:
            bound += float(TreeSums(found, model.ends)(node, pair) @ torch.from_numpy(weights))
        if best is None or bound < best.upper_bound:
            names = [(graph.names[a], graph.names[b]) for a, b in model.ends.tolist()]
            best = TreeReweighted(
                bound,
                Beliefs(graph, torch.softmax(node, -1)),
                dict(zip(names, rho.tolist(), strict=True)),
                residual <= tolerance,
                count,
                residual,
            )
        if update < tree_updates and len(model.ends):
            information = _mutual_information(model, node, pair)
            cost = 1 + information.max() - information
            found.append(spanning_tree(len(graph.names), model.ends, cost))
            share = 1 / (update + 3)
            weights = np.append((1 - share) * weights, share)
    assert best is not None
    return best


def _pairwise(graph: FactorGraph) -> _Pairwise:
    valid = valid_states(graph)
    node = torch.where(valid, 0.0, -torch.inf).double()
    states = valid.shape[1]
    keys: list[Tensor] = []
    tables: list[Tensor] = []
    for group in graph.groups:
        if group.axes > 2:
            raise ConfigError(
                f"a factor has {group.axes} variables; the tree-reweighted bound is for factors of at most two. "
                "Use mean_field for a lower bound, belief_propagation for an estimate, or exact_log_z"
            )
        top = group.log_tables.flatten(1).amax(1)
        low = (top - _FLOOR).reshape(-1, *[1] * group.axes)
        table = group.log_tables.maximum(low)
        if group.axes == 1:
            node[:, : table.shape[1]].index_add_(0, group.variables[:, 0], table)
            continue
        swapped = group.variables[:, 0] > group.variables[:, 1]
        first, second = group.variables.amin(1), group.variables.amax(1)
        for rows, part in ((~swapped, table[~swapped]), (swapped, table[swapped].mT)):
            padded = torch.zeros(len(part), states, states, dtype=torch.float64)
            padded[:, : part.shape[1], : part.shape[2]] = part
            keys.append((first * len(graph.names) + second)[rows])
            tables.append(padded)
    if not keys:
        nothing = torch.zeros(0, states, states, dtype=torch.float64)
        return _Pairwise(node, np.zeros((0, 2), dtype=np.int64), nothing, graph.log_constant)
    edges, place = torch.unique(torch.cat(keys), return_inverse=True)
    pair = torch.zeros(len(edges), states, states, dtype=torch.float64).index_add_(
        0, place, torch.cat(tables)
    )
    ends = torch.stack([edges // len(graph.names), edges % len(graph.names)], 1)
    return _Pairwise(node, ends.numpy(), pair, graph.log_constant)


def _edge_probabilities(model: _Pairwise, trees: list[Tree], weights: np.ndarray) -> Float[Tensor, " edges"]:
    rho = np.zeros(len(model.ends))
    for tree, weight in zip(trees, weights, strict=True):
        rho[tree.edges] += weight
    return torch.from_numpy(rho)


def _beliefs(model: _Pairwise, rho: Tensor, messages: list[Tensor]) -> Tensor:
    """Log-beliefs of variables, unnormalised: their potential and what the others tell, (states, variables)."""
    total = model.node.T.clone()
    for end, message in enumerate(messages):
        total.index_add_(1, torch.from_numpy(model.ends[:, end]), rho * message)
    return total


def _converge(
    model: _Pairwise,
    rho: Tensor,
    messages: list[Tensor],
    iterations: int,
    tolerance: float,
    damping: float,
) -> tuple[list[Tensor], int, float]:
    """Sends messages until they stop changing; ``messages[end]`` is what the other end tells that end, in logs."""
    tables = Tables((model.pair / rho[:, None, None]).movedim(0, -1).contiguous())
    ends = [torch.from_numpy(model.ends[:, end].copy()) for end in (0, 1)]
    residual, count = (torch.inf, 0) if len(model.ends) else (0.0, 0)
    while residual > tolerance and count < iterations:
        residual, count = 0.0, count + 1
        total = _beliefs(model, rho, messages)
        # What an end tells the other leaves out one whole message from it.
        told = [taken(total, ends[end]) - messages[end] for end in (0, 1)]
        fresh: list[Tensor] = []
        for end, old in enumerate(messages):
            message = tables.send(told, end)
            message = message - message.amax(0)
            residual = max(residual, float((message - old).abs().max()))
            message = (1 - damping) * message + damping * old
            fresh.append(message - message.amax(0))
        messages = fresh
    return messages, count, residual


def _potentials(model: _Pairwise, rho: Tensor, messages: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Potentials that, on all variables and a tree's edges, average over the trees to the graph's own."""
    pair = model.pair / rho[:, None, None] - messages[0].T[:, :, None] - messages[1].T[:, None, :]
    return _beliefs(model, rho, messages).T.contiguous(), pair


def _mutual_information(model: _Pairwise, node: Tensor, pair: Tensor) -> np.ndarray:
    """Of the ends of each edge under the pair's belief, nats."""
    first, second = (node[torch.from_numpy(model.ends[:, end])] for end in (0, 1))
    joint = (pair + first[:, :, None] + second[:, None, :]).flatten(1).softmax(1).reshape(pair.shape)
    product = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, product)).sum((1, 2)).clamp(min=0).numpy()
