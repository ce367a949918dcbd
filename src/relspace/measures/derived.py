"""Measures that are made from another one, and have its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from relspace.measures._measure import Measure, Names, Range


@dataclass(frozen=True, kw_only=True, repr=False)
class DerivedMeasure(Measure):
    """A measure with the record of another one.

    Attributes
    ----------
    base : Measure
        The other measure.
    """

    base: Measure

    @property
    def range(self) -> Range:
        return self.base.range

    @property
    def invariances(self) -> Names:
        return self.base.invariances

    @property
    def computed_in(self) -> torch.dtype:
        return self.base.computed_in

    @property
    def chance(self) -> str:
        return self.base.chance

    @property
    def parameters(self) -> dict[str, Any]:
        return self.base.parameters
