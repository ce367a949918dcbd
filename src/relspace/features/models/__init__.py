"""The families of models whose layers, tokens and preprocessing are known."""

from relspace.features.models.loading import load_model
from relspace.features.models.module import ModuleModel
from relspace.features.models.onnx import OnnxModel

__all__ = ["ModuleModel", "OnnxModel", "load_model"]
