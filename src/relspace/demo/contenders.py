"""The ways to bring two networks side by side that the study compares, by kind."""

from __future__ import annotations

from dataclasses import dataclass

from relspace.demo.methods import (
    Method,
    aligned,
    canonical_correlation,
    fixed_bandwidth,
    median_bandwidth,
    padded,
    principal_components,
    relative_representations,
    separately,
)
from relspace.space.defaults import TOKENS


@dataclass(frozen=True)
class Contender:
    """A way to bring two networks side by side, and what kind of way it is.

    Attributes
    ----------
    title : str
        What tables call it.
    kind : str
        "before", "peer" (sees no pairs, only which landmarks correspond), "paired" (is fitted on
        pairs), "ours".
    method : Method
        The way.
    """

    title: str
    kind: str
    method: Method


def contenders(narrow: int, wide: int) -> dict[str, Contender]:
    """The ways that are compared, for networks of these widths."""
    return {
        "padded": Contender("before: padded, cosine", "before", separately(padded(wide))),
        "principal_components": Contender(
            "before: principal components, cosine",
            "before",
            separately(principal_components(narrow)),
        ),
        "relative": Contender(
            "relative representations",
            "peer",
            separately(relative_representations(center=False)),
        ),
        "relative_centered": Contender(
            "relative representations, centred",
            "peer",
            separately(relative_representations(center=True)),
        ),
        "fixed_bandwidth": Contender("bandwidth 1", "peer", separately(fixed_bandwidth(1.0))),
        "median_bandwidth": Contender("median bandwidth", "peer", separately(median_bandwidth)),
        "cca": Contender("CCA, fitted on pairs", "paired", canonical_correlation),
        "aligned": Contender("aligned", "ours", separately(aligned())),
        "aligned_default": Contender(
            "aligned, defaults of grids",
            "ours",
            separately(aligned(TOKENS.density, TOKENS.normalize, TOKENS.standardize)),
        ),
        "aligned_zscore": Contender(
            "aligned, channels z-scored", "ours", separately(aligned(normalize="zscore+unit"))
        ),
    }
