"""Feature stores as a format of :mod:`relspace.rows.registry`."""

from __future__ import annotations

from pathlib import Path

from relspace.errors import InvalidInputError
from relspace.features.feature_set import FeatureSet
from relspace.features.store.reading import is_store, open_features
from relspace.rows.formats._format import Request
from relspace.rows.registry import FeatureTable, StoreFormat, ids_of_file
from relspace.rows.source import RowSource


def _open(location: Path | str, request: Request) -> FeatureTable:
    """Open one layer of a store, by default its last."""
    found = open_features(location)
    if request.ids is not None or request.id_column is not None:
        # Items without ids (texts, arrays) may be given some.
        if found.ids is not None or request.ids is None:
            raise InvalidInputError(
                f"{location} is a feature store, which brings its ids: leave ids away"
            )
        found = found.with_ids(ids_of_file(request.ids, len(found)))
    layer = found.layers[-1] if request.key is None else request.key
    chosen = found.select(layers=layer)
    return FeatureTable(chosen, found.ids, location, layer, contents=found.contents)


def _rows(features: FeatureSet) -> RowSource:
    if len(features.layers) > 1:
        raise InvalidInputError(
            f"the feature set has {len(features.layers)} layers; give one: features[layer]."
        )
    return features[features.layers[0]]


FORMAT = StoreFormat(
    recognizes=is_store,
    open=_open,
    kind=FeatureSet,
    rows=_rows,
    contents=lambda features: features.contents,
)
