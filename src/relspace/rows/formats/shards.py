"""Rows of several sources, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch

from relspace._core.items import ItemId, as_ids
from relspace._core.labelled_tables import refuse_other_features
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.rows.identity import Identity, combine, identify
from relspace.rows.locations import Locations
from relspace.rows.source import RowSource


class ShardedRows(RowSource):
    """Rows of several sources, one after the other."""

    def __init__(self, shards: Sequence[RowSource], ids: tuple[ItemId, ...] | None = None) -> None:
        if not shards:
            raise InvalidInputError("the list of shards is empty.")
        widths = sorted({shard.shape[1] for shard in shards})
        if len(widths) > 1:
            raise InvalidInputError(
                f"the shards have different numbers of features: {', '.join(map(str, widths))}."
            )
        self._shards = tuple(shards)
        self._ends = list(accumulate(shard.shape[0] for shard in shards))
        self.shape = (self._ends[-1], widths[0])
        dtype = shards[0].dtype
        for shard in shards:
            dtype = torch.promote_types(dtype, shard.dtype)
        if dtype.is_floating_point and any(
            shard.dtype in (torch.int32, torch.int64) for shard in shards
        ):
            # float32, to which torch promotes, does not hold all their digits.
            dtype = torch.float64
        self.dtype = dtype
        self.chunk_rows = max(shard.chunk_rows for shard in shards)
        origins = {shard.lies_in for shard in shards}
        # Files are prefetched, even with arrays among them; code is not, see ``prefetched``.
        self.lies_in = "code" if "code" in origins else min(origins)
        self.feature_names = shards[0].feature_names
        for number, shard in enumerate(shards):
            refuse_other_features(shard.feature_names, self.feature_names, f"shard {number}")
        self.ids = ids
        without = [number for number, shard in enumerate(shards) if shard.ids is None]
        if ids is None and len(without) < len(shards):
            if without:
                raise ItemMismatchError(
                    f"shard {without[0]} has no ids and others have; give them to all or to none."
                )
            joined = [item for shard in shards for item in shard.ids or ()]
            self.ids = as_ids(joined, "the shards", self.shape[0])

    def read(self, start: int, stop: int) -> torch.Tensor:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        parts = []
        at = bisect_right(self._ends, start)
        while start < stop:
            offset = self._ends[at] - self._shards[at].shape[0]
            end = min(stop, self._ends[at])
            parts.append(self._shards[at].read(start - offset, end - offset).to(self.dtype))
            start, at = end, at + 1
        return torch.cat(parts) if parts else torch.empty(0, self.shape[1], dtype=self.dtype)

    def identity(self) -> Identity:
        return combine([identify(shard) for shard in self._shards])

    def locations(self) -> Locations:
        return tuple(one for shard in self._shards for one in shard.locations())
