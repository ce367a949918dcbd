"""Common spaces -> what their reports hold: explorer or scatter, values with chance, matches."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from relspace import __version__
from relspace._core.validation import as_features, check_count, check_random_state, name_some
from relspace.embedding.joint_colors import joint_colors
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    UnknownNameError,
)
from relspace.features import FeatureSet, choose_places
from relspace.kernels.axes import principal_plane
from relspace.kernels.correlation import Match
from relspace.kernels.landmarks import draw_distinct
from relspace.reports.page.data import (
    ReportData,
    Scatter,
    Value,
    value_table,
)
from relspace.reports.page.layers import ModelPatches, report_models
from relspace.reports.page.sections import KeyNumber, Table
from relspace.reports.thumbnails import (
    grid_boxes,
    read_thumbnails,
    said_of_images,
    thumbnails_of,
)
from relspace.resampling import MIN_UNITS, p_value, permutation_null
from relspace.similarity.compare import compare
from relspace.space.base import CommonSpace
from relspace.space.item_space import ItemSpace
from relspace.space.token_space import TokenSpace

#: How many images of a space a page explores, unless told otherwise.
N_IMAGES = 16
_MEASURES = ("affinity", "cka", "rsa", "mutual_neighbors")
_MEASURED_ROWS = 1000
_DRAWN_ITEMS = 600
_LISTED_MATCHES = 300
_FEWEST_GROUPS = 4
#: Up to so many items are matched once more, for the p-values of matches.
_TESTED_ITEMS = 5000


def space_report(
    space: CommonSpace,
    *,
    images: object = None,
    features: Mapping[str, FeatureSet] | None = None,
    title: str | None = None,
    n_images: int = N_IMAGES,
    n_permutations: int = 199,
    random_state: int = 0,
) -> ReportData:
    """Gather what the report of a common space holds; see :func:`relspace.report`.

    Returns
    -------
    ReportData
        For :func:`relspace.reports.page.render_report`.
    """
    if not isinstance(space, ItemSpace | TokenSpace):
        raise InvalidTypeError(
            f"space is of type {type(space).__name__}; it must be a space from relspace.align."
        )
    seed = check_random_state(random_state)
    check_count(n_images, "n_images")
    summary = space.summary()
    names = " and ".join(space.names) if len(space.names) < 4 else f"{len(space.names)} sets"
    parts: dict[str, Any]
    p_values: dict[tuple[str, str], float] = {}
    if isinstance(space, TokenSpace):
        parts = _panels(space, images, features, n_images, seed)
        rows, groups, unit = *_rows_at_places(space, seed), "images"
    else:
        if features is not None:
            raise InvalidInputError(
                "features are for the colours of tokens on grids before alignment, and the items "
                "of this space have no grid: leave features out."
            )
        p_values = _match_p_values(space, n_permutations, seed)
        parts = _points(space, images, seed)
        rows, groups, unit = _rows_of_items(space, seed), None, "items"
    values = _values(rows, groups, n_permutations, seed)
    return ReportData(
        title=title or f"{names} in one space",
        lead=_lead(space, summary, unit, n_images if unit == "images" else None),
        key_numbers=_key_numbers(summary),
        tables=[
            _pairs_table(summary, p_values),
            *values,
            _sets_table(summary),
            *parts.pop("tables", []),
        ],
        matched_by=f"{unit.capitalize()} of different sets were matched by {space.matched_by}.",
        parameters={
            **space.parameters,
            "landmarks": summary["n_landmarks"],
            "permutations": n_permutations,
            "report random_state": seed,
        },
        versions={
            "relspace": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        **parts,
    )


def _panels(
    space: TokenSpace,
    images: object,
    features: Mapping[str, FeatureSet] | None,
    n_images: int,
    seed: int,
) -> dict[str, Any]:
    n_shown = min(n_images, space.n_images)
    shown = thumbnails_of(images, space.ids, space.grid(space.names[0]), n_shown)
    unknown = [name for name in features or {} if name not in space.names]
    if unknown:
        raise UnknownNameError(
            f"features are given of {name_some(unknown)}; the space holds {name_some(space.names)}."
        )
    layers = space.parameters.get("layers", {})
    patches = {}
    for name in space.names:
        layer = layers.get(name, "features")
        given = None if features is None else features.get(name)
        patches[name] = ModelPatches(
            {layer: _of_images(space, name, n_shown)},
            (space.grid(name).rows, space.grid(name).columns),
            None if given is None else {layer: _before(space, name, given, n_shown)},
            grid_boxes(space.grid(name), n_shown),
        )
    models, quantization = report_models(patches, random_state=seed)
    return {"images": shown, "models": models, "quantization": quantization}


def _of_images(space: TokenSpace, name: str, n_images: int) -> torch.Tensor:
    n_tokens = n_images * space.grid(name).tokens_per_image
    return torch.nn.functional.normalize(_centered(space.rows(name).read(0, n_tokens)), dim=1)


def _before(space: TokenSpace, name: str, features: FeatureSet, n_images: int) -> torch.Tensor:
    """The tokens of a set's first images before alignment."""
    layer = features[space.parameters.get("layers", {}).get(name, features.layers[-1])]
    shape = (space.grid(name).rows, space.grid(name).columns)
    if layer.grid is None or (layer.grid.rows, layer.grid.columns) != shape:
        raise ItemMismatchError(
            f"features of {name} are {layer!r}; the space has a grid of {shape[0]} x {shape[1]}: "
            "give the features that were aligned."
        )
    chosen = slice(0, n_images) if space.ids is None else list(map(str, space.ids[:n_images]))
    tokens = features.tokens(layer=layer.name, images=chosen)
    return as_features(tokens, f"features of {name}").tensor


