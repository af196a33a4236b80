"""Spanning trees of a graph, and exact sums over many of them at once."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from torch import Tensor

from jensen.inference.factor_graph.arrays import log_sum_exp

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """A spanning tree of each connected part, rooted.

    Attributes:
        edges: Which edges of the graph are in it, (at most variables - 1,).
        depth: Of each variable below its root, (variables,).
        parent: Of each variable; -1 for a root, (variables,).
        edge: To the parent; -1 for a root, (variables,).
    """

    edges: Integers
    depth: Integers
    parent: Integers
    edge: Integers


def spanning_tree(nodes: int, ends: Integers, cost: NDArray[np.float64]) -> Tree:
    """The spanning tree (of each connected part) with the lowest cost.

    Args:
        nodes: Number of variables.
        ends: Edges as sorted pairs, first end before second, each once, (edges, 2).
        cost: Of each edge, above 0, (edges,).

    Returns:
        The tree.
    """
    graph = csr_array((cost, (ends[:, 0], ends[:, 1])), shape=(nodes, nodes))
    found = minimum_spanning_tree(graph).tocoo()
    keys = ends[:, 0] * nodes + ends[:, 1]
    edges = np.searchsorted(keys, found.row.astype(np.int64) * nodes + found.col)
    # A node beyond the others joins the parts, so that one search reaches all.
    _, part = connected_components(graph, directed=False)
    roots = np.unique(part, return_index=True)[1]
    first = np.concatenate([ends[edges, 0], roots])
    second = np.concatenate([ends[edges, 1], np.full(len(roots), nodes)])
    joined = csr_array((np.ones(len(first)), (first, second)), shape=(nodes + 1, nodes + 1))
    _, before = breadth_first_order(joined, nodes, directed=False)
    parent = np.array(before, dtype=np.int64)
    parent[nodes] = nodes
    depth = (np.arange(nodes + 1) != nodes).astype(np.int64)
    ancestor = parent
    while (ancestor != nodes).any():
        depth = depth + depth[ancestor]
        ancestor = ancestor[ancestor]
    parent = np.where(parent == nodes, -1, parent)[:nodes]
    own = np.arange(nodes)
    edge = np.searchsorted(keys, np.minimum(own, parent) * nodes + np.maximum(own, parent))
    return Tree(edges, depth[:nodes] - 1, parent, np.where(parent < 0, -1, edge))


def covering_trees(nodes: int, ends: Integers, least: int, rng: np.random.Generator) -> list[Tree]:
    """Spanning trees that use all edges about equally often, each at least once.

    Args:
        nodes: Number of variables.
        ends: Edges as in ``spanning_tree``.
        least: At least so many trees.
        rng: Breaks ties.

    Returns:
        The trees.
    """
    used = np.zeros(len(ends))
    trees: list[Tree] = []
    while len(trees) < least or (used == 0).any():
        tree = spanning_tree(nodes, ends, 1 + used + rng.random(len(ends)))
        used[tree.edges] += 1
        trees.append(tree)
    return trees


class TreeSums:
    """Partition functions of several spanning trees with common potentials, all levels of all trees at once."""

    def __init__(self, trees: list[Tree], ends: Integers) -> None:
        nodes = len(trees[0].depth)
        depth = np.stack([tree.depth for tree in trees]).ravel()
        offset = nodes * np.arange(len(trees))[:, None]
        parent = (np.stack([tree.parent for tree in trees]) + offset).ravel()
        edge = np.stack([tree.edge for tree in trees]).ravel()
        own = np.tile(np.arange(nodes), len(trees))
        self._trees, self._nodes = len(trees), nodes
        self._roots = torch.from_numpy(np.nonzero(depth == 0)[0])
        order = np.argsort(-depth, kind="stable")
        order = order[depth[order] > 0]
        breaks = np.nonzero(np.diff(depth[order]))[0] + 1
        self._levels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for level in np.split(order, breaks):
            if len(level):
                towards_first = ends[edge[level], 1] == own[level]
                index = torch.from_numpy(level), torch.from_numpy(parent[level])
                self._levels.append((*index, torch.from_numpy(edge[level]), torch.from_numpy(towards_first)))

    def __call__(
        self, node: Float[Tensor, "nodes states"], pair: Float[Tensor, "edges states states"]
    ) -> Float[Tensor, " trees"]:
        """The log Z of each tree, nats.

        Args:
            node: Log-potentials of variables.
            pair: Log-potentials of edges, the first end's states first.
        """
        total = node.repeat(self._trees, 1)
        # The child's states last.
        both = torch.stack([pair.mT, pair])
        for level, parent, edge, towards_first in self._levels:
            table = both[towards_first.long(), edge] + total[level][:, None]
            total.index_add_(0, parent, log_sum_exp(table, 2))
        sums = torch.zeros(self._trees, dtype=torch.float64)
        return sums.index_add_(0, self._roots // self._nodes, log_sum_exp(total[self._roots], 1))
