"""The import path of the interface that relspace implements; all of the work is done there."""

from ncut_pytorch.utils.math import cosine_affinity, rbf_affinity
from ncut_pytorch.utils.sigma import find_sigma

__all__ = ["cosine_affinity", "find_sigma", "rbf_affinity"]
