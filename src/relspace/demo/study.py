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
from relspace.demo.color_agreement import retrieval_both_ways
from relspace.demo.joint_pictures import joint_pictures
from relspace.demo.methods import (
    Sides,
    contenders,
    over_signs,
    principal_components,
    separately,
)
from relspace.demo.photographs import CONCEPTS, Photograph, load_photographs, patches_of
from relspace.demo.pretrained import PAIR, SHOWN, load_networks
from relspace.demo.retrieval import (
    Patches,
    Retrieval,
    chance,
    choose_queries,
    mean_of,
    moved_centers,
)
from relspace.embedding.joint_colors import JointColors
from relspace.features import FeatureSet, Positions, TokenGrid, choose_positions, extract

N_FOLDS = 3
N_LANDMARKS = 1024
QUERIES_PER_CONCEPT = 200
#: Positions of each photograph that are looked for in the other network.
N_MATCHED = 100
N_GRAPH_NODES = 2048
_JITTER = 0.01
_N_SIGNS_OF_COLORS = 8


@dataclass(frozen=True)
class PhotographStudy:
    """The results of the study.

    Attributes
    ----------
    summary : dict
        All numbers, ready for JSON.
    photographs : list of Photograph
        The nine photographs.
    features : dict of str to FeatureSet
        Features of the photographs and of their crops, by network.
    panels : dict of str to JointColors
        Colours of the shown layers' patches ``before`` and ``after``, by "network, layer".
    """

    summary: dict[str, Any]
    photographs: list[Photograph]
    features: dict[str, FeatureSet]
    panels: dict[str, JointColors]


@dataclass(frozen=True)
class Fold:
    """Some photographs as queries, described by landmarks in the others.

    ``sides`` are all tokens of these photographs, ``patches`` what they show, and ``queries`` the
    row numbers of those that are looked for; ``matched`` are features of both networks at the same
    positions.
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
    """Run the study; alignment sees tokens and positions, never the outlines.

    Photographs and features are written into ``output``; features of the same networks and
    photographs are reused.
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
    # Shuffled, because similar photographs stand side by side.
    order = np.random.default_rng(0).permutation(len(photographs))
    folds = [
        _fold(features, photographs, asked, random_state)
        for asked in np.array_split(order, N_FOLDS)
    ]
    narrow, wide = sorted(one.shape[1] for one in (folds[0].sides.X, folds[0].sides.Y))
    ways = contenders(narrow, wide)
    methods = {key: [way.method] for key, way in ways.items()}
    # The picture shows one choice of the signs; numbers are means over random ones.
    methods["principal_components"] = over_signs(separately(principal_components(narrow)))
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
            [
                _retrieve(fold, moved_centers(fold.patches, _JITTER), euclidean=True)
                for fold in folds
            ]
        ),
    }
    tell(0, 0, "Colouring both networks' patches jointly, before and after")
    panels, colors = _pictures(features, photographs, random_state)
    n_positions = len(folds[0].matched.X)
    summary: dict[str, Any] = {
        "data": {
            "photographs": [one.name for one in photographs],
            "concepts": list(CONCEPTS),
            "n_folds": N_FOLDS,
            "n_landmarks": N_LANDMARKS,
            "n_queried": [sum(len(fold.queries[side]) for fold in folds) for side in (0, 1)],
            "n_positions": n_positions,
        },
        "pair": dict(PAIR),
        "retrieval": {
            key: {"title": one.title, "kind": one.kind, **found[key].to_dict()}
            for key, one in ways.items()
        },
        "matching": {
            "chance": 1 / n_positions,
            **{key: {"title": one.title, "top1": matched[key]} for key, one in ways.items()},
        },
        "controls": {key: one.to_dict() for key, one in controls.items()},
        "colors": colors,
    }
    return PhotographStudy(summary, photographs, features, panels)


def item_names(features: Mapping[str, FeatureSet]) -> list[str]:
    """Return the names of the items, which are the same for both networks."""
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
    landmarks = _positions_in(grids, others, N_LANDMARKS, random_state)
    positions = _positions_in(grids, wholes, N_MATCHED * len(wholes), random_state + 1)
    tokens, at_landmarks, at_positions, patches = [], [], [], []
    for name, layer in PAIR.items():
        one, grid = features[name], grids[name]
        tokens.append(_tensor(one.tokens(layer=layer, images=wholes)))
        at_landmarks.append(_tensor(one.read_positions(landmarks, layer=layer)))
        at_positions.append(_tensor(one.read_positions(positions, layer=layer)))
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
        Sides(*at_positions, *at_landmarks),
    )


def _positions_in(
    grids: Mapping[str, TokenGrid], images: Sequence[int], n: int, random_state: int
) -> Positions:
    """Choose positions in some images."""
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
    """How often a position is nearest to itself in the other network, over both directions."""
    similarity = rows[0] @ rows[1].T
    own = torch.arange(len(similarity))
    hits = [(one.argmax(1) == own).double().mean() for one in (similarity, similarity.T)]
    return float(sum(hits) / 2)


def _pictures(
    features: Mapping[str, FeatureSet], photographs: Sequence[Photograph], random_state: int
) -> tuple[dict[str, JointColors], dict[str, Any]]:
    """Colour the shown layers jointly, and evaluate the colours of the pair."""
    ids = item_names(features)
    wholes = [ids.index(f"{one.name}.png") for one in photographs]
    shown = {f"{name}, {layer}": (name, layer) for name in SHOWN for layer in SHOWN[name]}
    grids = {key: _grid(features, name, layer) for key, (name, layer) in shown.items()}
    landmarks = _positions_in(grids, range(len(ids)), N_LANDMARKS, random_state)
    layers = {
        key: (
            _tensor(features[name].read_positions(landmarks, layer=layer)),
            _tensor(features[name].tokens(layer=layer, images=wholes)),
        )
        for key, (name, layer) in shown.items()
    }
    return joint_pictures(
        layers,
        {key: (grid.rows, grid.columns) for key, grid in grids.items()},
        {
            key: Patches(*patches_of(photographs, grids[key], wholes), CONCEPTS)
            for key, (name, layer) in shown.items()
            if PAIR[name] == layer
        },
        n_nodes=N_GRAPH_NODES,
        n_signs=_N_SIGNS_OF_COLORS,
        queries_per_part=QUERIES_PER_CONCEPT,
        jitter=_JITTER,
        random_state=random_state,
    )
