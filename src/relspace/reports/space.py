"""Common spaces -> plain summaries: values beside chance, matches, and what pages draw."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_count, check_random_state, name_some
from relspace._core.limits import DEFAULT_PERMUTATIONS
from relspace._core.matrices import as_features
from relspace._core.progress import Listener, Progress, as_listener
from relspace.embedding.joint_colors import joint_colors
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, UnknownNameError
from relspace.features import FeatureSet, choose_positions
from relspace.kernels.axes import principal_plane
from relspace.kernels.landmarks import draw_distinct
from relspace.reports.page.data import Quantization, ReportModel, Value
from relspace.reports.patches import ModelPatches, report_models, require_patches
from relspace.reports.thumbnails import Thumbnails, grid_boxes, read_thumbnails, thumbnails_of
from relspace.resampling import MIN_UNITS, p_value, permutation_null
from relspace.similarity.compare import compare
from relspace.space.base import CommonSpace
from relspace.space.item_space import ItemSpace
from relspace.space.token_space import TokenSpace

_MEASURES = ("affinity", "cka", "rsa", "mutual_neighbors")
_MEASURED_ROWS = 1000
_DRAWN_ITEMS = 600
_LISTED_MATCHES = 300
_FEWEST_GROUPS = 4
#: Up to this many items are matched once more, for the p-values of matches.
_TESTED_ITEMS = 5000

Pair = tuple[str, str]


@dataclass(frozen=True)
class MatchedItems:
    """The nearest items of one set to some items of another.

    Attributes
    ----------
    items, nearest : array of shape (n,), int
        Row numbers of the items, and of the nearest item of the other set to each.
    distances : array of shape (n,)
        How far that is.
    among_themselves : bool
        Whether items were looked for among ``items`` only.
    """

    items: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.floating[Any]]
    among_themselves: bool


@dataclass(frozen=True)
class ItemPoints:
    """Some items of all sets in their principal plane, with joint colours.

    Attributes
    ----------
    items : array of shape (n,), int
        Row numbers.
    points : mapping of str to array of shape (n, 2)
        By set.
    colors : mapping of str to array of shape (n, 3), uint8
        sRGB by set.
    """

    items: NDArray[np.int64]
    points: Mapping[str, NDArray[np.float64]]
    colors: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class SpaceSummary:
    """What is found in a common space, as numbers, names and arrays.

    Attributes
    ----------
    names : tuple of str
        The sets.
    ids : tuple or None
        Ids of items or images.
    item : str
        What is shared: "item" or "image".
    numbers : dict
        What :meth:`relspace.ItemSpace.summary` gives: sets, and pairs with matches and distances.
    match_p_values : mapping of (str, str) to float
        p of the matches of each pair, by permuting which items belong together; may be empty.
    values : mapping of (str, str) to list of Value
        How alike the relative features of each pair are, by several measures.
    n_measured, n_rows : int
        How many rows the values were taken from, and of how many.
    matches : mapping of (str, str) to MatchedItems
        Of a space of items.
    points : ItemPoints, optional
        Of a space of items.
    pictures : Thumbnails
        Pictures of the drawn items, or of the first images.
    models : tuple of ReportModel
        Of a space of tokens: patches of the first images.
    quantization : Quantization, optional
        Of the patches.
    parameters : dict
        What all of it depends on.
    """

    names: tuple[str, ...]
    ids: tuple[Any, ...] | None
    item: str
    numbers: Mapping[str, Any]
    match_p_values: Mapping[Pair, float]
    values: Mapping[Pair, list[Value]]
    n_measured: int
    n_rows: int
    matches: Mapping[Pair, MatchedItems]
    points: ItemPoints | None
    pictures: Thumbnails
    models: tuple[ReportModel, ...]
    quantization: Quantization | None
    parameters: Mapping[str, Any]


def summarize_space(
    space: CommonSpace,
    *,
    images: object = None,
    features: Mapping[str, FeatureSet] | None = None,
    n_images: int = 16,
    n_permutations: int = DEFAULT_PERMUTATIONS,
    random_state: int = 0,
    progress: Progress = None,
) -> SpaceSummary:
    """Compute what the report of a common space holds; see :func:`relspace.report`."""
    if not isinstance(space, ItemSpace | TokenSpace):
        raise InvalidTypeError(
            f"space is of type {type(space).__name__}; it must be a space from relspace.align."
        )
    tell, seed = as_listener(progress), check_random_state(random_state)
    check_count(n_images, "n_images")
    parts: dict[str, Any]
    if isinstance(space, TokenSpace):
        parts = _of_tokens(space, images, features, n_images, seed, tell)
        rows, groups = _rows_at_positions(space, seed)
        n_rows = len(groups)
    else:
        if features is not None:
            raise InvalidInputError(
                "features are for the colours of tokens on grids before alignment, and the items "
                "of this space have no grid: leave features out."
            )
        parts = _of_items(space, images, n_permutations, seed, tell)
        items = draw_distinct(space.n_items, _MEASURED_ROWS, _generator(seed))
        rows, groups, n_rows = _rows_of(space, items), None, space.n_items
    numbers = space.summary()
    return SpaceSummary(
        names=space.names,
        ids=space.ids,
        item=numbers["item"],
        numbers=numbers,
        values=_values(rows, groups, n_permutations, seed, tell),
        n_measured=len(next(iter(rows.values()))),
        n_rows=n_rows,
        parameters={
            **space.parameters,
            "landmarks": numbers["n_landmarks"],
            "permutations": n_permutations,
            "report random_state": seed,
        },
        **parts,
    )


def _of_items(
    space: ItemSpace, images: object, n_permutations: int, seed: int, tell: Listener
) -> dict[str, Any]:
    tell(0, 0, "Colouring items")
    items = draw_distinct(space.n_items, _DRAWN_ITEMS, _generator(seed))
    rows = _rows_of(space, items)
    colors = joint_colors(rows, random_state=seed)
    pictures = Thumbnails()
    if images is not None:
        pictures = read_thumbnails(images, space.ids, space.n_items, items.tolist(), side=96)
    return {
        "match_p_values": _match_p_values(space, n_permutations, seed, tell),
        "matches": _matches(space, seed),
        "points": ItemPoints(
            items.numpy(),
            principal_plane(rows),
            {name: np.round(255 * one).astype(np.uint8) for name, one in colors.items()},
        ),
        "pictures": pictures,
        "models": (),
        "quantization": None,
    }


def _of_tokens(
    space: TokenSpace,
    images: object,
    features: Mapping[str, FeatureSet] | None,
    n_images: int,
    seed: int,
    tell: Listener,
) -> dict[str, Any]:
    n_shown = min(n_images, space.n_images)
    unknown = [name for name in features or {} if name not in space.names]
    if unknown:
        raise UnknownNameError(
            f"features are given of {name_some(unknown)}; the space holds {name_some(space.names)}."
        )
    grids = {name: space.grid(name) for name in space.names}
    require_patches(
        {
            name: (n_shown * grid.tokens_per_image, space.rows(name).shape[1])
            for name, grid in grids.items()
        },
        n_shown,
    )
    pictures = thumbnails_of(images, space.ids, grids[space.names[0]], n_shown)
    patches = {}
    for name in space.names:
        layer, grid = space.parameters.get("layers", {}).get(name, "features"), grids[name]
        tokens = _centered(space.rows(name).read(0, n_shown * grid.tokens_per_image))
        given = None if features is None else features.get(name)
        patches[name] = ModelPatches(
            {layer: torch.nn.functional.normalize(tokens, dim=1)},
            (grid.rows, grid.columns),
            None if given is None else {layer: _before(space, name, given, n_shown)},
            grid_boxes(grid, n_shown),
        )
    tell(0, 0, "Colouring patches")
    models, quantization = report_models(patches, random_state=seed)
    return {
        "match_p_values": {},
        "matches": {},
        "points": None,
        "pictures": pictures,
        "models": models,
        "quantization": quantization,
    }


def _before(space: TokenSpace, name: str, features: FeatureSet, n_images: int) -> torch.Tensor:
    """The tokens of a set's first images before alignment."""
    layer = features[space.parameters.get("layers", {}).get(name, features.layers[-1])]
    shape = (space.grid(name).rows, space.grid(name).columns)
    if layer.grid is None or (layer.grid.rows, layer.grid.columns) != shape:
        raise ItemMismatchError(
            f"features of {name} are {layer!r}; the space has a grid of {shape[0]} x {shape[1]}: "
            "give the features that were aligned."
        )
    if space.ids is None and len(features) != space.n_images:
        raise ItemMismatchError(
            f"features of {name} have {len(features)} images and the space has {space.n_images}, "
            "without ids by which they could be found: give the features that were aligned."
        )
    chosen = slice(0, n_images) if space.ids is None else list(map(str, space.ids[:n_images]))
    tokens = features.tokens(layer=layer.name, images=chosen)
    return as_features(tokens, f"features of {name}").tensor


