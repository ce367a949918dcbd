"""The families of models whose layers, tokens and preprocessing are known."""

from relspace.features.models.loading import load_model
from relspace.features.models.module import ModuleModel

__all__ = ["ModuleModel", "load_model"]
