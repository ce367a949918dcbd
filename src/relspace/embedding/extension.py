"""Nystroem extension from the nodes of a graph to any token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch

from relspace._core.arrays import refuse_non_finite
from relspace._core.matrices import to_numpy
from relspace._core.memory import chunk_slices
from relspace._core.threads import side_by_side
from relspace.embedding.graph import JointGraph
from relspace.kernels.precision import full_precision

# Tokens that are summed at a time, so that sums are the same to the bit for any blocks.
ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Extension:
    r"""Embeds tokens of the set number ``which`` of a graph.

    .. math:: y(x) = \frac{1}{\sum_l W_{xl}} \sum_j W_{xj} \frac{y_j}{\lambda} R

    ``walk`` (n_nodes, k) holds the nodes' eigenvectors divided by their eigenvalues, and
    ``rotation`` is R (k, k), which makes components orthonormal over all tokens.
    """

    graph: JointGraph
    which: int
    walk: torch.Tensor
    rotation: torch.Tensor

    @full_precision()
    def __call__(self, rows: torch.Tensor, first: int | None = None) -> torch.Tensor:
        """Embed some tokens; ``first`` is the number of the first, for errors."""
        rows = self.bring(rows, first or 0)
        found: torch.Tensor = self.unrotated(rows)[0] @ self.rotation
        return found

    @property
    def device(self) -> torch.device:
        return self.walk.device

    def bring(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        """Convert tokens to the float type and the device of the graph."""
        rows = rows.to(self.graph.frame.origin)
        refuse_non_finite(rows, "X", first_row=first)
        return rows

    def unrotated(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The extension before it is rotated, (n, k), and the tokens' degrees, (n,)."""
        out = rows.new_empty((len(rows), self.walk.shape[1]))
        degrees = rows.new_empty(len(rows))

        def extend(part: slice) -> None:
            tokens = self.graph.frame.place(rows[part])
            edges = tokens.points.new_empty((len(tokens.points), len(self.walk)))
            self.graph.edges(self.which, tokens, edges)
            degree = edges.sum(dim=1)
            degrees[part] = degree
            # A token without edges, because all nodes are too far away, is at 0.
            degree = torch.where(degree > 0, degree, torch.inf)
            out[part] = (edges @ self.walk) / degree[:, None]

        with full_precision():
            side_by_side(lambda: extend, chunk_slices(len(rows), ROWS_AT_A_TIME), rows.device)
        return out, degrees

    def rotated(self, rotation: torch.Tensor) -> Extension:
        """The same with another rotation."""
        return replace(self, rotation=rotation)

    def sha256(self) -> str:
        """A hash of all that the result depends on."""
        graph = self.graph
        digest = hashlib.sha256(
            repr((self.which, graph.starts, graph.frame.unit, graph.frame.exponent)).encode()
        )
        for tensor in (
            *(graph.nodes.points, graph.nodes.half_norms, graph.frame.origin),
            *(graph.scale, graph.weight, self.walk, self.rotation),
        ):
            digest.update(to_numpy(tensor.contiguous()).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ExtendedRows:
    """The extension of tokens before it is rotated, and their degrees in the last column."""

    extension: Extension

    @property
    def device(self) -> torch.device:
        return self.extension.device

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Extend some tokens; ``first`` is the number of the first, for errors."""
        extended, degrees = self.extension.unrotated(self.extension.bring(rows, first or 0))
        return torch.cat([extended, degrees[:, None]], dim=1)


@dataclass(frozen=True)
class RotatedRows:
    """The embedding of what :class:`ExtendedRows` gave."""

    rotation: torch.Tensor

    @property
    def device(self) -> torch.device:
        return self.rotation.device

    @full_precision()
    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Rotate some rows."""
        found: torch.Tensor = rows[:, :-1].to(self.rotation) @ self.rotation
        return found
