"""Extraction of features of all layers into stores, in one pass over images or texts."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace._core.arguments import check_choice, check_count, name_some
from relspace._core.devices import choose_device
from relspace._core.files import check_writable
from relspace._core.items import ItemId
from relspace._core.progress import Listener, Progress, as_listener
from relspace.errors import InvalidInputError, InvalidTypeError, RelspaceWarning
from relspace.features.decoding import UnreadableImageError
from relspace.features.extraction_chunks import (
    Batch,
    ExtractedChunk,
    ExtractionSource,
    extract_chunk,
)
from relspace.features.feature_model import Description, FeatureModel, Layers, describe_features
from relspace.features.feature_set import FeatureSet
from relspace.features.items import IdentifiedItems, identify_items, open_items
from relspace.features.models import load_model
from relspace.features.models.loading import DTYPES
from relspace.features.store.reading import FORMAT_VERSION, KIND, open_features
from relspace.features.store.same_extraction import whole_job
from relspace.features.store.writing import STORE_DTYPES, FeatureStoreWriter
from relspace.rows.ahead import write_behind
from relspace.rows.cluster import run_on_cluster
from relspace.rows.ledger import RESUME, Resume, job_header
from relspace.rows.locations import located

#: Bytes of features of a chunk, at most.
_CHUNK_BYTES = 64 * 2**20
#: A killed run loses at most 1 / 10 of the work, and 30 seconds, or one batch.
_LOST_SHARE = 10
_LOST_SECONDS = 30.0
#: The limit of seconds makes at most this many chunks.
_MOST_CHUNKS = 1000


class SkippedImageWarning(RelspaceWarning):
    """Images could not be read and were skipped."""


def extract(
    model: str | Path | nn.Module | FeatureModel | Mapping[str, Any] | Sequence[Any],
    items: object,
    out: str | Path,
    *,
    layers: Layers = "all",
    ids: Sequence[ItemId] | None = None,
    batch_size: int = 16,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    store_dtype: str = "float16",
    on_error: str = "raise",
    n_threads: int | None = None,
    overwrite: bool = False,
    resume: Resume = "identified",
    client: Any = None,
    progress: Progress = None,
) -> FeatureSet | dict[str, FeatureSet]:
    """Extract features of layers into a store, in one pass over the items.

    An existing store is resumed where it stopped, or opened if it is complete, when it is of the
    same extraction: the same model and weights, settings, and items. Items are the same if their
    content is: arrays, texts and image files are hashed whole, whatever the files' names and times.
    A killed run loses at most a tenth of the work or 30 seconds, or one batch where that is more.

    Parameters
    ----------
    model : str, Path, nn.Module, FeatureModel, or several
        What :func:`relspace.load_model` takes, or what it returned. Several, in
        a list or by name, see the same items in the same order.
    items : images or texts
        As for :func:`relspace.features.open_images`; for text models a list of strings, or a text
        file with one text in each line. Lines end with \\n, \\r\\n or \\r; blank ones are no items,
        and ``FeatureSet.lines`` are the numbers of the others.
    out : str or Path
        The store, by custom ending in ``.zarr``; for several models a folder for their stores.
        Either may be a URL that fsspec knows (``s3://``, ``gs://``).
    layers : "all", "last", or a sequence of int or str
        Which layers: positions, names, ``"layer_3.key"`` (also query, value, attention, mlp,
        where the architecture shows them), ``"*.key"``, or ``"output"``.
    ids : sequence of str or int, optional
        The items' ids, by which sets are matched; by default paths within the folder. Items that
        are only counted (texts, arrays) have no ids: sets of them are matched by position, and
        refused where the items differ in content.
    batch_size : int
        How many items the model sees at a time.
    device : str or torch.device
        The device of models that are given by name; ``"auto"`` is the first GPU, or the CPU.
    dtype : {"float32", "float16", "bfloat16"}
        The type that models given by name compute in.
    store_dtype : {"float16", "float32"}
        The type of stored features; values that float16 can't hold are an error.
    on_error : {"raise", "skip"}
        Whether an image that can't be read ends the extraction, or is left out and named.
    n_threads : int, optional
        How many threads decode images ahead.
    overwrite : bool
        Whether a store of another extraction is replaced.
    resume : {"identified", "trust"}
        Items that can't be identified, such as those of a loader of one's own, are another
        extraction every time, unless "trust" says that they are the same.
    client : distributed.Client, optional
        A cluster whose workers compute and write the chunks. They are sent the model and must
        reach items and store under the same paths or URLs; this process holds the store's lock.
    progress : callable or bool, optional
        Told ``(done, total, text)`` as the work goes on; True prints lines on stderr.

    Returns
    -------
    FeatureSet, or dict of FeatureSet
        The features, on disk; by name for several models. Of texts their metadata says how many
        are longer than the model takes and were cut (``n_truncated``), and which (``truncated``).

    Raises
    ------
    UnreadableImageError
        If an image can't be read, or, where such images are skipped, if none can.
    NonFiniteError
        If features are NaN, or too large for the store's type.
    OtherExtractionError
        If the store holds another extraction, or one of items that changed; it says which.
    InvalidInputError
        If an argument is out of range.
    UnknownNameError
        If a layer doesn't exist.
    """
    tell = as_listener(progress)
    check_count(batch_size, "batch_size")
    choose_device(device)
    check_choice(dtype, "dtype", DTYPES)
    check_choice(store_dtype, "store_dtype", STORE_DTYPES)
    check_choice(on_error, "on_error", ("raise", "skip"))
    check_choice(resume, "resume", RESUME)
    if n_threads is not None:
        check_count(n_threads, "n_threads")
    if not isinstance(out, str | Path) or not str(out) or "\0" in str(out):
        raise InvalidTypeError(f"out is {out!r}; it must be the folder or the URL of a store.")
    several = _several(model)
    folder = str(located(out)).rstrip("/")
    stores = [out] if several is None else [f"{folder}/{name}.zarr" for name in several]
    for store in stores:
        _check_store(store, items, overwrite=overwrite)
    identified: dict[str, IdentifiedItems] = {}

    def items_of(one: FeatureModel) -> IdentifiedItems:
        if one.modality not in identified:
            found = open_items(one.modality, items, ids)
            identified[one.modality] = identify_items(found, n_threads=n_threads, tell=tell)
        return identified[one.modality]

    def load(one: Any) -> FeatureModel:
        if isinstance(one, FeatureModel):
            return one
        tell(0, 0, f"Loading {_title_of(one)}")
        return load_model(one, device=device, dtype=dtype)

    found = []
    for store, one in zip(stores, [model] if several is None else several.values(), strict=True):
        loaded = load(one)
        features = _extract_one(
            loaded,
            partial(items_of, loaded),
            store,
            layers=layers,
            batch_size=batch_size,
            store_dtype=store_dtype,
            on_error=on_error,
            n_threads=n_threads,
            overwrite=overwrite,
            resume=resume,
            client=client,
            tell=tell,
        )
        found.append(features)
    return found[0] if several is None else dict(zip(several, found, strict=True))


def _check_store(out: str | Path, items: object, *, overwrite: bool) -> None:
    """Refuse a store that can't be written, or that would overwrite the items' files."""
    location = located(out)
    if not isinstance(location, Path):
        return
    if not location.exists():
        check_writable(location)
    elif overwrite:
        paths = [items] if isinstance(items, str | Path) else items
        for one in paths if isinstance(paths, Sequence) else ():
            if isinstance(one, str | Path) and Path(one).absolute().is_relative_to(
                location.absolute()
            ):
                raise InvalidInputError(
                    f"out is {str(out)!r}, which holds the items ({one}).",
                    ways_out=["name another store"],
                )


def _several(model: Any) -> dict[str, Any] | None:
    if isinstance(model, str | Path | FeatureModel | nn.Module):
        return None
    if isinstance(model, bytes) or not isinstance(model, Mapping | Sequence) or not model:
        raise InvalidTypeError(
            f"model is {model!r:.60}; it must be a folder, a name, a FeatureModel, or several."
        )
    if isinstance(model, Mapping):
        named = dict(model)
    else:
        titles = [_title_of(one).rstrip("/") for one in model]
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


def _title_of(model: object) -> str:
    if isinstance(model, FeatureModel):
        return model.name
    return type(model).__name__ if isinstance(model, nn.Module) else str(model)


def _extract_one(
    model: FeatureModel,
    open_identified: Callable[[], IdentifiedItems],
    out: str | Path,
    *,
    layers: Layers,
    batch_size: int,
    store_dtype: str,
    on_error: str,
    n_threads: int | None,
    overwrite: bool,
    resume: Resume,
    client: Any,
    tell: Listener,
) -> FeatureSet:
    names = model.names_of(layers)
    identified = open_identified()
    items = identified.items
    job = {
        "model": model.name,
        "layers": list(names),
        **model.settings(),
        **model.describe_truncated(map(items.load, range(len(items))), items.names),
        "weights": model.fingerprint(),
        "network": model.identity(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "store_dtype": store_dtype,
        "batch_size": batch_size,
        "on_error": on_error,
    }
    # As plain values, which workers compare with the header of the store.
    plain = job_header(KIND, FORMAT_VERSION, whole_job(job, identified))["job"]
    job = {name: plain[name] for name in job}
    source = ExtractionSource(
        model, names, items.names, items.load, batch_size, store_dtype, on_error, n_threads, plain
    )
    writer = FeatureStoreWriter.resume(
        out, items=identified, job=job, overwrite=overwrite, resume=resume, tell=tell
    )
    with ExitStack() as stack:
        missing = [slice(0, len(items))]
        if writer is not None:
            stack.enter_context(writer)
            missing = writer.missing()
        n_done = len(items) - sum(part.stop - part.start for part in missing)

        def count(n_items: int) -> None:
            nonlocal n_done
            n_done += n_items
            tell(n_done, len(items), f"Extracting features of {model.name}")

        count(0)
        computed: Iterator[Batch] = stack.enter_context(closing(source.batches(missing)))
        if writer is None:
            # Shapes, and the time of a batch, are known after the first batch.
            start = time.monotonic()
            first = next(computed)
            description = _describe(model, names, first)
            values = sum(math.prod(layer.shape) for layer in description.layers)
            writer = FeatureStoreWriter.create(
                out,
                layers=description.layers,
                regions=description.regions,
                items=identified,
                chunk_items=chunk_items(
                    len(items),
                    batch_size,
                    bytes_per_item=values * np.dtype(store_dtype).itemsize,
                    seconds_per_batch=time.monotonic() - start,
                    # One is computed and one is written, or as many as the cluster has threads.
                    at_once=2 if client is None else max(2, sum(client.nthreads().values())),
                ),
                job=job,
                overwrite=overwrite,
                tell=tell,
            )
            stack.enter_context(writer)
            computed = chain([first], computed)
        if client is None:
            _fill(writer, computed, source, count)
        else:
            _fill_on_cluster(writer, source, client, count)
        skipped = writer.skipped
    if len(skipped) == len(items):
        reason = next(iter(skipped.values()))
        raise UnreadableImageError(
            f"none of the {len(items)} images can be read; the first: {reason}"
        )
    if skipped:
        warnings.warn(
            SkippedImageWarning(
                f"{len(skipped)} of {len(items)} images can't be read and were skipped: "
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


def chunk_items(
    n_items: int, batch_size: int, *, bytes_per_item: int, seconds_per_batch: float, at_once: int
) -> int:
    """Return the number of items of a chunk.

    Chunks are whole batches, so that a resumed extraction has the same batches. A chunk has at most
    64 MiB. The chunks in progress at once, which a killed run loses, have together at most a tenth
    of the items, and take at most 30 seconds unless there would be more than 1,000 chunks.

    Examples
    --------
    >>> given = {"bytes_per_item": 1000, "at_once": 2}
    >>> chunk_items(3000, 16, seconds_per_batch=0.1, **given)
    144
    >>> chunk_items(3000, 16, seconds_per_batch=5.0, **given)
    48
    """
    in_time = int(_LOST_SECONDS / at_once / max(seconds_per_batch, 1e-9))
    n_batches = min(
        _CHUNK_BYTES // (bytes_per_item * batch_size),
        n_items // (_LOST_SHARE * at_once * batch_size),
        max(in_time, -(-n_items // (_MOST_CHUNKS * batch_size))),
    )
    return max(1, n_batches) * batch_size


def _fill(
    writer: FeatureStoreWriter,
    computed: Iterator[Batch],
    source: ExtractionSource,
    count: Callable[[int], None],
) -> None:
    """Write the chunks that are missing, each while the next is computed."""

    def write(part: slice, chunk: ExtractedChunk) -> None:
        writer.mark(part, *chunk.write())

    with write_behind(write) as put:
        for part in writer.missing():
            chunk = ExtractedChunk(writer, source.item_names, part)
            for batch in source.ranges(part):
                chunk.add(batch, *next(computed))
                count(len(batch))
            put(part, chunk)


def _fill_on_cluster(
    writer: FeatureStoreWriter, source: ExtractionSource, client: Any, count: Callable[[int], None]
) -> None:
    """Have workers write the chunks that are missing, and mark each when it is there."""
    location = writer.location
    work = partial(
        extract_chunk, path=str(location.resolve() if isinstance(location, Path) else location)
    )
    with closing(run_on_cluster(work, source, writer.missing(), client)) as done:
        for part, *written in done:
            writer.mark(part, *written)
            count(part.stop - part.start)
