"""The photographs study: how well are the same things found across two pretrained networks?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relspace._core.progress import Listener
from relspace.demo.color_agreement import (
    ColorAgreement,
    color_agreement,
    mean_agreement,
    retrieval_both_ways,
)
from relspace.demo.contenders import contenders
from relspace.demo.methods import (
    Sides,
    aligned,
    principal_components,
    separately,
    with_random_signs,
)
from relspace.demo.photographs import CONCEPTS, Photograph, load_photographs, patches_of
from relspace.demo.pretrained import PAIR, SHOWN, load_networks
from relspace.demo.retrieval import (
    Patches,
    Retrieval,
    chance,
    choose_queries,
    mean_of,
)
from relspace.embedding.joint_colors import JointColors, color_jointly
from relspace.features import FeatureSet, Positions, TokenGrid, choose_positions, extract
from relspace.space.defaults import TOKENS

N_FOLDS = 3
N_LANDMARKS = 1024
QUERIES_PER_CONCEPT = 200
#: Places of each photograph that are looked for in the other network.
N_MATCHED = 100
N_GRAPH_NODES = 2048
#: Pictures take columns as they are, as those of tokens on grids do: three dimensions hold more
#: of these.
PICTURE_DENSITY = 0.02
#: Draws of the signs of principal components, over which what they find is averaged.
N_SIGNS = 4
_JITTER = 0.01


@dataclass(frozen=True)
class PhotographStudy:
    """What the study found: all its numbers, and what its pictures are drawn from.

    Attributes
    ----------
    summary : dict
        Numbers, ready for JSON.
    photographs : list of Photograph
        The nine.
    features : dict of str to FeatureSet
        Both networks' features of the photographs and of their crops.
    panels : dict of str to JointColors
        ``before`` and ``after``: colours of the shown layers' patches, by "network, layer".
    """

    summary: dict[str, Any]
    photographs: list[Photograph]
    features: dict[str, FeatureSet]
    panels: dict[str, JointColors]


@dataclass(frozen=True)
class Fold:
    """Some photographs that are asked for, described by landmarks in all others.

    Attributes
    ----------
    sides : Sides
        Tokens of the asked photographs, and landmarks, of the pair of layers.
    patches : two Patches
        What the tokens show.
    queries : two LongTensors
        The tokens that are asked for.
    matched : Sides
        The same places of the asked photographs in both networks.
    """

    sides: Sides
    patches: tuple[Patches, Patches]
    queries: tuple[Tensor, Tensor]
    matched: Sides


def save_photographs(photographs: Sequence[Photograph], folder: Path) -> None:
    """Write photographs and their crops into a folder, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in photographs:
        for name, image in {one.name: one.image, **one.crops()}.items():
            image.save(folder / f"{name}.png")


