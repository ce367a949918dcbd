"""Feature sets: where features come from and how their items are named."""

from relspace._core.pairing import ItemContents, ItemContentWarning
from relspace.features.extraction import SkippedImageWarning, extract
from relspace.features.feature_model import FeatureModel
from relspace.features.feature_set import FeatureSet
from relspace.features.hooks import record
from relspace.features.images import ImageCollection, UnreadableImageError, open_images
from relspace.features.items import BlankLinesWarning
from relspace.features.layer import LayerFeatures
from relspace.features.layer_files import LayerFile, open_layers, read_layers
from relspace.features.models import ModuleModel, OnnxModel, load_model
from relspace.features.models.text import TruncatedTextWarning
from relspace.features.positions import (
    Places,
    TokenGrid,
    choose_places,
    read_places,
    token_centers,
    token_places,
)
from relspace.features.preprocessing import Preprocessing
from relspace.features.readers import FeatureTable, is_table_file, read_features
from relspace.features.row_files import open_rows
from relspace.features.store.reading import open_features
from relspace.features.store.writing import OtherExtractionError
from relspace.features.tokens import token_features
from relspace.rows.locks import StoreLockedError

__all__ = [
    "BlankLinesWarning",
    "FeatureModel",
    "FeatureSet",
    "FeatureTable",
    "ImageCollection",
    "ItemContentWarning",
    "ItemContents",
    "LayerFeatures",
    "LayerFile",
    "ModuleModel",
    "OnnxModel",
    "OtherExtractionError",
    "Places",
    "Preprocessing",
    "SkippedImageWarning",
    "StoreLockedError",
    "TokenGrid",
    "TruncatedTextWarning",
    "UnreadableImageError",
    "choose_places",
    "extract",
    "is_table_file",
    "load_model",
    "open_features",
    "open_images",
    "open_layers",
    "open_rows",
    "read_features",
    "read_layers",
    "read_places",
    "record",
    "token_centers",
    "token_features",
    "token_places",
]
