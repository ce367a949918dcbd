"""Ways to a common space: alignment of several feature sets, and spaces that were saved."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch

from relspace._core.archive import read_archive
from relspace._core.arrays import bytes_in_floats
from relspace._core.memory import memory_budget_bytes, row_slices
from relspace._core.pairing import is_by_position, pair_sets, refuse_another_order
from relspace._core.validation import (
    Features,
    ItemId,
    as_features,
    as_ids,
    as_item_indices,
    check_count,
    check_random_state,
    feature_names,
    name_some,
    own_ids,
    refuse_non_finite,
    without_labels,
)
from relspace.errors import (
    BandwidthError,
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    NonFiniteError,
)
from relspace.features import FeatureSet, Places, TokenGrid
from relspace.features.row_files import is_read_in_blocks, open_rows
from relspace.kernels.landmarks import choose_landmarks
from relspace.kernels.relative import NO_LANDMARK
from relspace.rows.source import ArrayRows, RowSource, reading
from relspace.space.align_tokens import (
    TOKEN_DENSITY,
    TOKEN_NORMALIZATION,
    TOKEN_STANDARDIZATION,
    align_tokens,
    chosen_layers,
    fits_to_hold,
)
from relspace.space.aligned_set import AlignedSet, MadeRows
from relspace.space.aligner import (
    DEFAULT_NORMALIZATION,
    DEFAULT_STANDARDIZATION,
    LANDMARK_DENSITY,
    Aligner,
)
from relspace.space.base import FORMAT_VERSION, restored_sets
from relspace.space.item_space import ITEM_SPACE, ItemSpace
from relspace.space.token_space import TOKEN_SPACE, TokenSpace

#: Sets of up to this many items are described by all of them, larger ones by as many at random.
DEFAULT_LANDMARKS = 1024


@overload
def align(
    sets: Mapping[str, FeatureSet],
    *,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = ...,
    density: float | None = ...,
    normalize: str | None = ...,
    standardize: str | None = ...,
    random_state: int = 0,
    memory_budget: int | None = None,
) -> ItemSpace | TokenSpace: ...
@overload
def align(
    sets: Mapping[str, Any],
    *,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = ...,
    density: float | None = ...,
    normalize: str | None = ...,
    standardize: str | None = ...,
    random_state: int = 0,
    memory_budget: int | None = None,
) -> ItemSpace: ...
def align(
    sets: Mapping[str, object],
    *,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = DEFAULT_LANDMARKS,
    density: float | None = None,
    normalize: str | None = None,
    standardize: str | None = None,
    random_state: int = 0,
    memory_budget: int | None = None,
) -> ItemSpace | TokenSpace:
    """Bring feature sets of the same items into one common space.

    Every set describes its tokens by their affinities to the same landmarks, with its own features
    and its own bandwidth (:class:`relspace.Aligner`). Rows of different models then have the same
    columns, and a distance between them means something.

    Parameters
    ----------
    sets : mapping of str to array-like of shape (n, d), to FeatureSet, or to a source of rows
        Feature sets by name; widths may differ, items may not. Paths, memory maps, Dask arrays and
        lists of shards are read in blocks (:func:`relspace.features.open_rows`). Of a
        :class:`FeatureSet` one layer counts; where its tokens lie on grids, each set keeps its own
        tokens, and landmarks are places in the images.
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids, strings or whole numbers: one list per set, by which sets are matched and
        reordered to the first, or one list for all. Feature sets bring the ids of their images, and
        tables the labels of their rows: the index of a pandas frame, coordinates of xarray, names
        of AnnData, a column called "id"; numbers that count rows are none. By default sets without
        ids are matched by position and must be equally long; where only some
        have ids, ``"position"`` must say that rows are matched so.
    layer : str, or mapping of str to str, optional
        For feature sets: which layer, of all or of each. By default their last.
    landmarks : int, sequence of int, or Places
        How many items are landmarks (all, where there are no more; else a seeded random choice),
        or which, as rows of the first set. For tokens on grids: how many places, or which.
    density : float, optional
        Mean affinity between distinct landmarks, for which each set's bandwidth is solved. By
        default 0.2 for items and 0.05 for tokens on grids.
    normalize : str, optional
        What is done to tokens before, see :class:`relspace.Aligner`. By default "half-whiten+unit"
        for items, which sets one item apart from all others, and "center+unit" for tokens on
        grids, which keeps what most tokens differ by.
    standardize : str, optional
        What is done to landmark columns, see :class:`relspace.Aligner`: "whiten", the default for
        items, "half-whiten", the default for tokens on grids, "columns" or "none". Columns of
        tokens on grids are decorrelated where these are compared, once the landmarks in their own
        image are left out; their rows are as for "columns".
    random_state : int
        Seed of the choice of landmarks.
    memory_budget : int, optional
        Bytes up to which the relative features of all sets are held, by default half of the free
        memory. Larger ones are made as they are read, a few items or images at a time, from the
        features where they lie: by distances, matches of some items, embeddings, and
        :meth:`relspace.CommonSpace.rows`.

    Returns
    -------
    ItemSpace or TokenSpace
        Relative features by name, with distances, matching, and ways in for new items; the second
        where tokens of feature sets lie on grids.

    Raises
    ------
    ItemMismatchError
        If the sets don't hold the same items.
    BandwidthError
        If the landmarks' features of a set can't have the density.
    InvalidInputError
        If features are not finite matrices, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np, relspace
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 16))
    >>> rotation, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    >>> space = relspace.align({"here": X, "there": 5 * X @ rotation + 3})
    >>> float(space.distances("here", "there").max()) < 1e-6
    True
    >>> space.match("here", "there")
    Match(top-1 accuracy 1.000, chance 0.005, 200 items)
    """
    seed = check_random_state(random_state)
    _check_names(sets)
    to_hold = None if memory_budget is None else memory_budget_bytes(memory_budget)
    columns = {name: feature_names(one) for name, one in sets.items()}
    carried = {name: partial(own_ids, one, name) for name, one in sets.items()}
    if ids is not None:
        # The caller says what belongs together.
        sets = {name: without_labels(one, name) for name, one in sets.items()}
    by_layer = chosen_layers({k: fs for k, fs in sets.items() if isinstance(fs, FeatureSet)}, layer)
    if layer is not None and not by_layer:
        raise InvalidInputError(
            f"layer is {layer!r} and no set is a FeatureSet; arrays have no layers: leave it out."
        )
    brought = {name: fs.ids for name, fs in by_layer.items() if fs.ids is not None}
    contents = {name: getattr(one, "contents", None) for name, one in sets.items()}
    if ids is not None:
        # The caller says what belongs together.
        contents = dict.fromkeys(sets)
    if is_by_position(ids):
        ids = dict.fromkeys(sets)
    on_grids = [name for name, fs in by_layer.items() if fs.grid is not None]
    if on_grids:
        if len(on_grids) < len(sets):
            raise InvalidTypeError(
                f"tokens of {name_some(on_grids)} lie on grids, and other sets have one row for "
                'each item: give feature sets for all, or pool these: fs.pool("mean").'
            )
        return align_tokens(
            by_layer,
            ids=_ids_of_sets(
                sets,
                brought if ids is None else ids,
                {name: len(fs) for name, fs in by_layer.items()},
            ),
            contents=contents,
            landmarks=landmarks,
            density=TOKEN_DENSITY if density is None else density,
            normalize=TOKEN_NORMALIZATION if normalize is None else normalize,
            standardize=TOKEN_STANDARDIZATION if standardize is None else standardize,
            random_state=seed,
            memory_budget=to_hold,
        )
    sets = {**sets, **{name: fs[fs.layers[0]] for name, fs in by_layer.items()}}
    given = {name: _opened(one, name) for name, one in sets.items()}
    sizes = {name: _matrix(one).shape[0] for name, one in given.items()}
    if ids is None:
        found = {
            name: own_ids(given[name] if isinstance(given[name], RowSource) else one, name)
            for name, one in sets.items()
        }
        brought |= {name: own for name, own in found.items() if own is not None}
    columns |= {k: feature_names(one) for k, one in given.items() if isinstance(one, RowSource)}
    checked = _ids_of_sets(sets, brought if ids is None else ids, sizes)
    if ids is not None:
        for name in sets:
            refuse_another_order(name, checked[name], carried[name])
    shared, order = pair_sets(sizes, checked, contents)
    n = next(iter(sizes.values()))
    if isinstance(landmarks, numbers.Real):
        wanted = check_count(landmarks, "landmarks", at_least=3)
        chosen = choose_landmarks(n, wanted, random_state=seed)
    elif landmarks is None or isinstance(landmarks, str | Places):
        raise InvalidTypeError(
            f"landmarks is of type {type(landmarks).__name__}; for sets of one row for each item "
            "it must be how many items are landmarks, or their row numbers."
        )
    else:
        chosen = as_item_indices(landmarks, "landmarks", n)
    if len(chosen) < 3:
        raise InvalidInputError(
            f"there are {len(chosen)} landmarks; a bandwidth is solved on at least 3."
        )
    density = LANDMARK_DENSITY if density is None else density
    normalize = DEFAULT_NORMALIZATION if normalize is None else normalize
    standardize = DEFAULT_STANDARDIZATION if standardize is None else standardize
    own = torch.full((n,), NO_LANDMARK)
    own[chosen] = torch.arange(len(chosen))

    n_bytes = sum(n * len(chosen) * _item_bytes(one) for one in given.values())
    held = fits_to_hold(n_bytes, to_hold)
    aligned = {}
    for name, one in given.items():
        rows = order[name]
        aligner = Aligner(density=density, normalize=normalize, standardize=standardize)
        try:
            aligner.fit(_some_rows(one, chosen if rows is None else rows[chosen]))
            aligner.feature_names_in_ = columns[name]
            relative: torch.Tensor | RowSource
            if held:
                relative = _relative_rows(aligner, one, rows, own)
            else:
                matrix = _matrix(one)
                source = ArrayRows(matrix) if isinstance(matrix, torch.Tensor) else matrix
                relative = MadeRows(source, aligner, own, rows)
        except BandwidthError as error:
            raise error.about(f"landmarks of {name}") from error
        except NonFiniteError:
            _refuse_non_finite_rows(_matrix(one), name)
            raise
        is_array = one.is_array if isinstance(one, Features) else hasattr(sets[name], "__array__")
        dtype = one.dtype if one.dtype.is_floating_point else relative.dtype
        aligned[name] = AlignedSet(aligner, relative, is_array, dtype)
    parameters: dict[str, Any] = {
        "density": density,
        "normalize": normalize,
        "standardize": standardize,
        "random_state": seed,
    }
    if by_layer:
        parameters["layers"] = {name: fs.layers[0] for name, fs in by_layer.items()}
    return ItemSpace(aligned, ids=shared, landmarks=chosen, parameters=parameters)


def _opened(features: object, name: str) -> Features | RowSource:
    return open_rows(features) if is_read_in_blocks(features) else as_features(features, name)


def _matrix(features: Features | RowSource) -> torch.Tensor | RowSource:
    return features.tensor if isinstance(features, Features) else features


def _item_bytes(features: Features | RowSource) -> int:
    return bytes_in_floats(_matrix(features).dtype)


def _refuse_non_finite_rows(features: torch.Tensor | RowSource, name: str) -> None:
    """Name the set and its rows where an error could only name those of a part."""
    if isinstance(features, RowSource):
        row_bytes = features.shape[1] * features.dtype.itemsize
        for rows in row_slices(features.shape[0], row_bytes, memory_budget_bytes()):
            refuse_non_finite(features.read(rows.start, rows.stop), name, first_row=rows.start)


def _some_rows(features: Features | RowSource, rows: torch.Tensor) -> torch.Tensor:
    if isinstance(features, Features):
        return features.tensor.detach()[rows]
    return features.read_at(rows)


def _relative_rows(
    aligner: Aligner,
    features: Features | RowSource,
    order: torch.Tensor | None,
    own: torch.Tensor,
) -> torch.Tensor:
    """Relative features in the order of the first set."""
    if isinstance(features, Features):
        tensor = features.tensor.detach()
        tensor = tensor if order is None else tensor[order]
        return aligner.relative_rows(tensor, own)
    if order is None:
        return aligner.collect(features, own)
    # Rows on a disk are read in the order in which they lie there.
    mine = torch.empty_like(own)
    mine[order] = own
    return aligner.collect(features, mine)[order]


def _check_names(sets: Mapping[str, object]) -> None:
    if not isinstance(sets, Mapping):
        raise InvalidTypeError(
            f"sets is of type {type(sets).__name__}; it must be a mapping of names to features, "
            'such as {"sam": X, "dino": Y}.'
        )
    if not sets:
        raise InvalidInputError("sets is empty; give at least one feature set.")
    odd = [name for name in sets if not isinstance(name, str) or not name]
    if odd:
        raise InvalidTypeError(f"sets has names {name_some(odd)}; names must be strings.")


def _ids_of_sets(
    sets: Mapping[str, object],
    ids: Mapping[str, object] | Sequence[ItemId] | None,
    sizes: Mapping[str, int],
) -> dict[str, tuple[ItemId, ...] | None]:
    if ids is None:
        return dict.fromkeys(sets)
    if not isinstance(ids, Mapping):
        ids = dict.fromkeys(sets, ids)
    unknown = [name for name in ids if name not in sets]
    if unknown:
        raise InvalidInputError(
            f"ids names {name_some(unknown)}; the sets are {name_some(list(sets))}."
        )
    checked: dict[str, tuple[ItemId, ...] | None] = dict.fromkeys(sets)
    for name, own in ids.items():
        checked[name] = None if own is None else as_ids(own, name, sizes[name])
    return checked


def load_space(path: str | Path) -> ItemSpace | TokenSpace:
    """Read a space that its ``save`` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    ItemSpace or TokenSpace
        The same space, to the bit, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is damaged, holds something else, or comes from a later version.

    Examples
    --------
    >>> import tempfile, torch, relspace
    >>> X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = relspace.align({"a": X, "b": -X}).save(folder + "/space.safetensors")
    ...     relspace.load_space(file)
    ItemSpace('a', 'b': 20 items matched by position, 20 landmarks)
    """
    # Of a column that doesn't vary the deviation is infinite, so that it counts for nothing.
    tensors, metadata = read_archive(
        path, ITEM_SPACE, TOKEN_SPACE, may_be_infinite=("profile_deviation",)
    )
    with reading(path, "a saved space"):
        if check_count(metadata["format_version"], "format_version") > FORMAT_VERSION:
            raise FileFormatError(
                f"{path} has format version {metadata['format_version']}; this relspace reads up "
                f"to {FORMAT_VERSION}: install a newer one."
            )
        parameters = metadata["parameters"]
        if not isinstance(parameters, dict) or not isinstance(parameters.get("layers", {}), dict):
            raise FileFormatError("its parameters, or the layers among them, are no JSON object.")
        if metadata["kind"] == ITEM_SPACE:
            return _restored_items(tensors, metadata)
        return _restored_tokens(tensors, metadata)


def _restored_items(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> ItemSpace:
    """The space of items that gave a file's tensors and metadata."""
    sets = restored_sets(tensors, metadata["sets"])
    counts = {name: int(one.rows.shape[0]) for name, one in sets.items()}
    n_items = next(iter(counts.values()))
    if set(counts.values()) != {n_items}:
        raise FileFormatError(f"its sets have different numbers of items: {counts}.")
    landmarks = tensors["landmarks"]
    if len(landmarks) != next(iter(sets.values())).aligner.n_landmarks:
        raise FileFormatError(f"it lists {len(landmarks)} landmarks, and its sets have others.")
    landmarks = as_item_indices(landmarks, "landmarks", n_items)
    ids = _restored_ids(metadata["ids"], n_items)
    return ItemSpace(sets, ids=ids, landmarks=landmarks, parameters=metadata["parameters"])


