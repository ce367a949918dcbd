"""relspace: one common space in which features of different models can be compared."""

from relspace.kernels import (
    DEFAULT_DENSITY,
    Bandwidth,
    choose_landmarks,
    cosine_affinity,
    rbf_affinity,
    solve_bandwidth,
    squared_distances,
)

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_DENSITY",
    "Bandwidth",
    "__version__",
    "choose_landmarks",
    "cosine_affinity",
    "rbf_affinity",
    "solve_bandwidth",
    "squared_distances",
]
