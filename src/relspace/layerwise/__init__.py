"""Layer by layer: which layer of one model does what which layer of another does."""

from relspace.layerwise.layer_comparison import LayerComparison, compare_layers
from relspace.layerwise.model_comparison import ModelComparison, compare_models
from relspace.layerwise.page import comparison_page

__all__ = [
    "LayerComparison",
    "ModelComparison",
    "compare_layers",
    "compare_models",
    "comparison_page",
]
