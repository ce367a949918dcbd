"""Chunks of an extraction: batches of items are computed, and written together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace.features.decoding import UnreadableImageError
from relspace.features.feature_model import FeatureModel
from relspace.features.loader import load_ahead
from relspace.features.preprocessing import View
from relspace.features.store.reading import PRESENT, SKIPPED
from relspace.features.store.writing import FeatureStoreWriter, refuse_what_does_not_fit
from relspace.rows.cluster import refuse_stopped, writing
from relspace.rows.dask import in_turn

Prepared = tuple[NDArray[Any], View | None] | UnreadableImageError
Batch = tuple[list[Prepared], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class ExtractionSource:
    """A model and its items; it is sent to each worker of a cluster once.

    ``item_names`` are the items' names in messages, ``load_item(position)`` loads one, and ``job``
    is the job in the store's header.
    """

    model: FeatureModel
    layers: Sequence[str]
    item_names: tuple[str, ...]
    load_item: Callable[[int], Any]
    batch_size: int
    store_dtype: str
    on_error: str
    n_threads: int | None
    job: Mapping[str, Any]

    def ranges(self, part: slice) -> list[range]:
        """The batches of a part of the items."""
        starts = range(part.start, part.stop, self.batch_size)
        return [range(start, min(start + self.batch_size, part.stop)) for start in starts]

    def batches(self, parts: Sequence[slice]) -> Generator[Batch, None, None]:
        """Features of parts of the items, batch by batch; images are prefetched."""
        ranges = [one for part in parts for one in self.ranges(part)]
        loaded = load_ahead(self._prepare, ranges, n_threads=self.n_threads)
        with self.model.held(), closing(loaded):
            for prepared in loaded:
                yield self._compute(prepared)

    def _prepare(self, position: int) -> Prepared:
        try:
            item = self.load_item(position)
            try:
                return self.model.prepare(item)
            except UnreadableImageError as error:
                # The model doesn't know the item's name.
                raise error.about(self.item_names[position]) from error
        except UnreadableImageError as error:
            if self.on_error == "raise":
                raise
            return error

    def _compute(self, prepared: list[Prepared]) -> Batch:
        inputs = [one[0] for one in prepared if not isinstance(one, UnreadableImageError)]
        if not inputs:
            return prepared, {}
        dtype = getattr(torch, self.store_dtype)
        return prepared, self.model.forward(inputs, self.layers, dtype=dtype)


class ExtractedChunk:
    """The content of one chunk: features, sizes and boxes of its items."""

    def __init__(self, writer: FeatureStoreWriter, names: Sequence[str], part: slice) -> None:
        n = part.stop - part.start
        self.part = part
        self._writer, self._names = writer, names[part]
        self._arrays = {
            layer.name: np.empty((n, *layer.shape), dtype=writer.dtype) for layer in writer.layers
        }
        self._regions = np.array(writer.regions, dtype=np.float64)
        self._boxes = np.full((len(self._regions), n, 4), np.nan)
        self._sizes = np.zeros((n, 2), dtype=np.int64)
        self._reasons: list[str | None] = [None] * n

    def add(
        self, batch: range, prepared: list[Prepared], features: Mapping[str, torch.Tensor]
    ) -> None:
        """Add the results of a batch."""
        rows = []
        for position, one in zip(batch, prepared, strict=True):
            row = position - self.part.start
            if isinstance(one, UnreadableImageError):
                self._reasons[row] = str(one)
                continue
            rows.append(row)
            if one[1] is not None:
                self._sizes[row] = one[1].image_size
                self._boxes[:, row] = one[1].to_original(self._regions)
        for name, tensor in features.items():
            self._arrays[name][rows] = tensor.cpu().numpy()

    def write(self) -> tuple[NDArray[np.uint8], dict[str, str], str]:
        """Check and write the features; return the status, skipped items, and the checksum."""
        present = [row for row, reason in enumerate(self._reasons) if reason is None]
        lost = [row for row, reason in enumerate(self._reasons) if reason is not None]
        for name, array in self._arrays.items():
            kept, names = (array, self._names)
            if lost:
                kept, names = array[present], [self._names[i] for i in present]
            refuse_what_does_not_fit(kept, name, names)
            array[lost] = np.nan
        checksum = self._writer.write(
            self.part, self._arrays, image_sizes=self._sizes, boxes=self._boxes
        )
        skipped = {self._names[i]: str(self._reasons[i]) for i in lost}
        status = np.full(len(self._reasons), PRESENT, dtype=np.uint8)
        status[lost] = SKIPPED
        return status, skipped, checksum


def extract_chunk(
    source: ExtractionSource, part: slice, *, path: str
) -> tuple[slice, NDArray[np.uint8], dict[str, str], str]:
    """Compute and write one chunk on a worker; the process with the lock marks it as finished.

    The result is the chunk, and the arguments of :meth:`FeatureStoreWriter.mark`.
    """
    writer = FeatureStoreWriter.join(path, source.job)
    chunk = ExtractedChunk(writer, source.item_names, part)

    def compute() -> None:
        with closing(source.batches([part])) as computed:
            for batch in source.ranges(part):
                refuse_stopped()
                chunk.add(batch, *next(computed))

    in_turn(compute)
    with writing():
        # Meanwhile the client may have ended, and another run have replaced the store.
        FeatureStoreWriter.join(path, source.job)
        return (part, *chunk.write())
