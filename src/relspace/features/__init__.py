"""Feature sets: where features come from and how their items are named."""

from relspace.features.readers import FeatureTable, is_table_file, read_features

__all__ = ["FeatureTable", "is_table_file", "read_features"]
