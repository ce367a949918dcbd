"""Provenance of a comparison: what was measured, on which items, against which null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.items import ItemId
from relspace._core.limits import DEFAULT_ALPHA
from relspace._core.versions import __version__
from relspace.errors import InvalidInputError
from relspace.measures import Measure
from relspace.resampling import critical_value, scores_beyond

_Value = TypeVar("_Value")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on, as imported."""
    return {
        "relspace": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def fewest_permutations(alpha: float) -> int:
    """How many permutations it takes for p-values as small as alpha."""
    return math.ceil(1 / alpha - 1e-9) - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Provenance:
    """How a comparison was made, so that it can be repeated.

    Attributes
    ----------
    measure : Measure
        What was measured; ``measure.parameters`` are its settings.
    n_items : int
        Items compared.
    n_available : int
        How many items there were; more than ``n_items`` where a random part was compared.
    n_units : int
        Groups of items that were permuted and resampled; the items, where there are no groups.
    matched_by : str
        Whether rows were matched by ``"ids"`` or by ``"position"``.
    ids : tuple or None
        The ids of the items compared, in the order of the first set; None by position.
    null_by : str
        ``"permutations"`` of the items, or ``"limit"``: draws from the normal distribution that
        permutations of many items have, where items were summed over.
    n_permutations : int
        How many permutations were asked for; 0 for no p-values.
    random_state : int
        Seed of everything random.
    alpha : float
        Level of the test that thresholds and calibrated scores refer to.
    left_out : mapping of str to str
        Layers (``"model, layer"``) on which the measure has no value, and why.
    missing_pairs : mapping of str to int
        Of sets that are dissimilarities with gaps, how many pairs of items are left out.
    recall : float or None
        The share of the nearest neighbours that an approximate index found, in the set where it
        found fewest; None where they are exact, or none were looked for.
    versions : mapping of str to str
        Of the libraries.
    """

    measure: Measure
    n_items: int
    n_available: int
    n_units: int
    matched_by: str
    ids: tuple[ItemId, ...] | None
    null_by: str
    n_permutations: int
    random_state: int
    alpha: float = DEFAULT_ALPHA
    left_out: Mapping[str, str] = field(default_factory=dict)
    missing_pairs: Mapping[str, int] = field(default_factory=dict)
    recall: float | None = None
    versions: Mapping[str, str] = field(default_factory=library_versions)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without the ids, which the features hold."""
        return {
            "measure": self.measure.name,
            "parameters": self.measure.parameters,
            "direction": self.measure.direction,
            "left_out": dict(self.left_out),
            "n_items": self.n_items,
            "n_units": self.n_units,
            "n_available": self.n_available,
            "null_by": self.null_by,
            "matched_by": self.matched_by,
            "n_permutations": self.n_permutations,
            "random_state": self.random_state,
            "recall": self.recall,
            "alpha": self.alpha,
            "missing_pairs": dict(self.missing_pairs),
            "versions": dict(self.versions),
        }


class Recorded(Generic[_Value]):
    """An attribute of the provenance, as an attribute of the result."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...
    @overload
    def __get__(self, result: Compared, owner: type) -> _Value: ...
    def __get__(self, result: Compared | None, owner: type) -> Any:
        return self if result is None else vars(result.provenance)[self._name]


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Compared:
    """Base of the results of comparisons."""

    provenance: Provenance

    measure = Recorded[Measure]()
    n_items = Recorded[int]()
    n_available = Recorded[int]()
    n_units = Recorded[int]()
    matched_by = Recorded[str]()
    null_by = Recorded[str]()
    n_permutations = Recorded[int]()
    random_state = Recorded[int]()
    alpha = Recorded[float]()
    left_out = Recorded[Mapping[str, str]]()
    recall = Recorded[float | None]()
    versions = Recorded[Mapping[str, str]]()

    @property
    def _said_of_recall(self) -> str:
        """The end of a line about the comparison, where neighbours are approximate."""
        return "" if self.recall is None else f", neighbours approximate, recall {self.recall:.4f}"

    @property
    def is_calibrated(self) -> bool:
        """Whether scores can be calibrated: permutations enough, and a value of identical sets."""
        return self._has_enough_permutations and math.isfinite(self.measure.identical)

    @property
    def _has_enough_permutations(self) -> bool:
        """Whether p-values can be as small as alpha."""
        return self.n_permutations >= fewest_permutations(self.alpha)

    @property
    def _larger(self) -> bool:
        """Whether larger values are more alike."""
        return self.measure.direction == "similarity"

    def _threshold(self, value: float, null: NDArray[np.float64]) -> float:
        return critical_value(value, null, alpha=self.alpha, larger=self._larger)

    def _calibrate(
        self, values: NDArray[np.float64], thresholds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        measure = self.measure
        if not math.isfinite(measure.identical):
            raise InvalidInputError(
                f"the measure {measure.name} has no value for identical sets "
                f"({measure.identical}), which a calibrated score is a share of; read its "
                "p-value, or take another measure."
            )
        if not self._has_enough_permutations:
            raise InvalidInputError(
                f"n_permutations is {self.n_permutations}, with which no p-value is as small as "
                f"alpha, {self.alpha:g}, and every calibrated score would be 0: ask for "
                f"n_permutations={fewest_permutations(self.alpha)} or more."
            )
        return scores_beyond(values, thresholds, measure.identical, larger=self._larger)
