"""The portraits study: every layer of two networks, before and after alignment, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from examples.portraits.drawing import PARTS
from examples.portraits.held_out import HeldOut, hold_out
from examples.portraits.networks import NETWORKS, initial_network, load_network
from relspace._core.arguments import check_random_state
from relspace._core.progress import Progress, as_listener
from relspace.demo.color_agreement import retrieval_both_ways
from relspace.demo.joint_pictures import PICTURE_DENSITY, joint_pictures
from relspace.demo.methods import (
    DENSITY,
    N_SIGNS,
    NORMALIZE,
    STANDARDIZE,
    OneSided,
    Sides,
    aligned,
    contenders,
    over_signs,
    principal_components,
    random_signs,
    separately,
)
from relspace.demo.retrieval import (
    Patches,
    Retrieval,
    chance,
    choose_queries,
    mean_of,
    moved_centers,
)
from relspace.embedding.joint_colors import JointColors
from relspace.features import Positions, choose_positions

N_LANDMARK_IMAGES = 40
N_QUERIED_IMAGES = 24
N_LANDMARKS = 1024
#: Fewer do for the table of all pairs of layers.
N_LANDMARKS_OF_LAYERS = 192
QUERIES_PER_PART = 100
QUERIES_PER_PART_OF_LAYERS = 25
N_GRAPH_NODES = 2048
UNTRAINED_SEED = 100
_JITTER = 0.1


@dataclass(frozen=True)
class PortraitStudy:
    """What the study found: all its numbers, and what its pictures are drawn from.

    Attributes
    ----------
    summary : dict
        Numbers, ready for JSON.
    held_out : HeldOut
        The portraits and every layer's tokens.
    positions : Positions
        The landmarks.
    panels : dict of str to JointColors
        ``before`` and ``after``: colours of the shown layers' patches, by "network, layer".
    """

    summary: dict[str, Any]
    held_out: HeldOut
    positions: Positions
    panels: dict[str, JointColors]


@dataclass(frozen=True)
class Truth:
    """The patches of both networks, and those that are asked for."""

    patches: tuple[Patches, Patches]
    queries: tuple[Tensor, Tensor]

    @staticmethod
    def of(held_out: HeldOut, per_part: int, seed: int) -> Truth:
        first, second = (held_out.patches(name) for name in held_out.features)
        return Truth(
            (first, second),
            (choose_queries(first, per_part, seed), choose_queries(second, per_part, seed)),
        )

    def retrieve(self, rows: tuple[Tensor, Tensor], *, euclidean: bool = False) -> Retrieval:
        return retrieval_both_ways(rows, self.patches, self.queries, euclidean=euclidean)

    def retrieve_before(self, given: Sides) -> Retrieval:
        """By principal components of one width, over draws of the signs of their axes."""
        narrow = min(given.X.shape[1], given.Y.shape[1])
        components = separately(principal_components(narrow))
        return mean_of([self.retrieve(method(given)) for method in over_signs(components)])

    def retrieve_by_position(self) -> Retrieval:
        """By where patches lie alone, moved by less than a pixel so that no two coincide."""
        return self.retrieve(moved_centers(self.patches, _JITTER), euclidean=True)


def shared_positions(held_out: HeldOut, n: int, seed: int) -> Positions:
    """Landmarks: positions in the portraits apart that both networks see."""
    grids = {name: held_out.grid(name, held_out.landmark_images) for name in held_out.features}
    return choose_positions(grids, n, random_state=seed)


def sides(held_out: HeldOut, positions: Positions, layers: tuple[str, str]) -> Sides:
    """What a method works on, for a pair of layers."""
    (a, first), (b, second) = zip(held_out.features, layers, strict=True)
    return Sides(
        held_out.tokens(a, first),
        held_out.tokens(b, second),
        held_out.features[a].read_positions(positions, layer=first),
        held_out.features[b].read_positions(positions, layer=second),
    )


def shown_layers(held_out: HeldOut) -> list[tuple[str, str]]:
    """Of each network the last two layers."""
    return [(name, layer) for name, one in held_out.features.items() for layer in one.layers[-2:]]


def run_study(*, random_state: int = 0, progress: Progress = None) -> PortraitStudy:
    """Run the study; what alignment is given are tokens and positions, never parts.

    Parameters
    ----------
    random_state : int
        Seed of the portraits, the landmarks and the patches that are asked for.
    progress : callable or bool, optional
        Told ``(done, total, text)`` at every step; True prints lines on stderr.

    Returns
    -------
    PortraitStudy
        Numbers and what the pictures need.
    """
    seed = check_random_state(random_state)
    tell = as_listener(progress)
    tell(0, 0, "Drawing portraits that the two networks have never seen")
    loaded = {name: load_network(name) for name in NETWORKS}
    held_out = hold_out(
        {name: network for name, (network, _) in loaded.items()},
        N_LANDMARK_IMAGES,
        N_QUERIED_IMAGES,
        seed,
    )
    truth = Truth.of(held_out, QUERIES_PER_PART, seed)
    positions = shared_positions(held_out, N_LANDMARKS, seed)
    last = tuple(features.layers[-1] for features in held_out.features.values())
    pair = (last[0], last[1])

    tell(0, 0, "Retrieving parts across the two networks, before, after, and by other methods")
    given = sides(held_out, positions, pair)
    ways = contenders(*sorted((given.X.shape[1], given.Y.shape[1])))
    rows = {key: way.method(given) for key, way in ways.items()}
    found = {key: truth.retrieve(both) for key, both in rows.items()}
    found["principal_components"] = truth.retrieve_before(given)
    controls = {
        "chance": mean_of([chance(one) for one in truth.patches]),
        "position": truth.retrieve_by_position(),
        "untrained": _untrained(held_out, truth, positions, pair),
    }
    tell(0, 0, "Comparing every layer with every other")
    layers = _layer_tables(held_out, seed)
    tell(0, 0, "Colouring both networks' patches jointly, before and after")
    panels, colors, pictured = _pictures(held_out, truth, positions, seed)
    summary: dict[str, Any] = {
        "data": {
            "n_landmark_images": N_LANDMARK_IMAGES,
            "n_queried_images": N_QUERIED_IMAGES,
            "n_landmarks": N_LANDMARKS,
            "parts": list(PARTS),
            "n_patches": {
                name: len(one) for name, one in zip(NETWORKS, truth.patches, strict=True)
            },
            "n_queried": {
                name: len(one) for name, one in zip(NETWORKS, truth.queries, strict=True)
            },
        },
        "networks": {
            name: {
                **record,
                "stride": network.stride,
                "layers": {
                    layer: held_out.features[name][layer].shape[1]
                    for layer in held_out.features[name].layers
                },
            }
            for name, (network, record) in loaded.items()
        },
        "alignment": {
            "density": DENSITY,
            "normalize": NORMALIZE,
            "standardize": STANDARDIZE,
        },
        "pair": dict(zip(NETWORKS, pair, strict=True)),
        "retrieval": {
            key: {"title": one.title, "kind": one.kind, **found[key].to_dict()}
            for key, one in ways.items()
        },
        "controls": {key: one.to_dict() for key, one in controls.items()},
        "within": {
            name: _within(truth, which, rows["aligned"][which]).to_dict()
            for which, name in enumerate(NETWORKS)
        },
        "layers": layers,
        "colors": {"shown": pictured, "density": PICTURE_DENSITY, **colors},
    }
    summary["bars"] = ratios(summary)
    return PortraitStudy(summary, held_out, positions, panels)


def ratios(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What the study is judged by: each ratio and the least that is asked of it."""
    retrieval, colors = summary["retrieval"], summary["colors"]
    after = retrieval["aligned"]["mean"]

    def best(kind: str) -> float:
        return max(float(one["mean"]) for one in retrieval.values() if one["kind"] == kind)

    by_color = colors["after"]["retrieval"]["mean"]
    return {
        "retrieval_over_before": {"value": after / best("before"), "at_least": 3.0},
        "retrieval_over_best_peer": {"value": after / best("peer"), "at_least": 1.4},
        "retrieval_over_position": {
            "value": after / summary["controls"]["position"]["mean"],
            "at_least": 1.8,
        },
        "consistency_before_over_after": {
            "value": colors["before"]["consistency"] / colors["after"]["consistency"],
            "at_least": 2.0,
        },
        "color_retrieval_over_before": {
            "value": by_color / colors["before"]["retrieval"]["mean"],
            "at_least": 2.0,
        },
        "color_retrieval_over_position": {
            "value": by_color / colors["position"]["retrieval"]["mean"],
            "at_least": 1.25,
        },
    }


