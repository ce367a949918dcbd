"""Feature sets: where features come from and how their items are named."""

import warnings

from relspace._core.pairing import ItemContents, ItemContentWarning
from relspace.features.extraction import SkippedImageWarning, extract
from relspace.features.feature_model import FeatureModel
from relspace.features.feature_set import FeatureSet
from relspace.features.hooks import record
from relspace.features.images import ImageCollection, UnreadableImageError, open_images
from relspace.features.items import BlankLinesWarning
from relspace.features.layer import LayerFeatures
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
from relspace.features.store.format import FORMAT as _FORMAT
from relspace.features.store.reading import open_features
from relspace.features.store.writing import OtherExtractionError
from relspace.features.tokens import token_features
from relspace.rows.layers import LayerFile, read_layers, scan_layers
from relspace.rows.locks import StoreLockedError
from relspace.rows.registry import (
    FeatureTable,
    gives_arrays,
    is_held,
    is_table_file,
    read,
    register,
    scan,
    scan_table,
)
from relspace.rows.source import RowSource

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
    "RowSource",
    "SkippedImageWarning",
    "StoreLockedError",
    "TokenGrid",
    "TruncatedTextWarning",
    "UnreadableImageError",
    "choose_places",
    "extract",
    "gives_arrays",
    "is_held",
    "is_table_file",
    "load_model",
    "open_features",
    "open_images",
    "read",
    "read_layers",
    "read_places",
    "record",
    "scan",
    "scan_layers",
    "scan_table",
    "token_centers",
    "token_features",
    "token_places",
]

register(_FORMAT)

_RENAMED = {"open_layers": "scan_layers", "open_rows": "scan", "read_features": "read"}


def __getattr__(name: str) -> object:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(
        f"relspace.features.{name} is called relspace.features.{new} now.",
        DeprecationWarning,
        stacklevel=2,
    )
    return globals()[new]
