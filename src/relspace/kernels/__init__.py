"""Distances, bandwidths, affinities and landmarks, as functions of tensors."""

from relspace.kernels.affinity import cosine_affinity, rbf_affinity
from relspace.kernels.bandwidth import DEFAULT_DENSITY, Bandwidth, solve_bandwidth
from relspace.kernels.correlation import (
    Match,
    correlation_blocks,
    correlation_of_pairs,
)
from relspace.kernels.distances import squared_distances
from relspace.kernels.landmarks import choose_landmarks
from relspace.kernels.normalization import NORMALIZATIONS, Normalization, fit_normalization

__all__ = [
    "DEFAULT_DENSITY",
    "NORMALIZATIONS",
    "Bandwidth",
    "Match",
    "Normalization",
    "choose_landmarks",
    "correlation_blocks",
    "correlation_of_pairs",
    "cosine_affinity",
    "fit_normalization",
    "rbf_affinity",
    "solve_bandwidth",
    "squared_distances",
]