def run_study(output: Path, *, random_state: int = 0, tell: Listener) -> PhotographStudy:
    """Run the study; alignment sees tokens and places, never what was drawn.

    Parameters
    ----------
    output : Path
        The folder, for the photographs and the features of both networks; features that are there
        already are used again where networks and photographs are the same.
    random_state : int
        Seed of the landmarks and of what is asked for.
    tell : callable
        Told ``(done, total, text)`` at every step.

    Returns
    -------
    PhotographStudy
        Numbers and what the pictures need.
    """
    photographs = load_photographs()
    networks = load_networks()
    folder = output / "photographs"
    save_photographs(photographs, folder)
    features: dict[str, FeatureSet] = {}
    for name, model in networks.items():
        extracted = extract(model, folder, output / f"{name}.zarr", batch_size=4, progress=tell)
        assert isinstance(extracted, FeatureSet)
        features[name] = extracted
    tell(0, 0, "Looking for objects, outlines and backgrounds across the networks")
    folds = [
        _fold(features, photographs, asked, random_state)
        for asked in np.array_split(_shuffled(len(photographs)), N_FOLDS)
    ]
    narrow, wide = sorted(one.shape[1] for one in (folds[0].sides.X, folds[0].sides.Y))
    ways = contenders(narrow, wide)
    methods = {key: [way.method] for key, way in ways.items()}
    # The picture shows one choice of the axes' signs; numbers are means over draws of them.
    methods["principal_components"] = [
        with_random_signs(separately(principal_components(narrow)), draw) for draw in range(N_SIGNS)
    ]
    found = {
        key: mean_of([_retrieve(fold, method(fold.sides)) for fold in folds for method in several])
        for key, several in methods.items()
    }
    matched = {
        key: float(np.mean([_top1(method(fold.matched)) for fold in folds for method in several]))
        for key, several in methods.items()
    }
    controls = {
        "chance": mean_of([chance(one) for fold in folds for one in fold.patches]),
        "position": mean_of(
            [_retrieve(fold, _positions(fold.patches), euclidean=True) for fold in folds]
        ),
    }
    tell(0, 0, "Colouring both networks' patches jointly, before and after")
    panels, colors = _pictures(features, photographs, random_state)
    n_places = len(folds[0].matched.X)
    summary: dict[str, Any] = {
        "data": {
            "photographs": [one.name for one in photographs],
            "concepts": list(CONCEPTS),
            "n_folds": N_FOLDS,
            "n_landmarks": N_LANDMARKS,
            "n_queried": [sum(len(fold.queries[side]) for fold in folds) for side in (0, 1)],
            "n_places": n_places,
        },
        "pair": dict(PAIR),
        "retrieval": {
            key: {"title": one.title, "kind": one.kind, **found[key].to_dict()}
            for key, one in ways.items()
        },
        "matching": {
            "chance": 1 / n_places,
            **{key: {"title": one.title, "top1": matched[key]} for key, one in ways.items()},
        },
        "controls": {key: one.to_dict() for key, one in controls.items()},
        "colors": colors,
    }
    return PhotographStudy(summary, photographs, features, panels)


def _shuffled(n: int) -> np.ndarray:
    """An order in which portraits, still lifes and buildings don't stand side by side."""
    return np.random.default_rng(0).permutation(n)


def item_names(features: Mapping[str, FeatureSet]) -> list[str]:
    """Return what the items of both networks are called."""
    return [str(one) for one in next(iter(features.values())).ids or ()]


def _grid(features: Mapping[str, FeatureSet], name: str, layer: str) -> TokenGrid:
    grid = features[name][layer].grid
    assert grid is not None
    return grid


def _fold(
    features: Mapping[str, FeatureSet],
    photographs: Sequence[Photograph],
    asked: np.ndarray,
    random_state: int,
) -> Fold:
    ids = item_names(features)
    names = tuple(photographs[int(one)].name for one in asked)
    wholes = [ids.index(f"{name}.png") for name in names]
    others = [number for number, one in enumerate(ids) if not one.startswith(names)]
    grids = {name: _grid(features, name, layer) for name, layer in PAIR.items()}
    landmarks = _places_in(grids, others, N_LANDMARKS, random_state)
    places = _places_in(grids, wholes, N_MATCHED * len(wholes), random_state + 1)
    tokens, at_landmarks, at_places, patches = [], [], [], []
    for name, layer in PAIR.items():
        one, grid = features[name], grids[name]
        tokens.append(_tensor(one.tokens(layer=layer, images=wholes)))
        at_landmarks.append(_tensor(one.read_positions(landmarks, layer=layer)))
        at_places.append(_tensor(one.read_positions(places, layer=layer)))
        patches.append(
            Patches(*patches_of([photographs[int(i)] for i in asked], grid, wholes), CONCEPTS)
        )
    kept = [one.parts >= 0 for one in patches]
    tokens = [one[rows] for one, rows in zip(tokens, kept, strict=True)]
    known = [one.select(rows) for one, rows in zip(patches, kept, strict=True)]
    return Fold(
        Sides(*tokens, *at_landmarks),
        (known[0], known[1]),
        (
            choose_queries(known[0], QUERIES_PER_CONCEPT, random_state),
            choose_queries(known[1], QUERIES_PER_CONCEPT, random_state),
        ),
        Sides(*at_places, *at_landmarks),
    )


def _places_in(
    grids: Mapping[str, TokenGrid], images: Sequence[int], n: int, random_state: int
) -> Positions:
    """Choose places of some images."""
    index = torch.as_tensor(images)
    chosen = choose_positions(
        {name: grid.select(index) for name, grid in grids.items()}, n, random_state=random_state
    )
    return Positions(index[chosen.images], chosen.y, chosen.x)


