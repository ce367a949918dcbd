"""relspace: one common space in which features of different models can be compared."""

from relspace.align import align
from relspace.aligned_space import AlignedSpace, load_space
from relspace.aligner import Aligner
from relspace.embedding import Coloring, NormalizedCut, colors, kway
from relspace.features import FeatureSet
from relspace.kernels import (
    DEFAULT_DENSITY,
    Bandwidth,
    Match,
    choose_landmarks,
    cosine_affinity,
    rbf_affinity,
    solve_bandwidth,
    squared_distances,
)

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_DENSITY",
    "AlignedSpace",
    "Aligner",
    "Bandwidth",
    "Coloring",
    "FeatureSet",
    "Match",
    "NormalizedCut",
    "__version__",
    "align",
    "choose_landmarks",
    "colors",
    "cosine_affinity",
    "kway",
    "load_space",
    "rbf_affinity",
    "solve_bandwidth",
    "squared_distances",
]
