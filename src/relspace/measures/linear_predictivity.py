"""Linear predictivity: how well ridge regression predicts the features of held-out items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from relspace._validation import check_choice, check_count, check_random_state
from relspace.errors import InvalidInputError
from relspace.measures._base import Measure, centered, in_fewest_dimensions
from relspace.measures.cross_products import CrossProducts
from relspace.measures.folded_products import FoldedSet, FoldedTargets
from relspace.measures.item_parts import RandomParts

#: Penalties tried, in units of the total variance of the predicting features.
PENALTIES = tuple(10.0**power for power in range(-9, 3))


@dataclass(frozen=True)
class Fold:
    """A set's features of the items trained on, decomposed, and of the items held out.

    Attributes
    ----------
    train, test : LongTensor
        Rows trained on and held out.
    basis, sizes : tensor of shape (n_train, r) and (r,)
        Left singular vectors and singular values of the centred features trained on.
    held_out : tensor of shape (n_test, r)
        Features of held-out items along the right singular vectors.
    """

    train: torch.Tensor
    test: torch.Tensor
    basis: torch.Tensor
    sizes: torch.Tensor
    held_out: torch.Tensor


@dataclass(frozen=True)
class Predictor:
    """What a set needs to predict another, and what of it is predicted.

    Attributes
    ----------
    folds : tuple of Fold
        One per part that is held out.
    target : tensor of shape (n, r)
        The features in as few dimensions as hold them.
    """

    folds: tuple[Fold, ...]
    target: torch.Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearPredictivity(Measure):
    r"""Variance of held-out items that ridge regression explains, the mean of both directions.

    .. math::
        R^2 = 1 - \frac{\sum_{f} \lVert Y_f - \hat Y_f \rVert^2}
                       {\sum_{f} \lVert Y_f - \bar Y_{-f} \rVert^2}

    over the folds f, each predicted by a ridge regression with intercept on the others. Its
    penalty is the one of the smallest generalized cross-validation error on those others, which
    is leave-one-out's without regard to how items' leverages differ (Golub, Heath and Wahba 1979).
    All features count by their variance, so the value does not change under rotation. Below 0 it
    predicts worse than the mean does.

    Attributes
    ----------
    n_folds : int
        In how many parts items are held out.
    predicted : "both", "first" or "second"
        Which set is predicted from the other.
    random_state : int
        Seed of the parts.
    """

    n_folds: int = 5
    predicted: Literal["both", "first", "second"] = "both"
    random_state: int = 0

    def __post_init__(self) -> None:
        check_count(self.n_folds, "n_folds", at_least=2)
        check_choice(self.predicted, "predicted", ("both", "first", "second"))
        check_random_state(self.random_state)

    @property
    def range(self) -> tuple[float, float]:
        return (-float("inf"), 1.0)

    @property
    def symmetric(self) -> bool:
        return self.predicted == "both"

    @property
    def invariances(self) -> tuple[str, ...]:
        return ("rotation", "scale", "shift")

    @property
    def chance(self) -> str:
        return "0 or a little below"

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Predictor:
        fold_of = self.folds(len(X))(0, len(X)).to(X.device)
        target = in_fewest_dimensions(centered(X))
        target = target / torch.linalg.matrix_norm(target)
        return Predictor(
            tuple(_fold(target, fold_of == fold) for fold in range(self.n_folds)), target
        )

    def from_factors(
        self, x: Predictor, y: Predictor, permutation: torch.Tensor | None = None
    ) -> float:
        """Compare two sets by how well each predicts the other."""
        first, second = x.target, y.target
        if permutation is not None:
            first = first[permutation]
            second = second[permutation.argsort()]
        return self._mean(lambda: _explained(x, second), lambda: _explained(y, first))

    def folds(self, n_items: int) -> RandomParts:
        """The parts of the items that are held out in turn."""
        if n_items < 2 * self.n_folds:
            raise InvalidInputError(
                f"there are {n_items} items, too few to hold out {self.n_folds} parts of at least "
                "2; give more items or ask for a smaller n_folds."
            )
        return RandomParts(n_items, self.n_folds, self.random_state)

    def from_cross_products(self, products: CrossProducts) -> float:
        """Compare two sets by sums over the items of each fold."""
        folds = products.folds
        assert folds is not None
        return self._mean(
            lambda: _explained_by_sums(folds.x, folds.y_by_x),
            lambda: _explained_by_sums(folds.y, folds.x_by_y),
        )

    def _mean(self, of_second: Callable[[], float], of_first: Callable[[], float]) -> float:
        """The mean of how well the sets are predicted that are to be."""
        asked = {"both": (of_second, of_first), "second": (of_second,), "first": (of_first,)}
        scores = [one() for one in asked[self.predicted]]
        return sum(scores) / len(scores)


def _fold(X: torch.Tensor, is_test: torch.Tensor) -> Fold:
    test, train = is_test.nonzero().flatten(), (~is_test).nonzero().flatten()
    mean = X[train].mean(dim=0)
    basis, sizes, axes = torch.linalg.svd(X[train] - mean, full_matrices=False)
    keep = sizes > max(X.shape) * torch.finfo(X.dtype).eps * sizes[0]
    return Fold(train, test, basis[:, keep], sizes[keep], (X[test] - mean) @ axes[keep].T)


def _explained(predictor: Predictor, target: torch.Tensor) -> float:
    """Share of the target's variance that is predicted, over all folds."""
    missed = total = 0.0
    for fold in predictor.folds:
        mean = target[fold.train].mean(dim=0)
        known = target[fold.train] - mean
        projected = fold.basis.T @ known
        variances = fold.sizes.square()
        penalty = _best_penalty(
            variances, projected.square().sum(dim=1), float(known.square().sum()), len(known)
        )
        weights = fold.sizes / (variances + penalty)
        wanted = target[fold.test] - mean
        missed += float((wanted - fold.held_out @ (weights[:, None] * projected)).square().sum())
        total += float(wanted.square().sum())
    return 1.0 - missed / total


