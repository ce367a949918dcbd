"""The balanced joint graph: every pair of sets has a bandwidth of its own, for one density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from relspace._core.devices import ON_HOST
from relspace.errors import BandwidthError
from relspace.kernels.bandwidth import solve_bandwidth
from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.precision import full_precision
from relspace.kernels.tiles import fill_half_squared

_ROWS_IN_CACHE = 512


@dataclass(frozen=True)
class JointGraph:
    r"""Nodes of several sets, and the weights of edges between them.

    A plain joint graph separates sets first, because tokens of one model are closer to each other
    than to those of another. Here the weight of an edge between token i of set s and token j of
    set t is

    .. math:: W_{ij} = w_{st} \exp(-|z_i - z_j|^2 / 2 \sigma_{st}^2)

    with every block's own bandwidth solved for the same density.

    ``nodes`` are the tokens of all sets in ``frame``, and ``starts`` the number of each set's first
    node and the number of nodes. ``scale`` is 1 / sigma^2 of each block in units of the frame,
    and ``weight`` its w.
    """

    nodes: Cloud
    frame: Frame
    starts: tuple[int, ...]
    # On the host, because single values are read.
    scale: torch.Tensor = field(metadata=ON_HOST)
    weight: torch.Tensor = field(metadata=ON_HOST)

    def edges(self, which: int, tokens: Cloud, out: torch.Tensor) -> torch.Tensor:
        """Fill ``out`` (n, n_nodes) with weights of edges from tokens of one set to all nodes."""
        with full_precision():
            for top in range(0, out.shape[0], _ROWS_IN_CACHE):
                rows = slice(top, top + _ROWS_IN_CACHE)
                for other, (start, stop) in enumerate(
                    zip(self.starts[:-1], self.starts[1:], strict=True)
                ):
                    block = out[rows, start:stop]
                    nodes = self.nodes.rows(slice(start, stop))
                    fill_half_squared(block, tokens.rows(rows), nodes)
                    block.mul_(float(self.scale[which, other])).exp_()
                    block.mul_(float(self.weight[which, other]))
        return out

    def weights(self) -> torch.Tensor:
        """The whole matrix of weights between the nodes, symmetric."""
        n = self.starts[-1]
        out = self.nodes.points.new_empty((n, n))
        for which, (start, stop) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            self.edges(which, self.nodes.rows(slice(start, stop)), out[start:stop])
            # The distance of an item from itself is 0, without rounding.
            own = out[start:stop, start:stop]
            own.fill_diagonal_(float(self.weight[which, which]))
        return (out + out.T).div_(2)


def joint_graph(
    sets: Mapping[str, torch.Tensor], *, density: float, within_weight: float, random_state: int
) -> JointGraph:
    """Solve the bandwidth of every pair of sets for one density.

    ``sets`` are tokens (n_s, m). Edges within a set have weight ``within_weight``, those between
    sets have weight 1, as do those of a single set.
    """
    names = list(sets)
    tokens = torch.cat([sets[name] for name in names])
    frame = Frame.of(tokens)
    starts = [0]
    for name in names:
        starts.append(starts[-1] + len(sets[name]))
    scale = torch.empty(len(names), len(names), dtype=torch.float64)
    for s, a in enumerate(names):
        for t, b in enumerate(names[: s + 1]):
            other = None if s == t else sets[b]
            try:
                sigma = solve_bandwidth(
                    sets[a], other, density=density, random_state=random_state
                ).sigma
            except BandwidthError as error:
                raise error.about(f"tokens of {a} and {b}") from error
            scale[s, t] = scale[t, s] = frame.inverse_variance(sigma)
    weight = torch.ones(len(names), len(names), dtype=torch.float64)
    if len(names) > 1:
        weight.fill_diagonal_(within_weight)
    return JointGraph(frame.place(tokens), frame, tuple(starts), scale, weight)