def _centered(rows: torch.Tensor) -> torch.Tensor:
    """Rows of mean 0 whether the space is standardised or not."""
    rows = rows.detach().cpu()
    return rows - rows.mean(dim=1, keepdim=True)


def _rows_at_places(space: TokenSpace, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What every set has at the same places, as many in each image, and the places' images."""
    grids = {name: space.grid(name) for name in space.names}
    per_image = max(1, _MEASURED_ROWS // space.n_images)
    places = choose_places(grids, per_image * space.n_images, random_state=seed)
    rows = {name: _centered(space.read_places(name, places)) for name in space.names}
    return rows, places.images


def _rows_of_items(space: ItemSpace, seed: int) -> dict[str, torch.Tensor]:
    items = _sample(space.n_items, _MEASURED_ROWS, seed)
    return {name: _centered(space.rows(name).read_at(items)) for name in space.names}


def _sample(n: int, size: int, seed: int) -> torch.Tensor:
    return draw_distinct(n, size, torch.Generator().manual_seed(seed))


def _values(
    rows: Mapping[str, torch.Tensor], groups: torch.Tensor | None, n_permutations: int, seed: int
) -> list[Table]:
    """How alike the sets' relative features are, pair by pair, by several measures."""
    if groups is not None and len(torch.unique(groups)) < _FEWEST_GROUPS:
        groups, n_permutations = None, 0
    tables = []
    for a, b in itertools.combinations(rows, 2):
        values = []
        for measure in _MEASURES:
            found = compare(
                rows[a],
                rows[b],
                measure=measure,
                n_permutations=n_permutations,
                groups=groups,
                random_state=seed,
            )
            # What compare() gives under the measure's own name is of the features themselves.
            title = f"{found.measure.title} of aligned features"
            values.append(Value(title, found.value, found.chance, found.p_value))
        n = len(rows[a])
        tables.append(
            value_table(
                f"How alike {a} and {b} are once they are aligned: relative features of {n} rows",
                values,
            )
        )
    return tables


def _points(space: ItemSpace, images: object, seed: int) -> dict[str, Any]:
    items = _sample(space.n_items, _DRAWN_ITEMS, seed)
    titles = [str(i + 1 if space.ids is None else space.ids[i]) for i in items.tolist()]
    rows = {name: _centered(space.rows(name).read_at(items)) for name in space.names}
    points = principal_plane(rows)
    shown = f"{len(items)} of {space.n_items}" if len(items) < space.n_items else "all"
    scatter = Scatter(
        f"Items of all sets in the common space ({shown}), first two principal components",
        titles,
        points,
        _item_colors(rows, seed),
        shows_images=images is not None,
    )
    parts: dict[str, Any] = {"scatters": [scatter], "tables": _match_tables(space, seed)}
    if images is not None:
        parts["images"] = read_thumbnails(images, space.ids, space.n_items, items.tolist(), side=96)
    return parts


def _item_colors(rows: Mapping[str, torch.Tensor], seed: int) -> dict[str, np.ndarray]:
    colors = joint_colors(rows, random_state=seed)
    return {name: np.round(255 * one).astype(np.uint8) for name, one in colors.items()}


def _match_p_values(
    space: ItemSpace, n_permutations: int, seed: int
) -> dict[tuple[str, str], float]:
    """How likely as many matches would be if it were random which items belong together."""
    n = space.n_items
    if not n_permutations or not MIN_UNITS <= n <= _TESTED_ITEMS:
        return {}
    own, found = torch.arange(n), {}
    for a, b in itertools.permutations(space.names, 2):
        nearest = torch.as_tensor(space.match(a, b).indices)[:, 0].cpu()

        def accuracy(paired: torch.Tensor, nearest: torch.Tensor = nearest) -> float:
            return float((paired[nearest] == own).double().mean())

        null = permutation_null(accuracy, n, n_permutations, random_state=seed)
        found[a, b] = p_value(accuracy(own), null)
    return found


def _match_tables(space: ItemSpace, seed: int) -> list[Table]:
    listed = _sample(space.n_items, _LISTED_MATCHES, seed)
    said, among = "", None
    if len(listed) < space.n_items:
        said = f" ({len(listed)} of {space.n_items} items, at random"
        if space.n_items > _TESTED_ITEMS:
            among = listed
            said += ", matched among themselves"
        said += "; space.match(a, b) gives all)"
    called = [str(i + 1) for i in range(space.n_items)]
    if space.ids is not None:
        called = [str(item) for item in space.ids]
    tables = []
    for a, b in itertools.permutations(space.names, 2):
        match: Match = space.match(a, b, items=among)
        rows = torch.arange(len(listed)) if among is not None else listed
        nearest = torch.as_tensor(match.indices).cpu()[rows, 0].tolist()
        distances = torch.as_tensor(match.distances).cpu()[rows, 0].tolist()
        tables.append(
            Table(
                f"Nearest item in {b} of each item of {a}{said}",
                ["item", f"nearest in {b}", "the same", "distance"],
                [
                    [called[item], called[other], "yes" if item == other else "no", float(distance)]
                    for item, other, distance in zip(
                        listed.tolist(), nearest, distances, strict=True
                    )
                ],
            )
        )
    return tables


def _lead(space: CommonSpace, summary: Mapping[str, Any], unit: str, n_images: int | None) -> str:
    shown = ""
    if n_images is not None and n_images < summary["n_items"]:
        shown = " " + said_of_images(n_images, summary["n_items"])
    return (
        f"{summary['n_items']:,} {unit} as {len(space.names)} sets of features see them, each "
        f"described by its affinities to the same {summary['n_landmarks']:,} landmarks.{shown}"
    )


def _key_numbers(summary: Mapping[str, Any]) -> list[KeyNumber]:
    """The first pair's match and distance."""
    if not summary["pairs"]:
        return []
    pair = summary["pairs"][0]
    return [
        KeyNumber(
            f"{pair['match_accuracy']:.3f}",
            f"of {pair['from']} find themselves in {pair['to']}",
            f"chance {pair['match_chance']:.2g}",
        ),
        KeyNumber(
            f"{pair['distance']:.3f}",
            "mean distance of what corresponds",
            f"chance {pair['distance_chance']:.3f}",
        ),
    ]


def _pairs_table(summary: Mapping[str, Any], p_values: Mapping[tuple[str, str], float]) -> Table:
    return Table(
        "Matching across sets",
        ["", "top-1 match", "chance", *["p"] * bool(p_values), "mean distance", "chance"],
        [
            [
                f"{pair['from']} \u2192 {pair['to']}",
                float(pair["match_accuracy"]),
                float(pair["match_chance"]),
                *([p_values[pair["from"], pair["to"]]] if p_values else []),
                float(pair["distance"]),
                float(pair["distance_chance"]),
            ]
            for pair in summary["pairs"]
        ],
        emphasis=1,
    )


def _sets_table(summary: Mapping[str, Any]) -> Table:
    grid = all("rows" in one for one in summary["sets"].values())
    columns = ["", "rows", "features", "sigma", "density", *(["grid"] if grid else [])]
    rows: list[list[str | float]] = []
    for name, one in summary["sets"].items():
        own: list[str | float] = [name, one["n_items"], one["n_features"]]
        own += [float(one["sigma"]), float(one["density"])]
        rows.append([*own, *([f"{one['rows']} \u00d7 {one['columns']}"] if grid else [])])
    return Table("The sets", columns, rows)
