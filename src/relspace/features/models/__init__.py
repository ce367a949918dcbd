"""The families of models whose layers, tokens and preprocessing are known."""

from relspace.features.models.description import LayerSummary, ModelSummary, describe_model
from relspace.features.models.exported import ExportedModel
from relspace.features.models.loading import load_model
from relspace.features.models.module import ModuleModel
from relspace.features.models.onnx import OnnxModel

__all__ = [
    "ExportedModel",
    "LayerSummary",
    "ModelSummary",
    "ModuleModel",
    "OnnxModel",
    "describe_model",
    "load_model",
]
