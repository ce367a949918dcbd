"""Alignment of feature sets to a common space, and loading of saved spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal, cast, overload

from relspace._core.archive import archive_kind
from relspace._core.arguments import check_choice, check_random_state, name_some
from relspace._core.items import ItemId, as_ids, own_ids
from relspace._core.labelled_tables import feature_names, without_labels
from relspace._core.pairing import INTERSECT, is_by_position, refuse_another_order
from relspace._core.progress import Progress, as_listener
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import FeatureSet, contents_of, is_held
from relspace.rows.fitted import open_set
from relspace.rows.saved import load_saved
from relspace.space.align_items import align_items
from relspace.space.align_tokens import align_tokens
from relspace.space.defaults import DEFAULT_LANDMARKS, ITEMS, TOKENS
from relspace.space.item_space import ItemSpace
from relspace.space.token_space import TokenSpace


@overload
def align(
    sets: Mapping[str, FeatureSet],
    *,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = ...,
    on_missing: Literal["raise", "intersect"] = ...,
    density: float | None = ...,
    normalize: str | None = ...,
    standardize: str | None = ...,
    random_state: int = 0,
    memory_budget: int | None = None,
    progress: Progress = None,
) -> ItemSpace | TokenSpace: ...
@overload
def align(
    sets: Any,
    *others: Any,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = ...,
    on_missing: Literal["raise", "intersect"] = ...,
    density: float | None = ...,
    normalize: str | None = ...,
    standardize: str | None = ...,
    random_state: int = 0,
    memory_budget: int | None = None,
    progress: Progress = ...,
) -> ItemSpace: ...
def align(
    sets: object,
    *others: object,
    ids: Mapping[str, object] | Sequence[ItemId] | str | None = None,
    layer: str | Mapping[str, str] | None = None,
    landmarks: int | object = DEFAULT_LANDMARKS,
    on_missing: Literal["raise", "intersect"] = "raise",
    density: float | None = None,
    normalize: str | None = None,
    standardize: str | None = None,
    random_state: int = 0,
    memory_budget: int | None = None,
    progress: Progress = None,
) -> ItemSpace | TokenSpace:
    """Bring feature sets of the same items into one common space.

    Every set describes its tokens by their affinities to the same landmarks, with its own features
    and its own bandwidth (:class:`relspace.Aligner`). Rows of different models then have the same
    columns, and a distance between them means something.

    Parameters
    ----------
    sets : mapping of str to array-like of shape (n, d), to FeatureSet, or to a source of rows
        Feature sets by name; widths may differ, items may not. Paths, memory maps, Dask arrays and
        lists of shards are read in blocks (:func:`relspace.features.scan`). Of a
        :class:`FeatureSet` one layer counts; where its tokens lie on grids, each set keeps its own
        tokens, and landmarks are positions in the images.
    *others : as the values of ``sets``
        ``align(X, Y)`` is short for ``align({"a": X, "b": Y})``.
    ids : mapping of str to sequence, one sequence, or "position", optional
        The items' ids, strings or whole numbers: one list per set, by which sets are matched and
        reordered to the first, or one list for all. Feature sets bring the ids of their images, and
        tables the labels of their rows: the index of a pandas frame, coordinates of xarray, names
        of AnnData, a column called "id"; numbers that count rows are none. By default sets without
        ids are matched by position and must be equally long; where only some
        have ids, ``"position"`` must say that rows are matched so.
    layer : str, or mapping of str to str, optional
        For feature sets: which layer, of all or of each. By default their last.
    landmarks : int, sequence of int, or Positions
        How many items are landmarks (all, where there are no more; else a seeded random choice),
        or which, as rows of the first set or by ids that are text. For tokens on grids: how many
        positions, or which.
    on_missing : "raise" or "intersect"
        What is done where the ids of the sets differ: they are refused, or the items that all sets
        hold are kept, in the order of the first. ``space.parameters["n_given"]`` and the text of
        the space then say of how many. Other items are brought in by :meth:`ItemSpace.transform`.
    density : float, optional
        Mean affinity between distinct landmarks, for which each set's bandwidth is solved. By
        default 0.2.
    normalize : str, optional
        The normalisation of tokens, see :class:`relspace.Aligner`. By default
        "quarter-whiten+unit".
    standardize : str, optional
        The standardisation of columns, see :class:`relspace.Aligner`: "whiten", the default for
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
    progress : callable or bool, optional
        Told ``(done, total, text)`` as the work goes on; True prints lines on stderr.

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
    tell, seed = as_listener(progress), check_random_state(random_state)
    check_choice(on_missing, "on_missing", ("raise", INTERSECT))
    sets = _named(sets, others)
    to_hold = Resources.of(memory_budget).memory
    columns = {name: feature_names(one) for name, one in sets.items()}
    carried = {name: partial(own_ids, one, name) for name, one in sets.items()}
    contents = {name: contents_of(one) for name, one in sets.items()}
    if ids is not None:
        # The caller says what belongs together.
        sets = {name: without_labels(one, name) for name, one in sets.items()}
        contents = dict.fromkeys(sets)
    by_layer = _chosen_layers(
        {name: fs for name, fs in sets.items() if isinstance(fs, FeatureSet)}, layer
    )
    brought = {name: fs.ids for name, fs in by_layer.items() if fs.ids is not None}
    if is_by_position(ids):
        ids = dict.fromkeys(sets)
    on_grids = [name for name, fs in by_layer.items() if fs.grid is not None]
    if on_grids:
        if len(on_grids) < len(sets):
            raise InvalidTypeError(
                f"tokens of {name_some(on_grids)} lie on grids, and other sets have one row for "
                'each item: give feature sets for all, or pool these: fs.pool("mean").'
            )
        sizes = {name: len(fs) for name, fs in by_layer.items()}
        return align_tokens(
            by_layer,
            ids=_ids_of_sets(sets, brought if ids is None else ids, sizes),
            contents=contents,
            landmarks=landmarks,
            on_missing=on_missing,
            settings=TOKENS.changed(density, normalize, standardize),
            random_state=seed,
            memory_budget=to_hold,
            tell=tell,
        )
    sets = {**sets, **{name: fs[fs.layers[0]] for name, fs in by_layer.items()}}
    opened = {name: open_set(one, name) for name, one in sets.items()}
    read = {name: one.rows for name, one in opened.items() if not is_held(sets[name])}
    columns |= {name: feature_names(rows) for name, rows in read.items()}
    if ids is None:
        found = {name: own_ids(read.get(name, one), name) for name, one in sets.items()}
        brought |= {name: own for name, own in found.items() if own is not None}
    sizes = {name: one.rows.shape[0] for name, one in opened.items()}
    checked = _ids_of_sets(sets, brought if ids is None else ids, sizes)
    if ids is not None:
        for name in sets:
            refuse_another_order(name, checked[name], carried[name])
    layers = {name: fs.layers[0] for name, fs in by_layer.items()}
    return align_items(
        opened,
        ids=checked,
        contents=contents,
        columns=columns,
        landmarks=landmarks,
        on_missing=on_missing,
        settings=ITEMS.changed(density, normalize, standardize),
        parameters={"layers": layers} if layers else {},
        random_state=seed,
        memory_budget=to_hold,
        tell=tell,
    )