def _rows_at_positions(
    space: TokenSpace, seed: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Rows of every set at the same positions, as many in each image, and the positions' images."""
    grids = {name: space.grid(name) for name in space.names}
    per_image = max(1, _MEASURED_ROWS // space.n_images)
    positions = choose_positions(grids, per_image * space.n_images, random_state=seed)
    rows = {name: _centered(space.read_positions(name, positions)) for name in space.names}
    return rows, positions.images


def _rows_of(space: ItemSpace, items: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: _centered(space.rows(name).read_at(items)) for name in space.names}


def _centered(rows: torch.Tensor) -> torch.Tensor:
    """Rows of mean 0 whether the space is standardised or not."""
    rows = rows.detach().cpu()
    return rows - rows.mean(dim=1, keepdim=True)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _values(
    rows: Mapping[str, torch.Tensor],
    groups: torch.Tensor | None,
    n_permutations: int,
    seed: int,
    tell: Listener,
) -> dict[Pair, list[Value]]:
    """How alike the sets' relative features are, pair by pair, by several measures."""
    if groups is not None and len(torch.unique(groups)) < _FEWEST_GROUPS:
        groups, n_permutations = None, 0
    options: dict[str, Any] = {"n_permutations": n_permutations, "random_state": seed}
    values: dict[Pair, list[Value]] = {}
    pairs = list(itertools.combinations(rows, 2))
    for number, (a, b) in enumerate(pairs):
        values[a, b] = []
        for at, measure in enumerate(_MEASURES):
            n_done = number * len(_MEASURES) + at
            tell(n_done, len(pairs) * len(_MEASURES), "Comparing relative features")
            found = compare(rows[a], rows[b], measure=measure, groups=groups, **options)
            # What compare() gives under the measure's own name is of the features themselves.
            title = f"{found.measure.title} of relative features"
            calibrated = found.calibrated if found.is_calibrated else None
            values[a, b].append(Value(title, found.value, found.chance, found.p_value, calibrated))
    return values


def _match_p_values(
    space: ItemSpace, n_permutations: int, seed: int, tell: Listener
) -> dict[Pair, float]:
    """The p-value of the number of matches, if the pairing of items were random."""
    n = space.n_items
    if not n_permutations or not MIN_UNITS <= n <= _TESTED_ITEMS:
        return {}
    own, found = torch.arange(n), {}
    pairs = list(itertools.permutations(space.names, 2))
    for number, (a, b) in enumerate(pairs):
        tell(number, len(pairs), "Testing matches")
        nearest = torch.as_tensor(space.match(a, b).indices)[:, 0].cpu()

        def accuracy(paired: torch.Tensor, nearest: torch.Tensor = nearest) -> float:
            return float((paired[nearest] == own).double().mean())

        null = permutation_null(accuracy, n, n_permutations, random_state=seed)
        found[a, b] = p_value(accuracy(own), null)
    return found


def _matches(space: ItemSpace, seed: int) -> dict[Pair, MatchedItems]:
    listed = draw_distinct(space.n_items, _LISTED_MATCHES, _generator(seed))
    among_themselves = space.n_items > _TESTED_ITEMS
    rows = torch.arange(len(listed)) if among_themselves else listed
    found = {}
    for a, b in itertools.permutations(space.names, 2):
        match = space.match(a, b, items=listed if among_themselves else None)
        nearest, distances = (
            torch.as_tensor(one).cpu()[rows, 0].numpy() for one in (match.indices, match.distances)
        )
        found[a, b] = MatchedItems(listed.numpy(), nearest, distances, among_themselves)
    return found
