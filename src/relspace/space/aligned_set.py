"""One feature set in the common space: its aligner and its relative features."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar

import torch

from relspace._core.devices import to_device
from relspace._core.matrices import Array, Features
from relspace.errors import BandwidthError, InvalidInputError
from relspace.rows.source import GeneratedRows, RowSource
from relspace.space.aligner import Aligner
from relspace.space.defaults import Settings
from relspace.space.held_rows import hold_rows
from relspace.space.stored_sets import check_stored_set, float_type


@dataclass(frozen=True)
class AlignedSet:
    """One set of a space.

    ``aligner`` is fitted on this set's landmarks, and ``rows`` (n, m) are the relative features of
    the shared items in the order of the space, a source of rows if they are computed lazily.
    ``is_array`` and ``dtype`` are the kind and float type of the features, and of results.
    ``mixing`` (m, m) decorrelates columns when tokens on grids are compared. ``features`` (m, d)
    are the landmarks' features as they were given; spaces saved by versions before lack them.
    """

    aligner: Aligner
    rows: torch.Tensor | RowSource
    is_array: bool
    dtype: torch.dtype
    mixing: torch.Tensor | None = None
    features: torch.Tensor | None = None

    @property
    def relative(self) -> torch.Tensor:
        """All the relative features in memory; refused if they would not fit."""
        if isinstance(self.rows, torch.Tensor):
            return self.rows
        return hold_rows(self.rows)

    def to(self, device: torch.device) -> AlignedSet:
        """The same with its aligner, and the rows that are held, on a device."""
        return replace(
            self,
            aligner=self.aligner.to(device),
            rows=to_device(self.rows, device),
            mixing=to_device(self.mixing, device),
            features=to_device(self.features, device),
        )

    def restore(self, result: torch.Tensor) -> Array:
        """Convert a result to the kind and float type of this set's features."""
        return Features(result, self.is_array, self.dtype).restore(result)

    def stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The content of a file: tensors, and plain values beside them."""
        tensors, record = self.aligner._stored()
        if isinstance(self.rows, torch.Tensor):
            tensors["relative"] = self.rows
        if self.mixing is not None:
            tensors["mixing"] = self.mixing
        if self.features is not None:
            tensors["features"] = self.features
        return tensors, {
            **record,
            "n_rows": int(self.rows.shape[0]),
            "is_array": self.is_array,
            "dtype": str(self.dtype).removeprefix("torch."),
            "has_features": self.features is not None,
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> Self:
        """Check the content of a file, and restore the set."""
        check_stored_set(tensors, record)
        beside = ("relative", "mixing", "features", "boxes", "image_sizes")
        own = {name: one for name, one in tensors.items() if name not in beside}
        aligner = Aligner._restored(own, record)
        rows: torch.Tensor | RowSource
        if "relative" in tensors:
            rows = tensors["relative"]
        else:
            shape = (record["n_rows"], aligner.n_landmarks)
            rows = GeneratedRows(shape, _refuse_unsaved, dtype=aligner.landmarks_.dtype)
        dtype = float_type(record["dtype"])
        beside_rows = tensors.get("mixing"), tensors.get("features")
        return cls(aligner, rows, record["is_array"], dtype, *beside_rows)


_Landmarks = TypeVar("_Landmarks", bound=Sized)


def fit_aligner(settings: Settings, landmarks: torch.Tensor, name: str) -> Aligner:
    """Fit an aligner on a set's landmarks; errors name the set."""
    try:
        return Aligner(**asdict(settings)).fit(landmarks)
    except BandwidthError as error:
        raise error.about(f"landmarks of {name}") from error


def refuse_few_landmarks(landmarks: _Landmarks) -> _Landmarks:
    """Refuse fewer landmarks than a bandwidth can be solved on."""
    if len(landmarks) < 3:
        raise InvalidInputError(
            f"there are {len(landmarks)} landmarks; a bandwidth is solved on at least 3."
        )
    return landmarks


def _refuse_unsaved(start: int, stop: int) -> torch.Tensor:
    raise InvalidInputError(
        "this space was saved without its rows, which it made as they were read; align the "
        "feature sets again, or bring them in: space.transform(name, features, out=...)."
    )