def _restored_tokens(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
) -> TokenSpace:
    """The space of tokens on grids that gave a file's tensors and metadata."""
    records, parameters = metadata["sets"], metadata["parameters"]
    sets = restored_sets(tensors, records)
    grids = {
        record["name"]: TokenGrid(
            record["rows"],
            record["columns"],
            tensors[f"{number}.boxes"],
            tensors[f"{number}.image_sizes"],
        )
        for number, record in enumerate(records)
    }
    n_images = next(iter(grids.values())).n_images
    is_mixed = parameters.get("standardize") in ("whiten", "half-whiten")
    for name, grid in grids.items():
        n_tokens, found = grid.n_images * grid.tokens_per_image, int(sets[name].rows.shape[0])
        if grid.n_images != n_images or n_tokens != found:
            raise FileFormatError(
                f"set {name!r} has {found} tokens, and its grid {n_tokens} on {grid.n_images} "
                f"images; the space has {n_images}."
            )
        if is_mixed and sets[name].aligner.standardize == "columns" and sets[name].mixing is None:
            raise FileFormatError(f"the tensor 'mixing' of set {name!r} is missing.")
    places = Places(*(tensors[f"places.{part}"] for part in ("images", "y", "x")))
    if len(places) != next(iter(sets.values())).aligner.n_landmarks:
        raise FileFormatError(f"it lists {len(places)} places, and its sets have other landmarks.")
    as_item_indices(torch.unique(places.images), "places.images", n_images)
    ids = _restored_ids(metadata["ids"], n_images)
    return TokenSpace(sets, grids=grids, ids=ids, places=places, parameters=parameters)


def _restored_ids(ids: object, n_items: int) -> tuple[ItemId, ...] | None:
    return None if ids is None else as_ids(ids, "the space", n_items)
