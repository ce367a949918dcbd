"""Distances, bandwidths, affinities and landmarks, as functions of tensors."""

from relspace.kernels.affinity import cosine_affinity, rbf_affinity
from relspace.kernels.bandwidth import DEFAULT_DENSITY, Bandwidth, solve_bandwidth
from relspace.kernels.distances import squared_distances
from relspace.kernels.landmarks import choose_landmarks

__all__ = [
    "DEFAULT_DENSITY",
    "Bandwidth",
    "choose_landmarks",
    "cosine_affinity",
    "rbf_affinity",
    "solve_bandwidth",
    "squared_distances",
]