def _untrained(
    held_out: HeldOut, truth: Truth, positions: Positions, pair: tuple[str, str]
) -> Retrieval:
    """The same alignment of the same networks with the weights that they began with."""
    untrained = held_out.seen_by({name: initial_network(name, UNTRAINED_SEED) for name in NETWORKS})
    return truth.retrieve(separately(aligned())(sides(untrained, positions, pair)))


def _within(truth: Truth, which: int, rows: Tensor) -> Retrieval:
    """Retrieval in other images of the same network: what there is to be found."""
    patches, queries = truth.patches[which], truth.queries[which]
    return retrieval_both_ways((rows, rows), (patches, patches), (queries, queries))


def _layer_tables(held_out: HeldOut, seed: int) -> dict[str, Any]:
    """Retrieval for every pair of layers, mean and per part, before and after."""
    truth = Truth.of(held_out, QUERIES_PER_PART_OF_LAYERS, seed)
    positions = shared_positions(held_out, N_LANDMARKS_OF_LAYERS, seed)
    (a, of_a), (b, of_b) = held_out.features.items()
    narrow = min(one[one.layers[-1]].shape[1] for one in (of_a, of_b))

    def rows_of(name: str, bring: OneSided) -> dict[str, Tensor]:
        features = held_out.features[name]
        return {
            layer: bring(
                features.read_positions(positions, layer=layer), held_out.tokens(name, layer)
            )
            for layer in features.layers
        }

    after = [rows_of(name, aligned()) for name in (a, b)]
    before = [rows_of(name, principal_components(narrow)) for name in (a, b)]
    signed = [random_signs(before[1], draw) for draw in range(N_SIGNS)]
    tables: dict[str, Any] = {"before": [], "after": [], "per_part": []}
    for first in of_a.layers:
        lines: dict[str, list[Any]] = {key: [] for key in tables}
        for second in of_b.layers:
            found = truth.retrieve((after[0][first], after[1][second]))
            unaligned = [truth.retrieve((before[0][first], one[second])) for one in signed]
            lines["before"].append(mean_of(unaligned).mean)
            lines["after"].append(found.mean)
            lines["per_part"].append(found.per_part)
        for key, line in lines.items():
            tables[key].append(line)
    return {
        "rows": {"network": a, "layers": list(of_a.layers)},
        "columns": {"network": b, "layers": list(of_b.layers)},
        "n_landmarks": N_LANDMARKS_OF_LAYERS,
        **tables,
    }


def _pictures(
    held_out: HeldOut, truth: Truth, positions: Positions, seed: int
) -> tuple[dict[str, JointColors], dict[str, Any], list[str]]:
    """Colour the shown layers jointly, and judge the colours of the two last ones."""
    names = {f"{name}, {layer}": (name, layer) for name, layer in shown_layers(held_out)}
    grids = {key: held_out.grid(name, held_out.queried_images) for key, (name, _) in names.items()}
    last = {name: key for key, (name, _) in names.items()}
    panels, numbers = joint_pictures(
        {
            key: (
                held_out.features[name].read_positions(positions, layer=layer),
                held_out.tokens(name, layer),
            )
            for key, (name, layer) in names.items()
        },
        {key: (grid.rows, grid.columns) for key, grid in grids.items()},
        dict(zip(last.values(), truth.patches, strict=True)),
        n_nodes=N_GRAPH_NODES,
        n_signs=N_SIGNS,
        queries_per_part=QUERIES_PER_PART,
        jitter=_JITTER,
        random_state=seed,
    )
    return panels, numbers, list(names)
