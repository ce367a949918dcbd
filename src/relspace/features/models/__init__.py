"""The families of models whose layers, tokens and preprocessing are known."""

from relspace.features.families.loading import load_model
from relspace.features.families.module import ModuleModel

__all__ = ["ModuleModel", "load_model"]
