"""Comparison: of two sets of features, of all layers of two models, of several models."""

from relspace.similarity.feature_sets import compare_feature_sets
from relspace.similarity.layers import BestMatch, LayerComparison, compare_layers
from relspace.similarity.models import (
    ModelComparison,
    ModelPair,
    compare_models,
    pairs_of_models,
)

__all__ = [
    "BestMatch",
    "LayerComparison",
    "ModelComparison",
    "ModelPair",
    "compare_feature_sets",
    "compare_layers",
    "compare_models",
    "pairs_of_models",
]
