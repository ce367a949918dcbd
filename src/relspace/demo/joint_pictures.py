"""Tokens of two networks in joint colours, before and after alignment, and how they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relspace.demo.color_agreement import ColorAgreement, color_agreement, mean_agreement
from relspace.demo.methods import aligned, principal_components, random_signs
from relspace.demo.retrieval import Patches, choose_queries, moved_centers
from relspace.embedding.joint_colors import JointColors, color_jointly
from relspace.space.defaults import TOKENS

#: The density for pictures, whose columns are not whitened (``standardize="columns"``): three
#: dimensions show more of these.
PICTURE_DENSITY = 0.02
_COMPONENTS = 8


def joint_pictures(
    layers: Mapping[str, tuple[Tensor, Tensor]],
    shapes: Mapping[str, tuple[int, int]],
    judged: Mapping[str, Patches],
    *,
    n_nodes: int,
    n_signs: int,
    queries_per_part: int,
    jitter: float,
    random_state: int,
) -> tuple[dict[str, JointColors], dict[str, Any]]:
    """Colour layers jointly, and compare the colours of one layer of each network with the truth.

    ``layers`` holds each layer's features at the landmarks and its tokens, by "network, layer".
    ``judged`` are the patches of one layer of each network; those of parts below 0 are ignored.
    Agreement before alignment is a mean over ``n_signs`` random signs of principal components,
    because it differs much between signs. ``jitter`` moves centres for the control that colours
    positions.

    Returns the colours ``before`` and ``after``, and the agreement of these and of ``position``
    alone, ready for JSON.
    """
    width = min(tokens.shape[1] for _, tokens in layers.values())
    bring = {
        "before": principal_components(width),
        "after": aligned(PICTURE_DENSITY, TOKENS.normalize, "columns"),
    }
    sets = {when: {key: one(*layers[key]) for key in layers} for when, one in bring.items()}
    centers = moved_centers(list(judged.values()), jitter)
    sets["position"] = dict(zip(judged, centers, strict=True))

    def colored(rows: Mapping[str, Tensor]) -> JointColors:
        return color_jointly(
            rows,
            {key: shapes[key] for key in rows},
            n_components=_COMPONENTS,
            n_landmarks=n_nodes,
            random_state=random_state,
        )

    def agreement(joint: JointColors) -> ColorAgreement:
        colors, known = [], []
        for key, patches in judged.items():
            rows = patches.parts >= 0
            flat = torch.from_numpy(np.ascontiguousarray(joint.colors[key])).flatten(0, 2)
            colors.append(flat[rows])
            known.append(patches.select(rows))
        queries = [choose_queries(one, queries_per_part, random_state) for one in known]
        return color_agreement(colors, known, queries)

    panels = {when: colored(rows) for when, rows in sets.items()}
    found = {when: agreement(joint) for when, joint in panels.items()}
    # The picture shows one choice of the signs; the number is a mean over random ones.
    before = {key: sets["before"][key] for key in judged}
    found["before"] = mean_agreement(
        [agreement(colored(random_signs(before, draw))) for draw in range(n_signs)]
    )
    numbers = {
        when: {**one.to_dict(), "rank_correlation": panels[when].rank_correlation}
        for when, one in found.items()
    }
    del panels["position"]
    return panels, numbers
