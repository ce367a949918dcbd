"""Relative features of a set: held in memory, or computed when they are read."""

from __future__ import annotations

from dataclasses import replace

import torch

from relspace._core.device_copies import copies_for
from relspace._core.memory import chunk_slices, empty_matrix
from relspace._core.progress import Listener, silent
from relspace._core.resources import Resources
from relspace.rows.ahead import prefetched
from relspace.rows.identity import Identity, hash_array, identify
from relspace.rows.source import MappedRows, RowSource
from relspace.space.aligner import Aligner, RelativeRows

_BYTES_AT_A_TIME = 2**26


class MadeRows(MappedRows):
    """Relative features of items that are computed when they are read.

    ``own`` is each item's own column, and ``order`` its row in the source, None if both have
    the same order.
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
        relative = replace(self._relative, own=self._own[indices])
        return relative(self.made_of.source.read_at(indices))

    def identity(self) -> Identity:
        order = "" if self._order is None else hash_array(self._order).digest
        return identify(self._source).with_detail(aligner=self._relative.settings(), order=order)


def hold_rows(rows: RowSource, tell: Listener = silent) -> torch.Tensor:
    """Read all relative features into memory in blocks; refused if they would not fit."""
    n, m = rows.shape
    like = rows.read(0, 1)
    Resources(device=like.device).require(
        n * m * like.element_size(),
        f"the relative features of {n} tokens over {m} landmarks",
        "read them in parts, space.rows(name).read(start, stop), or write them as they are made, "
        "space.transform(name, features, out='aligned.zarr')",
    )
    held = empty_matrix(n, m, like=like)
    parts = chunk_slices(n, rows.whole_chunks(_BYTES_AT_A_TIME // (m * like.element_size())))
    with prefetched(rows, parts, copies_for(like.device)) as blocks:
        for part, block in blocks:
            held[part] = block
            tell(part.stop, n, "Transforming rows")
    return held
