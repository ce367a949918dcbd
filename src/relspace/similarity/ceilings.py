"""Noise ceilings: how alike to several references any set can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relspace.measures import Measure
from relspace.measures.common_pairs import CommonPairs


@dataclass(frozen=True)
class NoiseCeiling:
    """What values of models are to be read beside, where references differ from each other.

    Attributes
    ----------
    lower : float
        The mean value of each reference with the mean of the others, which a model that is the
        truth behind the references is expected to reach. Where sets have no mean (``pooled`` is
        False), the mean value of two references: how alike one is to another.
    upper : float or None
        The mean value of the references with the mean of them all, beyond which no model can be;
        None where sets have no mean.
    pooled : bool
        Whether sets have a mean by this measure.
    """

    lower: float
    upper: float | None
    pooled: bool


def noise_ceiling(measure: Measure, references: Sequence[Any]) -> NoiseCeiling:
    """The ceiling that the factors of two or more references give (Nili et al. 2014).

    Where pairs of items are missing, it is that of the pairs that all references have.
    """
    if isinstance(measure, CommonPairs):
        measure, references = measure.on_pairs_of_all(references)
    whole = measure.pooled(references)
    if whole is None:
        table = measure.table(references, references).numpy()
        between = table[~np.eye(len(table), dtype=bool)]
        return NoiseCeiling(float(between.mean()), None, pooled=False)
    upper = float(measure.table([whole], references).mean())
    lower = [
        measure.from_factors(measure.pooled([*references[:i], *references[i + 1 :]]), reference)
        for i, reference in enumerate(references)
    ]
    return NoiseCeiling(float(np.mean(lower)), upper, pooled=True)
