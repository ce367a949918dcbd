"""Layer by layer: which layer of one model does what which layer of another does."""

from relspace.similarity.feature_sets import compare_feature_sets
from relspace.similarity.layers import BestMatch, LayerComparison, compare_layers
from relspace.similarity.model_pairs import ModelPair, pairs_of_models
from relspace.similarity.models import ModelComparison, compare_models

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
