"""Linear predictivity: how well ridge regression predicts the features of held-out items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import torch

from relspace._core.arguments import check_choice
from relspace.kernels.ridge import best_penalty
from relspace.measures._measure import (
    Measure,
    Names,
    Range,
    centered,
    in_fewest_dimensions,
    varying,
)
from relspace.measures.held_out import HeldOutMeasure, same_parts
from relspace.measures.sums.cross_products import CrossProducts, SetProducts

_Score = TypeVar("_Score", float, torch.Tensor)

# Entries of targets that are predicted under several permutations at once.
_ENTRIES_AT_ONCE = 2**18


@dataclass(frozen=True)
class Fold:
    """Rows ``train`` and ``test`` of a set: those decomposed, and those held out.

    ``basis`` (n_train, r) and ``sizes`` (r,) are left singular vectors and singular values of the
    centred training features, ``held_out`` (n_test, r) are the others along the right ones.
    """

    train: torch.Tensor
    test: torch.Tensor
    basis: torch.Tensor
    sizes: torch.Tensor
    held_out: torch.Tensor


@dataclass(frozen=True)
class Predictor:
    """A set as predictor and as target.

    ``part_of`` (n,) is the fold that holds out each item, ``features`` (n, r) are those that
    predict, in as few dimensions as hold them, and ``target`` (n, e) those that are predicted.
    """

    part_of: torch.Tensor
    folds: tuple[Fold, ...]
    features: torch.Tensor
    target: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor, target: torch.Tensor, part_of: torch.Tensor) -> Predictor:
        """Decompose the features without each part."""
        parts = range(int(part_of.max()) + 1)
        folds = tuple(_fold(features, part_of == part) for part in parts)
        return cls(part_of, folds, features, target)

    def holding_out(self, part_of: torch.Tensor) -> Predictor:
        """The same set with other parts held out; itself if only the numbers of parts differ."""
        if same_parts(self.part_of, part_of):
            return self
        return Predictor.of(self.features, self.target, part_of)


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearPredictivity(HeldOutMeasure):
    r"""Variance of held-out items that ridge regression explains, the mean of both directions.

    .. math::
        R^2 = 1 - \frac{\sum_{f} \lVert Y_f - \hat Y_f \rVert^2}
                       {\sum_{f} \lVert Y_f - \bar Y_{-f} \rVert^2}

    over the folds f, each predicted by a ridge regression with intercept on the others. Its
    penalty minimizes the generalized cross-validation error on those others (Golub, Heath and Wahba
    1979). All features count by their variance, so the value does not change under rotation. Below
    0 it predicts worse than the mean does. Target by target, each has a penalty and an
    :math:`R^2` of its own, of which the mean is taken: every target counts alike, as every neuron
    does where a model predicts recordings.

    Both directions hold out the same items, also under permutations: items are permuted within
    folds, and folds of one size among each other. Permuted groups cut folds, so that the second set
    is decomposed anew under every permutation, which takes longer.

    Attributes
    ----------
    predicted : "both", "first" or "second"
        Which set is predicted from the other.
    targets : "together" or "each"
        Whether all targets share a penalty and their variances are summed, or each has its own.
    """

    predicted: Literal["both", "first", "second"] = "both"
    targets: Literal["together", "each"] = "together"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.predicted, "predicted", ("both", "first", "second"))
        check_choice(self.targets, "targets", ("together", "each"))

    @property
    def range(self) -> Range:
        return (-float("inf"), 1.0)

    @property
    def symmetric(self) -> bool:
        return self.predicted == "both"

    @property
    def invariances(self) -> Names:
        # Axes of the targets matter where each of them counts alike.
        return super().invariances if self.targets == "together" else ("scale", "shift")

    @property
    def chance(self) -> str:
        return "0 or a little below"

    @property
    def _one_by_one(self) -> bool:
        return self.targets == "each"

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Predictor:
        part_of = self._part_of(len(X)).to(X.device)
        points = centered(X)
        points = points / torch.linalg.matrix_norm(points)
        features = in_fewest_dimensions(points)
        target = points[:, varying(X)] if self._one_by_one else features
        return Predictor.of(features, target, part_of)

    def from_factors(
        self, x: Predictor, y: Predictor, permutation: torch.Tensor | None = None
    ) -> float:
        if permutation is None:
            permutation = torch.arange(len(x.target), device=x.target.device)
        return float(self._tables([x], [y], permutation[None]))

    def _permutations_at_once(self, x: Sequence[Predictor], y: Sequence[Predictor]) -> int:
        largest = max(one.target.numel() for one in (*x, *y))
        return max(1, _ENTRIES_AT_ONCE // largest)

    def _tables(
        self, x: Sequence[Predictor], y: Sequence[Predictor], permutations: torch.Tensor
    ) -> torch.Tensor:
        permutations = permutations.to(x[0].target.device)
        firsts = [one.target[permutations] for one in x]
        seconds = [one.target[permutations.argsort(dim=1)] for one in y]
        predictors = [self._permuted(one, x[0].part_of[permutations]) for one in y]
        values = [
            self._mean(
                partial(_explained, [a], second, one_by_one=self._one_by_one),
                partial(_explained, of_b, first, one_by_one=self._one_by_one),
            )
            for a, first in zip(x, firsts, strict=True)
            for of_b, second in zip(predictors, seconds, strict=True)
        ]
        return torch.stack(values, dim=1).view(-1, len(x), len(y)).cpu()

    def _permuted(self, own: Predictor, parts: torch.Tensor) -> list[Predictor]:
        """Hold out given parts (b, n) in a set: one predictor for all, or one each."""
        if self.predicted == "second":
            return [own]
        found = [own.holding_out(part_of) for part_of in parts]
        return found if any(one is not own for one in found) else [own]

    def from_cross_products(self, products: CrossProducts) -> float:
        x, y, by_fold = products.x, products.y, products.by_fold
        return self._mean(
            lambda: _explained_by_sums(x, y, by_fold, one_by_one=self._one_by_one),
            lambda: _explained_by_sums(y, x, by_fold.mT, one_by_one=self._one_by_one),
        )

    def _mean(self, of_second: Callable[[], _Score], of_first: Callable[[], _Score]) -> _Score:
        """The mean of the scores of the sets that ``predicted`` names."""
        asked = {"both": (of_second, of_first), "second": (of_second,), "first": (of_first,)}
        first, *others = (one() for one in asked[self.predicted])
        return (first + others[0]) / 2 if others else first


def _fold(X: torch.Tensor, is_test: torch.Tensor) -> Fold:
    test, train = is_test.nonzero().flatten(), (~is_test).nonzero().flatten()
    mean = X[train].mean(dim=0)
    basis, sizes, axes = torch.linalg.svd(X[train] - mean, full_matrices=False)
    keep = sizes > max(X.shape) * torch.finfo(X.dtype).eps * sizes[0]
    return Fold(train, test, basis[:, keep], sizes[keep], (X[test] - mean) @ axes[keep].T)


def _explained(
    predictors: Sequence[Predictor], targets: torch.Tensor, *, one_by_one: bool
) -> torch.Tensor:
    """Share of the variance of targets (b, n, e) that one predictor, or one each, explains."""
    if len(predictors) > 1:
        each = zip(predictors, targets[:, None], strict=True)
        return torch.cat([_explained([one], target, one_by_one=one_by_one) for one, target in each])

    def summed(values: torch.Tensor) -> torch.Tensor:
        return values if one_by_one else values.sum(dim=-1, keepdim=True)

    missed = total = targets.new_zeros(1)
    for fold in predictors[0].folds:
        known = targets[:, fold.train]
        mean = known.mean(dim=1, keepdim=True)
        known = known - mean
        projected = fold.basis.T @ known
        variances = fold.sizes.square()
        penalty = best_penalty(
            variances,
            summed(projected.square()).mT,
            summed(known.square().sum(dim=1)),
            known.shape[1],
        )
        weights = fold.sizes[:, None] / (variances[:, None] + penalty[:, None])
        wanted = targets[:, fold.test] - mean
        misses = wanted - fold.held_out @ (weights * projected)
        missed = missed + summed(misses.square().sum(dim=1))
        total = total + summed(wanted.square().sum(dim=1))
    return (1.0 - missed / total).mean(dim=1)


def _explained_by_sums(
    own: SetProducts, target: SetProducts, both: torch.Tensor, *, one_by_one: bool
) -> float:
    """The same from sums over folds; ``both`` (n_folds, d, e) holds products with the target."""
    all_squares = target.by_fold.diagonal(dim1=1, dim2=2)
    all_sums = target.sums
    if one_by_one:
        both, all_squares, all_sums = (
            of[..., target.varying] for of in (both, all_squares, all_sums)
        )

    def summed(values: torch.Tensor) -> torch.Tensor:
        return values if one_by_one else values.sum(dim=-1, keepdim=True)

    missed = total = both.new_zeros(1)
    all_products = both.sum(dim=0)
    for fold, training in enumerate(own.trainings):
        # Centring at the mean of the items trained on corrects products by those of the sums.
        sums, squares = all_sums[fold], all_squares[fold]
        outer = torch.outer(own.sums[fold], sums)
        known = all_products - both[fold] - outer / training.n_items
        known_squares = all_squares.sum(dim=0) - squares - sums.square() / training.n_items
        projected = training.axes.T @ known
        penalty = best_penalty(
            training.variances,
            summed(projected.square()).T / training.variances,
            summed(known_squares),
            training.n_items,
        )
        weights = projected / (training.variances[:, None] + penalty)
        wanted = training.axes.T @ (both[fold] + training.shift * outer)
        of_wanted = summed(squares + training.shift * sums.square())
        explained = weights * (2 * wanted - training.held_out @ weights)
        missed = missed + of_wanted - summed(explained.sum(dim=0))
        total = total + of_wanted
    return float((1.0 - missed / total).mean())


MEASURES: tuple[Measure, ...] = (
    LinearPredictivity(
        name="linear_predictivity",
        title="Linear predictivity",
        source="Yamins et al. 2014; cross-validated ridge regression, both directions",
    ),
    LinearPredictivity(
        name="target_predictivity",
        title="Predictivity of each target",
        source="Yamins et al. 2014; a penalty for each target, as in himalaya",
        targets="each",
    ),
)
