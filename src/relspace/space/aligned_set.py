"""One feature set in the common space: its way in, its relative features, its stored form."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeVar

import torch

from relspace._core.device_copies import copies_for
from relspace._core.devices import to_device
from relspace._core.memory import (
    chunk_slices,
    empty_matrix,
    refuse_too_large,
)
from relspace._core.validation import Array, Features
from relspace.errors import BandwidthError, InvalidInputError
from relspace.rows.ahead import prefetched
from relspace.rows.identity import Identity, hash_array, identify
from relspace.rows.source import GeneratedRows, MappedRows, RowSource
from relspace.space.aligner import Aligner, RelativeRows
from relspace.space.defaults import Settings
from relspace.space.stored_sets import check_stored_set, float_type

_BYTES_AT_A_TIME = 2**26


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


class MadeRows(MappedRows):
    """Relative features of items that are made as they are read.

    Parameters
    ----------
    source : RowSource
        The items' features, where they lie.
    aligner : Aligner
        Fitted on the landmarks among them.
    own : LongTensor of shape (n,)
        Each item's own column, in the order of the space.
    order : LongTensor of shape (n,) or None
        The row of the source that each item of the space has; None where the order is the same.
    """

    def __init__(
        self, source: RowSource, aligner: Aligner, own: torch.Tensor, order: torch.Tensor | None
    ) -> None:
        given = source if order is None else source.take(order)
        self._source, self._own, self._order = source, own, order
        self._relative = RelativeRows(aligner, own)
        kind = aligner.landmarks_.dtype
        super().__init__(given, self._relative, aligner.n_landmarks, dtype=kind)
        # The space has ids of its own.
        self.ids = self.contents = None

    def read_at(self, indices: torch.Tensor) -> torch.Tensor:
        """Make single rows, in the order asked for."""
        relative = replace(self._relative, own=self._own[indices])
        return relative(self.made_of.source.read_at(indices))

    def identity(self) -> Identity:
        """That of the features, and of all that makes relative features of them."""
        order = "" if self._order is None else hash_array(self._order).digest
        return identify(self._source).with_detail(aligner=self._relative.settings(), order=order)


def hold_rows(rows: RowSource) -> torch.Tensor:
    """Read all relative features into memory, in parts.

    Raises
    ------
    MemoryBudgetError
        If they would not fit into the free memory.
    """
    n, m = rows.shape
    like = rows.read(0, 1)
    refuse_too_large(
        n * m * like.element_size(),
        f"the relative features of {n} tokens over {m} landmarks",
        "read them in parts, space.rows(name).read(start, stop), or write them as they are made, "
        "space.transform(name, features, out='aligned.zarr')",
        device=like.device,
    )
    held = empty_matrix(n, m, like=like)
    parts = chunk_slices(n, rows.whole_chunks(_BYTES_AT_A_TIME // (m * like.element_size())))
    with prefetched(rows, parts, copies_for(like.device)) as blocks:
        for part, block in blocks:
            held[part] = block
    return held


def _refuse_unsaved(start: int, stop: int) -> torch.Tensor:
    raise InvalidInputError(
        "this space was saved without its rows, which it made as they were read; align the "
        "feature sets again, or bring them in: space.transform(name, features, out=...)."
    )
