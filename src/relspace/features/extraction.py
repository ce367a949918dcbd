"""Extraction: models see images or texts once, and features of all layers go into stores."""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace._validation import as_ids, check_choice, check_count, name_some
from relspace.errors import InvalidInputError, InvalidTypeError, RelspaceWarning
from relspace.execution.cluster_work import run_on_cluster
from relspace.features.extraction_chunks import (
    Batch,
    ExtractedChunk,
    ExtractionSource,
    extract_chunk,
)
from relspace.features.families import load_model
from relspace.features.feature_model import (
    Description,
    FeatureModel,
    Layers,
    describe_features,
)
from relspace.features.feature_set import FeatureSet
from relspace.features.images import UnreadableImageError, open_images
from relspace.features.store import open_features
from relspace.features.store_writer import (
    STORE_DTYPES,
    FeatureStoreWriter,
)
from relspace.locations import located

#: About how many bytes of features are held before they are written.
_CHUNK_BYTES = 64 * 2**20
_SECONDS_BETWEEN_REPORTS = 0.5


class SkippedImageWarning(RelspaceWarning):
    """Images could not be read and were skipped, as was asked for."""


def extract(
    model: str | Path | FeatureModel | Mapping[str, Any] | Sequence[Any],
    items: object,
    out: str | Path,
    *,
    layers: Layers = "all",
    ids: Sequence[str] | None = None,
    batch_size: int = 16,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    store_dtype: str = "float16",
    on_error: str = "raise",
    n_threads: int | None = None,
    overwrite: bool = False,
    client: Any = None,
    progress: Callable[[str], None] | None = None,
) -> FeatureSet | dict[str, FeatureSet]:
    """Extract features of layers into a store, in one pass over the items.

    A store that is there already is gone on with where it stopped, or opened if it is whole, when
    it is of the same extraction.

    Parameters
    ----------
    model : str, Path, FeatureModel, or several
        A folder or name that :func:`relspace.load_model` takes, or what it returned. Several, in
        a list or by name, see the same items in the same order.
    items : images or texts
        What :func:`relspace.features.open_images` takes; for text models a list of strings, or a
        text file with one text in each line.
    out : str or Path
        The store, by custom ending in ``.zarr``; for several models a folder for their stores.
        Either may be a URL that fsspec knows (``s3://``, ``gs://``).
    layers : "all", "last", or a sequence of int or str
        Which layers: positions, names, ``"layer_3.key"`` (also query, value, attention, mlp,
        where the architecture shows them), ``"*.key"``, or ``"output"``.
    ids : sequence of str, optional
        The items' ids; by default paths within the folder, or positions.
    batch_size : int
        How many items the model sees at a time.
    device : str or torch.device
        Where models that are given by name run; ``"auto"`` is the first GPU, or the CPU.
    dtype : {"float32", "float16", "bfloat16"}
        What models that are given by name compute in.
    store_dtype : {"float16", "float32"}
        What features are stored in; values that float16 can't hold are an error.
    on_error : {"raise", "skip"}
        Whether an image that can't be read ends the extraction, or is left out and named.
    n_threads : int, optional
        How many threads decode images ahead.
    overwrite : bool
        Whether a store of another extraction is replaced.
    client : distributed.Client, optional
        A cluster whose workers compute and write the chunks. They are sent the model and must
        reach items and store under the same paths or URLs; this process holds the store's lock.
    progress : callable, optional
        Is told how far it is, how fast, and how long it will take.

    Returns
    -------
    FeatureSet, or dict of FeatureSet
        The features, on disk; by name for several models. Of texts their metadata says how many
        are longer than the model takes and were cut (``n_truncated``), and which (``truncated``).

    Raises
    ------
    UnreadableImageError
        If an image can't be read.
    NonFiniteError
        If features are NaN, or too large for the store's type.
    InvalidInputError
        If the store holds another extraction, or an argument is out of range.
    UnknownNameError
        If a layer doesn't exist.
    """
    check_count(batch_size, "batch_size")
    check_choice(store_dtype, "store_dtype", STORE_DTYPES)
    check_choice(on_error, "on_error", ("raise", "skip"))
    several = _several(model)
    options: dict[str, Any] = {
        "layers": layers,
        "ids": ids,
        "batch_size": batch_size,
        "store_dtype": store_dtype,
        "on_error": on_error,
        "n_threads": n_threads,
        "overwrite": overwrite,
        "client": client,
        "progress": progress or (lambda message: None),
    }

    def load(one: Any) -> FeatureModel:
        if isinstance(one, FeatureModel):
            return one
        if isinstance(one, nn.Module):
            raise InvalidTypeError(
                "a module doesn't say what its axes are: wrap it, as in relspace.ModuleModel("
                "module, layers, layout='bchw', preprocessing=...)."
            )
        if progress is not None:
            progress(f"Loading {one}")
        return load_model(one, device=device, dtype=dtype)

    if several is None:
        return _extract_one(load(model), items, out, **options)
    folder = str(located(out)).rstrip("/")
    return {
        name: _extract_one(load(one), items, f"{folder}/{name}.zarr", **options)
        for name, one in several.items()
    }


