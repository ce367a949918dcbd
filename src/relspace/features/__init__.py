"""Feature sets: where features come from and how their items are named."""

from relspace.features.readers import FeatureTable, read_features

__all__ = ["FeatureTable", "read_features"]