def _explained_by_sums(own: FoldedSet, target: FoldedTargets) -> float:
    """The same, from sums of products over the items of each fold."""
    missed = total = 0.0
    for fold, training in enumerate(own.trainings):
        known, squares = target.of_training(own, fold)
        projected = training.axes.T @ known
        penalty = _best_penalty(
            training.variances,
            projected.square().sum(dim=1) / training.variances,
            squares,
            training.n_items,
        )
        weights = projected / (training.variances + penalty)[:, None]
        wanted, of_wanted = target.held_out(own, fold)
        missed += of_wanted - 2 * float((weights * (training.axes.T @ wanted)).sum())
        missed += float((training.held_out @ weights * weights).sum())
        total += of_wanted
    return 1.0 - missed / total


def _best_penalty(
    variances: torch.Tensor, explained: torch.Tensor, squares: float, n_items: int
) -> float:
    """The penalty of the smallest generalized cross-validation error.

    Parameters
    ----------
    variances : tensor of shape (r,)
        Sums of squares of the predicting features along their principal axes.
    explained : tensor of shape (r,)
        Sums of squares of the target that each axis explains without a penalty.
    squares : float
        Sum of squares of the centred target.
    n_items : int
        Items.
    """
    penalties = torch.tensor(PENALTIES, dtype=variances.dtype, device=variances.device)
    penalties = penalties[:, None] * variances.sum()
    left = penalties / (variances + penalties)
    unused = n_items - 1 - len(variances)
    # As many axes as items explain everything; what rounding leaves is nothing.
    outside = max(0.0, squares - float(explained.sum())) if unused else 0.0
    errors = (outside + left.square() @ explained) / (unused + left.sum(dim=1)).square()
    return float(penalties[errors.argmin()])


MEASURES: tuple[Measure, ...] = (
    LinearPredictivity(
        name="linear_predictivity",
        title="Linear predictivity",
        source="Yamins et al. 2014; cross-validated ridge regression, both directions",
    ),
)
