"""Feature sets: where features come from and how their items are named."""

from relspace.features.feature_set import FeatureSet
from relspace.features.layer_features import LayerFeatures
from relspace.features.places import (
    Places,
    TokenGrid,
    choose_places,
    read_places,
    token_centers,
    token_places,
)
from relspace.features.readers import FeatureTable, is_table_file, read_features

__all__ = [
    "FeatureSet",
    "FeatureTable",
    "LayerFeatures",
    "Places",
    "TokenGrid",
    "choose_places",
    "is_table_file",
    "read_features",
    "read_places",
    "token_centers",
    "token_places",
]
