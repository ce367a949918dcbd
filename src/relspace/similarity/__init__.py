"""Layer by layer: which layer of one model does what which layer of another does."""

from relspace.layerwise.feature_sets import compare_feature_sets
from relspace.layerwise.layer_comparison import BestMatch, LayerComparison, compare_layers
from relspace.layerwise.model_comparison import ModelComparison, compare_models
from relspace.layerwise.model_pairs import ModelPair, pairs_of_models
from relspace.layerwise.page import comparison_page

__all__ = [
    "BestMatch",
    "LayerComparison",
    "ModelComparison",
    "ModelPair",
    "compare_feature_sets",
    "compare_layers",
    "compare_models",
    "comparison_page",
    "pairs_of_models",
]
