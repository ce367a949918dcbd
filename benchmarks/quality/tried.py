"""Kernels and whitenings that were tried for the default measure and are not in the library."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quality.grid import REFERENCE, Grid, gather_measures
from quality.pretrained import Half
from relspace import measures
from relspace.kernels.bandwidth import solve_bandwidth
from relspace.kernels.frame import Frame
from relspace.kernels.normalization import NORMALIZATIONS, normalize_by_own
from relspace.measures import Measure
from relspace.measures.affinity import Affinity, affinity_entries
from relspace.measures.pair_matrix import PairEntries
from relspace.measures.rsa import euclidean_distances

#: Axes divided by the root of their variance plus three medians of it, and axes no louder than the
#: tenth one.
RIDGE, CAP = "ridge+unit", "cap+unit"
WHITENINGS = ("center+unit", "quarter-whiten+unit", "half-whiten+unit", RIDGE, CAP)
#: Gaussian kernels of these densities, and distances themselves.
DENSITIES, DISTANCES = (0.2, 0.4, 0.6, 0.8), "distances"
PROFILES = ("mean", "rows")
SPREADS = (0.0, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True, repr=False)
class Tried(Affinity):
    """The measure with another whitening, or with distances in the stead of affinities."""

    whitening: str
    distances: bool

    def _entries(self, X: Tensor, name: str) -> PairEntries:
        rows = whitened(X, self.whitening)
        if self.distances:
            return PairEntries(Frame.of(rows).place(rows), euclidean_distances, with_itself=0.0)
        return affinity_entries(rows, float(solve_bandwidth(rows, density=self.density)))


def whitened(X: Tensor, how: str) -> Tensor:
    """Features of unit norm, after whitening that damps loud axes."""
    if how in NORMALIZATIONS:
        return normalize_by_own(X, how)
    wide = X.double() - X.double().mean(0)
    left, lengths, _ = torch.linalg.svd(wide, full_matrices=False)
    lengths = lengths[lengths > 1e-7 * lengths[0]]
    if how == RIDGE:
        wanted = lengths / (lengths.square() + 3 * lengths.square().median()).sqrt()
    else:
        wanted = lengths.clamp_max(lengths[min(10, len(lengths)) - 1])
    return torch.nn.functional.normalize(left[:, : len(lengths)] * wanted).to(X.dtype)


def grid_of_tried(half: Half, progress: Callable[[str], None]) -> Grid:
    """Whitening, kernel, profile and spread, crossed, on one half of tasks 1 and 5."""
    named: dict[tuple[str, ...], Measure] = {}
    for whitening, kernel, profile, spread in itertools.product(
        WHITENINGS, (*DENSITIES, DISTANCES), PROFILES, SPREADS
    ):
        named[whitening, str(kernel), profile, f"{spread:g}"] = Tried(
            name="tried",
            title="Tried",
            source="",
            density=kernel if isinstance(kernel, float) else 0.2,
            profile="mean" if profile == "mean" else "rows",
            spread=spread,
            whitening=whitening,
            distances=kernel == DISTANCES,
        )
    named[REFERENCE,] = measures.get(REFERENCE)
    return gather_measures(("whitening", "kernel", "profile", "spread"), named, half, progress)