def _several(model: Any) -> dict[str, Any] | None:
    if isinstance(model, str | Path | FeatureModel | nn.Module):
        return None
    if not isinstance(model, Mapping | Sequence) or not model:
        raise InvalidTypeError(
            f"model is {model!r:.60}; it must be a folder, a name, a FeatureModel, or several."
        )
    if isinstance(model, Mapping):
        named = dict(model)
    else:
        titles = [
            one.name if isinstance(one, FeatureModel) else str(one).rstrip("/") for one in model
        ]
        named = dict(zip((title.rpartition("/")[2] for title in titles), model, strict=True))
        if len(named) < len(titles):
            raise InvalidInputError(
                f"some of the models {name_some(titles)} have the same name: give a mapping of "
                "names to models."
            )
    odd = [
        name
        for name in named
        if not isinstance(name, str) or not name.strip(".") or any(mark in name for mark in "/\\")
    ]
    if odd:
        raise InvalidInputError(f"models can't be called {name_some(odd)}: stores are named so.")
    return named


def _extract_one(
    model: FeatureModel,
    items: object,
    out: str | Path,
    *,
    layers: Layers,
    ids: Sequence[str] | None,
    batch_size: int,
    store_dtype: str,
    on_error: str,
    n_threads: int | None,
    overwrite: bool,
    client: Any,
    progress: Callable[[str], None],
) -> FeatureSet:
    names = model.names_of(layers)
    found_ids, load_item = _open_items(model, items, ids)
    extraction = {
        "model": model.name,
        "layers": list(names),
        **model.settings(),
        **model.describe_truncated(map(load_item, range(len(found_ids))), found_ids),
        "weights": model.fingerprint(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "store_dtype": store_dtype,
        "batch_size": batch_size,
        "items": _digest(items, found_ids),
        "on_error": on_error,
    }

    source = ExtractionSource(
        model, names, found_ids, load_item, batch_size, store_dtype, on_error, n_threads, extraction
    )
    writer = FeatureStoreWriter.resume(
        out, ids=found_ids, extraction=extraction, overwrite=overwrite, progress=progress
    )
    with ExitStack() as stack:
        missing = [slice(0, len(found_ids))]
        if writer is not None:
            stack.enter_context(writer)
            missing = writer.missing_chunks()
        meter = _Meter(model.name, sum(part.stop - part.start for part in missing), progress)
        computed: Iterator[Batch] = stack.enter_context(closing(source.batches(missing)))
        if writer is None:
            # What a store holds is known once a batch has been seen.
            first = next(computed)
            description = _describe(model, names, first)
            chunk_items = _chunk_items(description, len(found_ids), batch_size, store_dtype)
            writer = FeatureStoreWriter.create(
                out,
                layers=description.layers,
                regions=description.regions,
                ids=found_ids,
                chunk_items=chunk_items,
                extraction=extraction,
                progress=progress,
            )
            stack.enter_context(writer)
            computed = chain([first], computed)
        if client is None:
            _fill(writer, computed, source, meter)
        else:
            _fill_on_cluster(writer, source, client, meter)
        skipped = writer.skipped
    if skipped:
        warnings.warn(
            SkippedImageWarning(
                f"{len(skipped)} of {len(found_ids)} images can't be read and were skipped: "
                f"{name_some(list(skipped))}."
            ),
            stacklevel=3,
        )
    return open_features(out)


def _describe(model: FeatureModel, names: Sequence[str], batch: Batch) -> Description:
    prepared, features = batch
    shapes = [one[0].shape for one in prepared if not isinstance(one, UnreadableImageError)]
    if not shapes:
        return model.describe(names)
    return describe_features(features, model.regions(features, shapes[0]))


def _chunk_items(description: Description, n: int, batch_size: int, store_dtype: str) -> int:
    """Whole batches, so that an extraction that goes on meets the same ones again."""
    values = sum(math.prod(layer.shape) for layer in description.layers)
    batch_bytes = values * np.dtype(store_dtype).itemsize * batch_size
    return min(max(1, _CHUNK_BYTES // batch_bytes), -(-n // batch_size)) * batch_size


def _fill(
    writer: FeatureStoreWriter,
    computed: Iterator[Batch],
    source: ExtractionSource,
    meter: _Meter,
) -> None:
    """Write the chunks that are missing, each while the next is computed."""
    with ThreadPoolExecutor(1, thread_name_prefix="relspace-write") as pool:
        writing: Future[None] | None = None

        def write(chunk: ExtractedChunk) -> None:
            writer.mark(chunk.part, *chunk.write())

        for part in writer.missing_chunks():
            chunk = ExtractedChunk(writer, source.ids, part)
            for batch in source.ranges(part):
                chunk.add(batch, *next(computed))
                meter.add(len(batch))
            # No more than one waits to be written, so that memory is bounded.
            if writing is not None:
                writing.result()
            writing = pool.submit(write, chunk)
        if writing is not None:
            writing.result()


def _fill_on_cluster(
    writer: FeatureStoreWriter, source: ExtractionSource, client: Any, meter: _Meter
) -> None:
    """Have workers write the chunks that are missing, and mark each when it is there."""
    place = writer.path
    work = partial(extract_chunk, path=str(place.resolve() if isinstance(place, Path) else place))
    with closing(run_on_cluster(work, source, writer.missing_chunks(), client)) as done:
        for part, status, skipped in done:
            writer.mark(part, status, skipped)
            meter.add(part.stop - part.start)


class _Meter:
    """Tells how far an extraction is, how fast, and how long it will take."""

    def __init__(self, name: str, total: int, progress: Callable[[str], None]) -> None:
        self._name, self._total, self._progress = name, total, progress
        self._done = 0
        self._start = self._told = time.monotonic()

    def add(self, count: int) -> None:
        """Count items that are done."""
        self._done += count
        now = time.monotonic()
        if now - self._told < _SECONDS_BETWEEN_REPORTS and self._done < self._total:
            return
        self._told = now
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate
        minutes, seconds = divmod(round(left), 60)
        self._progress(
            f"{self._name}: {self._done} of {self._total}, {rate:.1f}/s, "
            f"{minutes}:{seconds:02d} left"
        )


def _open_items(
    model: FeatureModel, items: object, ids: Sequence[str] | None
) -> tuple[tuple[str, ...], Callable[[int], Any]]:
    if model.modality == "image":
        collection = open_images(items, ids=ids)
        return collection.ids, collection.load
    texts = _texts(items)
    names = [str(i) for i in range(len(texts))] if ids is None else ids
    return tuple(str(one) for one in as_ids(names, "texts", len(texts))), texts.__getitem__


def _texts(items: object) -> list[str]:
    if isinstance(items, str | Path):
        path = Path(items)
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no text file {path}; texts are a list of strings, or a file with one "
                "in each line."
            )
        items = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not isinstance(items, Sequence) or not all(isinstance(one, str) for one in items):
        raise InvalidTypeError("a text model takes a list of strings, or a text file.")
    if not items:
        raise InvalidInputError("there are no texts.")
    return list(items)


def _digest(items: object, ids: Sequence[str]) -> str:
    """Return a digest of the items that tells other ones: texts, arrays, or files by size."""
    digest = hashlib.sha256(json.dumps(list(ids)).encode())
    for part in _content(items):
        digest.update(part)
    return digest.hexdigest()[:32]


def _content(items: object) -> Iterator[bytes]:
    if isinstance(items, str | Path) and Path(items).is_dir():
        for path in sorted(Path(items).rglob("*")):
            if path.is_file():
                yield f"{path.name}{path.stat().st_size}".encode()
    elif isinstance(items, str | Path) and Path(items).is_file():
        yield f"{Path(items).stat().st_size}".encode()
    elif isinstance(items, torch.Tensor | np.ndarray):
        step = max(1, len(items) // 64)
        yield np.ascontiguousarray(np.asarray(items[::step])).tobytes()
    elif isinstance(items, Sequence) and all(isinstance(one, str) for one in items):
        yield "\n".join(items).encode()
