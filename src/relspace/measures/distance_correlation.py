"""Distance correlation: centred matrices of Euclidean distances, compared by their cosine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from relspace._core.validation import check_choice
from relspace.kernels.frame import Frame
from relspace.measures._measure import WIDE_FEATURES_LOOK_ALIKE, Measure
from relspace.measures.pair_matrix import Centering, PairEntries, PairMeasure
from relspace.measures.rsa import euclidean_distances


@dataclass(frozen=True, kw_only=True, repr=False)
class DistanceCorrelation(PairMeasure):
    r"""Squared distance correlation of two sets of features.

    .. math:: \mathcal{R}^* = \frac{(\tilde A \cdot \tilde B)}{|\tilde A| \, |\tilde B|}

    with U-centred matrices of Euclidean distances (bias-corrected; Székely and Rizzo 2014),
    or doubly centred ones (Székely, Rizzo and Bakirov 2007, squared).

    Attributes
    ----------
    estimator : "unbiased" or "biased"
        Which of the two.
    """

    estimator: Literal["unbiased", "biased"] = "unbiased"

    def __post_init__(self) -> None:
        check_choice(self.estimator, "estimator", ("unbiased", "biased"))

    @property
    def range(self) -> tuple[float, float]:
        return (-1.0, 1.0) if self.estimator == "unbiased" else (0.0, 1.0)

    @property
    def invariances(self) -> tuple[str, ...]:
        return ("rotation", "scale", "shift")

    @property
    def chance(self) -> str:
        return "0" if self.estimator == "unbiased" else WIDE_FEATURES_LOOK_ALIKE

    @property
    def _centering(self) -> Centering:
        return "unbiased" if self.estimator == "unbiased" else "double"

    def _entries(self, X: torch.Tensor, name: str) -> PairEntries:
        return PairEntries(Frame.of(X).place(X), euclidean_distances, with_itself=0.0)


MEASURES: tuple[Measure, ...] = (
    DistanceCorrelation(
        name="distance_correlation",
        title="Distance correlation",
        source="Székely and Rizzo 2014 (squared, bias-corrected)",
    ),
)
