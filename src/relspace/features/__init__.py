"""Feature sets: where features come from and how their items are named."""

from relspace._core.deprecation import warn_renamed
from relspace._core.pairing import ItemContents, ItemContentWarning
from relspace.features.decoding import UnreadableImageError
from relspace.features.extraction import SkippedImageWarning, extract
from relspace.features.feature_model import FeatureModel
from relspace.features.feature_set import FeatureSet
from relspace.features.hooks import record
from relspace.features.images import ImageCollection, open_images
from relspace.features.items import BlankLinesWarning
from relspace.features.layer import LayerFeatures
from relspace.features.models import (
    ExportedModel,
    LayerSummary,
    ModelSummary,
    ModuleModel,
    OnnxModel,
    describe_model,
    load_model,
)
from relspace.features.models.text import TruncatedTextWarning
from relspace.features.positions import (
    Positions,
    TokenGrid,
    choose_positions,
    read_positions,
    token_centers,
    token_positions,
)
from relspace.features.preprocessing import Preprocessing
from relspace.features.store.format import FORMAT as _FORMAT
from relspace.features.store.reading import open_features
from relspace.features.store.same_extraction import OtherExtractionError
from relspace.features.tokens import token_features
from relspace.rows.layers import LayerFile, read_layers, scan_layers
from relspace.rows.locks import StoreLockedError
from relspace.rows.registry import (
    FeatureTable,
    contents_of,
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
    "ExportedModel",
    "FeatureModel",
    "FeatureSet",
    "FeatureTable",
    "ImageCollection",
    "ItemContentWarning",
    "ItemContents",
    "LayerFeatures",
    "LayerFile",
    "LayerSummary",
    "ModelSummary",
    "ModuleModel",
    "OnnxModel",
    "OtherExtractionError",
    "Positions",
    "Preprocessing",
    "RowSource",
    "SkippedImageWarning",
    "StoreLockedError",
    "TokenGrid",
    "TruncatedTextWarning",
    "UnreadableImageError",
    "choose_positions",
    "contents_of",
    "describe_model",
    "extract",
    "gives_arrays",
    "is_held",
    "is_table_file",
    "load_model",
    "open_features",
    "open_images",
    "read",
    "read_layers",
    "read_positions",
    "record",
    "scan",
    "scan_layers",
    "scan_table",
    "token_centers",
    "token_features",
    "token_positions",
]

register(_FORMAT)

_RENAMED = {
    **{"open_layers": "scan_layers", "open_rows": "scan", "read_features": "read"},
    **{"Places": "Positions", "choose_places": "choose_positions"},
    **{"read_places": "read_positions", "token_places": "token_positions"},
}


def __getattr__(name: str) -> object:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed(f"relspace.features.{name}", f"relspace.features.{_RENAMED[name]}")
    return globals()[_RENAMED[name]]