def _tensor(rows: Any) -> Tensor:
    return torch.as_tensor(rows).float()


def _retrieve(fold: Fold, rows: tuple[Tensor, Tensor], *, euclidean: bool = False) -> Retrieval:
    return retrieval_both_ways(rows, fold.patches, fold.queries, euclidean=euclidean)


def _top1(rows: tuple[Tensor, Tensor]) -> float:
    """How often a place finds itself among all places in the other network, both directions."""
    similarity = rows[0] @ rows[1].T
    own = torch.arange(len(similarity))
    hits = [(one.argmax(1) == own).double().mean() for one in (similarity, similarity.T)]
    return float(sum(hits) / 2)


def _positions(patches: Sequence[Patches]) -> tuple[Tensor, Tensor]:
    """Where patches lie, moved a little so that no two lie at the same position."""
    generator = torch.Generator().manual_seed(0)
    first, second = (one.moved_centers(_JITTER, generator) for one in patches)
    return first, second


def _pictures(
    features: Mapping[str, FeatureSet], photographs: Sequence[Photograph], random_state: int
) -> tuple[dict[str, JointColors], dict[str, Any]]:
    """Colour the shown layers jointly, and judge the colours of the pair."""
    ids = item_names(features)
    wholes = [ids.index(f"{one.name}.png") for one in photographs]
    shown = {f"{name}, {layer}": (name, layer) for name in SHOWN for layer in SHOWN[name]}
    grids = {key: _grid(features, name, layer) for key, (name, layer) in shown.items()}
    landmarks = _places_in(grids, range(len(ids)), N_LANDMARKS, random_state)
    narrow = min(features[name][layer].shape[1] for name, layer in shown.values())
    before, after, shapes, patches = {}, {}, {}, {}
    for key, (name, layer) in shown.items():
        tokens = _tensor(features[name].tokens(layer=layer, images=wholes))
        marks = _tensor(features[name].read_positions(landmarks, layer=layer))
        shapes[key] = (grids[key].rows, grids[key].columns)
        before[key] = principal_components(narrow)(marks, tokens)
        after[key] = aligned(PICTURE_DENSITY, TOKENS.normalize, "columns")(marks, tokens)
        if PAIR[name] == layer:
            patches[key] = Patches(*patches_of(photographs, grids[key], wholes), CONCEPTS)
    lasts = list(patches)
    at = dict(zip(lasts, _positions([patches[key] for key in lasts]), strict=True))

    def colored(sets: Mapping[str, Tensor]) -> JointColors:
        return color_jointly(
            sets,
            {key: shapes[key] for key in sets},
            n_components=8,
            n_landmarks=N_GRAPH_NODES,
            random_state=random_state,
        )

    panels = {"before": colored(before), "after": colored(after), "position": colored(at)}
    agreement = {when: _agreement(joint, patches, random_state) for when, joint in panels.items()}
    agreement["before"] = mean_agreement(
        [
            _agreement(
                colored(
                    {key: _signed(before[key], number + draw) for number, key in enumerate(lasts)}
                ),
                patches,
                random_state,
            )
            for draw in range(N_SIGNS)
        ]
    )
    numbers = {
        when: {**found.to_dict(), "rank_correlation": panels[when].rank_correlation}
        for when, found in agreement.items()
    }
    del panels["position"]
    return panels, numbers


def _agreement(
    joint: JointColors, patches: Mapping[str, Patches], random_state: int
) -> ColorAgreement:
    """Compare colours with what was drawn, where it was."""
    colors, known = [], []
    for key, one in patches.items():
        rows = one.parts >= 0
        flat = torch.from_numpy(np.ascontiguousarray(joint.colors[key])).flatten(0, 2)
        colors.append(flat[rows])
        known.append(one.select(rows))
    queries = [choose_queries(one, QUERIES_PER_CONCEPT, random_state) for one in known]
    return color_agreement(colors, known, queries)


def _signed(rows: Tensor, random_state: int) -> Tensor:
    """The same components with the signs of all axes drawn anew."""
    generator = torch.Generator().manual_seed(random_state)
    return rows * (torch.randint(0, 2, (1, rows.shape[1]), generator=generator) * 2 - 1)
