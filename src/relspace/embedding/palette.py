"""Palettes: maps from embeddings to colours by unit rows, three dimensions, OKLab and sRGB."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from relspace._core.arrays import refuse_non_finite
from relspace._core.matrices import to_numpy
from relspace._core.memory import row_slices
from relspace.kernels.precision import full_precision
from relspace.pictures.oklab import oklab_to_srgb

# A box around a light grey, in lightness and two chromatic axes, most of which is inside sRGB.
_MIDDLE = (0.70, 0.0, 0.0)
_REACH = (0.20, 0.17, 0.17)
_NEIGHBORS = 5
_ROWS_OF_NEIGHBORS = 4096
_ROWS_AT_A_TIME = 2**16


def unit_rows(embedding: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weight the k components, prepend the constant one, and scale rows to unit norm."""
    embedding = embedding.to(weights)
    rows = torch.cat([embedding.new_ones(len(embedding), 1), embedding * weights], dim=1)
    norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms


@dataclass(frozen=True)
class Axes:
    """The projection of unit rows on three principal axes (k + 1, 3)."""

    mean: torch.Tensor
    axes: torch.Tensor

    @full_precision()
    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = (rows - self.mean) @ self.axes
        return projected


@dataclass(frozen=True)
class Neighbors:
    """A learned map to three dimensions: the weighted mean over the nearest known rows.

    ``known`` (m, k + 1) are unit rows, and ``places`` (m, 3) their coordinates, which saved files
    call so.
    """

    known: torch.Tensor
    places: torch.Tensor

    @full_precision()
    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        out = rows.new_empty((len(rows), 3))
        for start in range(0, len(rows), _ROWS_OF_NEIGHBORS):
            block = rows[start : start + _ROWS_OF_NEIGHBORS]
            near = torch.cdist(block, self.known).topk(_NEIGHBORS, dim=1, largest=False)
            # A known token has a neighbour at distance 0, which gets all the weight.
            weight = 1 / near.values.clamp_min(1e-6)
            weight = weight / weight.sum(dim=1, keepdim=True)
            mean = (self.places[near.indices] * weight[..., None]).sum(1)
            out[start : start + _ROWS_OF_NEIGHBORS] = mean
        return out


@dataclass(frozen=True)
class Palette:
    """A map from rows of an embedding to colours.

    ``weights`` (k,) are of the components, ``project`` maps to three dimensions, and ``middle`` and
    ``reach`` (3,) are the range of these that colours show.
    """

    weights: torch.Tensor
    project: Axes | Neighbors
    middle: torch.Tensor
    reach: torch.Tensor

    @full_precision()
    def __call__(self, rows: torch.Tensor, first: int | None = None) -> torch.Tensor:
        """Colour rows of an embedding; ``first`` is the number of the first, for errors."""
        found = self.weights.new_empty((len(rows), 3))
        for part in row_slices(len(rows), 1, _ROWS_AT_A_TIME):
            block = rows[part]
            refuse_non_finite(block, "X", first_row=(first or 0) + part.start)
            projected = self.project(unit_rows(block, self.weights))
            found[part] = oklab_to_srgb(self.lab(projected))
        return found

    @property
    def device(self) -> torch.device:
        return self.weights.device

    def lab(self, projected: torch.Tensor) -> torch.Tensor:
        """OKLab of points in three dimensions, clipped to the range."""
        inside = ((projected - self.middle) / self.reach).clamp(-1.0, 1.0)
        # The axis of least variance becomes lightness, because hue shows more.
        inside = inside.roll(1, dims=1)
        lab: torch.Tensor = inside.new_tensor(_MIDDLE) + inside * inside.new_tensor(_REACH)
        return lab

    def tensors(self) -> dict[str, torch.Tensor]:
        """The fitted tensors by name."""
        own = {"weights": self.weights, "middle": self.middle, "reach": self.reach}
        return own | vars(self.project)

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Palette:
        """The palette of these tensors."""
        project: Axes | Neighbors
        if "axes" in tensors:
            project = Axes(tensors["mean"], tensors["axes"])
        else:
            project = Neighbors(tensors["known"], tensors["places"])
        return cls(tensors["weights"], project, tensors["middle"], tensors["reach"])

    def sha256(self) -> str:
        """A hash of all that colours depend on."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors().items()):
            digest.update(name.encode() + to_numpy(tensor.contiguous()).tobytes())
        return digest.hexdigest()