def _chosen_layers(
    sets: Mapping[str, FeatureSet], layer: str | Mapping[str, str] | None
) -> dict[str, FeatureSet]:
    """Leave one layer in each feature set: the one named, by default the last."""
    if layer is not None and not sets:
        raise InvalidInputError(
            f"layer is {layer!r} and no set is a FeatureSet; arrays have no layers: leave it out."
        )
    if not isinstance(layer, Mapping):
        layer = {} if layer is None else dict.fromkeys(sets, layer)
    unknown = [name for name in layer if name not in sets]
    if unknown:
        raise InvalidInputError(
            f"layer names {name_some(unknown)}; the feature sets are {name_some(list(sets))}."
        )
    return {name: fs.select(layers=layer.get(name, fs.layers[-1])) for name, fs in sets.items()}


def _named(sets: object, others: Sequence[object]) -> Mapping[str, object]:
    """Check the names of sets, or name those that are given one by one "a", "b" and so on."""
    if others:
        if isinstance(sets, Mapping):
            raise InvalidTypeError(
                "sets is a mapping of names to features, and more is given beside it; give all "
                'sets in one mapping, {"sam": X, "dino": Y}, or all without names, align(X, Y).'
            )
        if len(others) >= len(ascii_lowercase):
            raise InvalidInputError(
                f"{len(others) + 1} sets are given without names; name more than "
                f'{len(ascii_lowercase)} by a mapping, such as {{"sam": X, "dino": Y}}.'
            )
        return dict(zip(ascii_lowercase, (sets, *others), strict=False))
    if not isinstance(sets, Mapping):
        raise InvalidTypeError(
            f"sets is of type {type(sets).__name__}; it must be a mapping of names to features, "
            'such as {"sam": X, "dino": Y}, or two sets or more: align(X, Y).'
        )
    if not sets:
        raise InvalidInputError("sets is empty; give at least one feature set.")
    odd = [name for name in sets if not isinstance(name, str) or not name]
    if odd:
        raise InvalidTypeError(f"sets has names {name_some(odd)}; names must be strings.")
    return sets


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


def is_saved_space(path: str | Path) -> bool:
    """Whether a file says that it holds a space; what it holds is not checked."""
    return archive_kind(path) in (ItemSpace._kind, TokenSpace._kind)


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
    kinds: tuple[type[Any], ...] = (ItemSpace, TokenSpace)
    return cast("ItemSpace | TokenSpace", load_saved(path, *kinds))
