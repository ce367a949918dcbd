"""One feature set in the common space: its way in, its relative features, its stored form."""

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
    """One set in the space: how its tokens get there, and its relative features.

    Attributes
    ----------
    aligner : Aligner
        Fitted on this set's landmarks.
    rows : tensor or RowSource of shape (n, m)
        Relative features of the shared items, in the order of the space; a source of rows where
        these are made as they are read.
    is_array : bool
        Whether the features were an array, so that results are arrays too.
    dtype : torch.dtype
        Their float type, and that of results.
    mixing : tensor of shape (m, m), optional
        What decorrelates columns where tokens on grids are compared; rows hold them as they are.
    """

    aligner: Aligner
    rows: torch.Tensor | RowSource
    is_array: bool
    dtype: torch.dtype
    mixing: torch.Tensor | None = None

    @property
    def relative(self) -> torch.Tensor:
        """All the relative features in memory.

        Raises
        ------
        MemoryBudgetError
            If they are not held and would not fit into the free memory.
        """
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
        )

    def restore(self, result: torch.Tensor) -> Array:
        """Give a result the kind and the float type of this set's features."""
        return Features(result, self.is_array, self.dtype).restore(result)

    def stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a file holds of it: tensors, and plain values beside them."""
        tensors, record = self.aligner._stored()
        if isinstance(self.rows, torch.Tensor):
            tensors["relative"] = self.rows
        if self.mixing is not None:
            tensors["mixing"] = self.mixing
        return tensors, {
            **record,
            "n_rows": int(self.rows.shape[0]),
            "is_array": self.is_array,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> Self:
        """Check what a file holds of a set, and restore it."""
        check_stored_set(tensors, record)
        beside = ("relative", "mixing", "boxes", "image_sizes")
        own = {name: one for name, one in tensors.items() if name not in beside}
        aligner = Aligner._restored(own, record)
        rows: torch.Tensor | RowSource
        if "relative" in tensors:
            rows = tensors["relative"]
        else:
            shape = (record["n_rows"], aligner.n_landmarks)
            rows = GeneratedRows(shape, _refuse_unsaved, dtype=aligner.landmarks_.dtype)
        dtype = float_type(record["dtype"])
        return cls(aligner, rows, record["is_array"], dtype, tensors.get("mixing"))


_Landmarks = TypeVar("_Landmarks", bound=Sized)


def fit_aligner(settings: Settings, landmarks: torch.Tensor, name: str) -> Aligner:
    """Fit an aligner on a set's features of the landmarks; errors name the set."""
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
