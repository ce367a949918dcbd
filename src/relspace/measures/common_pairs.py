"""Dissimilarities of which some are missing, compared on the pairs that both sets have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from relspace._core.arguments import name_some
from relspace.errors import InvalidInputError, UndefinedValueError
from relspace.kernels.scale import to_unit_scale
from relspace.measures._measure import Measure
from relspace.measures.derived import DerivedMeasure
from relspace.measures.dissimilarities import Dissimilarities
from relspace.measures.pair_matrix import kept_pair_matrix
from relspace.measures.rsa import (
    RSA,
    KendallRSA,
    above_diagonal,
    pair_distances,
    ranks_of_pairs,
)

_FEWEST_PAIRS = 3
# What is made of sums over pairs, of many permutations at once.
_OF_SUMS = ("correlation", "cosine")
_ENTRIES_AT_ONCE = 2**20
# Of products of dissimilarities, when those of a set are all the same.
_NO_STRUCTURE = 2.0**-46
_COMPARISONS = ("correlation", "cosine", "spearman", "kendall")


def on_common_pairs(measure: Measure) -> Measure:
    """The same measure, on the pairs of items that both sets have."""
    if not isinstance(measure, RSA | KendallRSA) or _comparison_of(measure) not in _COMPARISONS:
        raise InvalidInputError(
            f"the measure {measure.name} can't leave out pairs of items that are missing; take "
            "rsa, rsa_spearman, rsa_kendall or rsa_cosine, or items without missing pairs."
        )
    return CommonPairs(name=measure.name, title=measure.title, source=measure.source, base=measure)


def _comparison_of(measure: RSA | KendallRSA) -> str:
    return measure.comparison if isinstance(measure, RSA) else "kendall"


@dataclass(frozen=True, eq=False)
class PairValues:
    """Dissimilarities (n, n) with NaN for missing pairs, and a mask of those above the diagonal.

    The largest magnitude is in [1, 2), so that no product of two overflows.
    """

    values: torch.Tensor
    above: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, repr=False)
class CommonPairs(DerivedMeasure):
    """A comparison of dissimilarities on the pairs that both sets have, under each permutation.

    Attributes
    ----------
    base : RSA or KendallRSA
        The measure.
    """

    base: RSA | KendallRSA

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> PairValues:
        ranked = _comparison_of(self.base) in ("spearman", "kendall")
        return _pair_values(pair_distances(X, self.base.distance, name, ranked=ranked))

    def _factor_of_pairs(self, given: Dissimilarities, name: str) -> PairValues:
        return _pair_values(given.values)

    def from_factors(
        self, x: PairValues, y: PairValues, permutation: torch.Tensor | None = None
    ) -> float:
        left = x.values if permutation is None else x.values[permutation][:, permutation]
        both = torch.stack([left[x.above], y.values[x.above]])
        present = ~both.isnan().any(dim=0)
        return _compare(both[:, present], _comparison_of(self.base))

    def on_pairs_of_all(self, factors: Sequence[PairValues]) -> tuple[Measure, list[Any]]:
        """The base measure, and its factors of the same sets on the pairs that all of them have."""
        lacking = torch.stack([one.values.isnan() for one in factors]).any(dim=0)
        above = factors[0].above & ~lacking
        if int(above.sum()) < _FEWEST_PAIRS:
            raise _too_few(int(above.sum()))
        return self.base, [self._factor_on(one.values, above) for one in factors]

    def _factor_on(self, values: torch.Tensor, above: torch.Tensor) -> Any:
        comparison = _comparison_of(self.base)
        chosen = values[above]
        if comparison != "cosine" and not bool(chosen.max() > chosen.min()):
            raise _equally_alike("all common pairs of a set")
        if comparison in ("kendall", "spearman"):
            matrix = ranks_of_pairs(values, above)
        else:
            matrix = torch.zeros_like(values)
            matrix[above] = chosen if comparison == "cosine" else chosen - chosen.mean()
            matrix = matrix + matrix.T
        if isinstance(self.base, KendallRSA):
            return self.base.ranked(matrix, above)
        return kept_pair_matrix(matrix, "a set, on the pairs that all sets have,")

    def _permutations_at_once(self, x: Sequence[PairValues], y: Sequence[PairValues]) -> int:
        if _comparison_of(self.base) not in _OF_SUMS:
            return 1
        return max(1, _ENTRIES_AT_ONCE // len(y[0]) ** 2)

    def _tables(
        self, x: Sequence[PairValues], y: Sequence[PairValues], permutations: torch.Tensor
    ) -> torch.Tensor:
        if _comparison_of(self.base) not in _OF_SUMS:
            return super()._tables(x, y, permutations)
        taken = permutations.to(x[0].values.device)
        rows = []
        for a in x:
            # Pairs above the diagonal, in the order of the items of the second set.
            i, j = a.above.nonzero().T
            left = a.values[taken[:, i], taken[:, j]]
            centred = _comparison_of(self.base) == "correlation"
            rows.append([_cosines(left, b.values[i, j], centred=centred) for b in y])
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1).cpu()


def _cosines(many: torch.Tensor, one: torch.Tensor, *, centred: bool) -> torch.Tensor:
    """Cosines, or correlations, of rows (b, m) with one (m,), each without the pairs it lacks."""
    present = ~(many.isnan() | one.isnan())
    n_common = present.sum(dim=1)
    if int(n_common.min()) < _FEWEST_PAIRS:
        raise _too_few(int(n_common.min()))
    sides = [torch.where(present, side, 0.0) for side in (many, one)]
    if centred:
        sides = [
            torch.where(present, side - side.sum(dim=1, keepdim=True) / n_common[:, None], 0.0)
            for side in sides
        ]
    a, b = sides
    sizes = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    rounding = _NO_STRUCTURE * many.nan_to_num().abs().max() * one.nan_to_num().abs().max()
    if bool((sizes <= rounding * n_common).any()):
        raise _equally_alike("all common pairs of a set")
    return ((a * b).sum(dim=1) / sizes).clamp(-1.0, 1.0)


def _too_few(n_pairs: int) -> UndefinedValueError:
    return UndefinedValueError(
        f"the sets have {n_pairs} pairs of items in common; a comparison needs at least "
        f"{_FEWEST_PAIRS}."
    )


def _equally_alike(what: str) -> UndefinedValueError:
    return UndefinedValueError(f"{what} are equally alike, so there is no structure to compare.")


def _pair_values(matrix: torch.Tensor) -> PairValues:
    missing = matrix.isnan()
    scaled = to_unit_scale(matrix.masked_fill(missing, 0.0))[0]
    return PairValues(scaled.masked_fill(missing, math.nan), above_diagonal(matrix))


def _compare(pairs: torch.Tensor, comparison: str) -> float:
    """Compare two rows of dissimilarities (2, m)."""
    from scipy.stats import kendalltau, rankdata

    if pairs.shape[1] < _FEWEST_PAIRS:
        raise _too_few(pairs.shape[1])
    a, b = pairs.cpu().numpy()
    constant = [name for name, row in (("first", a), ("second", b)) if not row.max() > row.min()]
    if constant and comparison != "cosine":
        raise _equally_alike(f"all common pairs of the {name_some(constant)} set")
    if comparison == "kendall":
        untied = 1.0
        n_pairs = len(a) * (len(a) - 1) / 2
        for row in (a, b):
            ties = np.unique(row, return_counts=True)[1]
            untied *= 1 - float(ties @ (ties - 1.0)) / 2 / n_pairs
        # tau-b leaves tied pairs out of its denominator; tau-a counts them.
        return float(kendalltau(a, b, variant="b").statistic) * math.sqrt(untied)
    if comparison == "spearman":
        a, b = rankdata(a), rankdata(b)
    if comparison != "cosine":
        a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    if size == 0.0:
        raise UndefinedValueError("all common pairs of a set are 0: there is nothing to compare.")
    return min(1.0, max(-1.0, float(a @ b) / size))
