"""Distance correlation: centred matrices of Euclidean distances, compared by their cosine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from relspace.kernels.frame import Frame
from relspace.measures._measure import Measure
from relspace.measures.pair_matrix import EstimatedMeasure, PairEntries
from relspace.measures.rsa import euclidean_distances


@dataclass(frozen=True, kw_only=True, repr=False)
class DistanceCorrelation(EstimatedMeasure):
    r"""Squared distance correlation of two sets of features.

    .. math:: \mathcal{R}^* = \frac{(\tilde A \cdot \tilde B)}{|\tilde A| \, |\tilde B|}

    with U-centred matrices of Euclidean distances (bias-corrected; Székely and Rizzo 2014),
    or doubly centred ones (Székely, Rizzo and Bakirov 2007, squared).
    """

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        return PairEntries(Frame.of(X).place(X), euclidean_distances, with_itself=0.0)


MEASURES: tuple[Measure, ...] = (
    DistanceCorrelation(
        name="distance_correlation",
        title="Distance correlation",
        source="Székely and Rizzo 2014 (squared, bias-corrected)",
    ),
)
