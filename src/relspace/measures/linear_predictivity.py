"""Linear predictivity: how well ridge regression predicts the features of held-out items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from relspace._validation import check_choice, check_count, check_random_state
from relspace.errors import InvalidInputError
from relspace.measures._base import Measure, centered, in_fewest_dimensions

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
    penalty is the one of the smallest leave-one-out error on those others (Allen 1974). All
    features count by their variance, so the value does not change under rotation. Below 0 it
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
        n = len(X)
        if n < 2 * self.n_folds:
            raise InvalidInputError(
                f"{name} has {n} items, too few to hold out {self.n_folds} parts of at least 2; "
                "give more items or ask for a smaller n_folds."
            )
        target = in_fewest_dimensions(centered(X))
        target = target / torch.linalg.matrix_norm(target)
        generator = torch.Generator().manual_seed(self.random_state)
        parts = torch.randperm(n, generator=generator).to(X.device).chunk(self.n_folds)
        return Predictor(tuple(_fold(target, part) for part in parts), target)

    def from_factors(
        self, x: Predictor, y: Predictor, permutation: torch.Tensor | None = None
    ) -> float:
        """Compare two sets by how well each predicts the other."""
        first, second = x.target, y.target
        if permutation is not None:
            first = first[permutation]
            second = second[permutation.argsort()]
        scores = []
        if self.predicted != "first":
            scores.append(_explained(x, second))
        if self.predicted != "second":
            scores.append(_explained(y, first))
        return sum(scores) / len(scores)


def _fold(X: torch.Tensor, test: torch.Tensor) -> Fold:
    is_test = torch.zeros(len(X), dtype=torch.bool, device=X.device)
    is_test[test] = True
    train = (~is_test).nonzero().flatten()
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
        penalty = _best_penalty(fold, known, projected)
        weights = fold.sizes / (fold.sizes.square() + penalty)
        wanted = target[fold.test] - mean
        missed += float((wanted - fold.held_out @ (weights[:, None] * projected)).square().sum())
        total += float(wanted.square().sum())
    return 1.0 - missed / total


def _best_penalty(fold: Fold, known: torch.Tensor, projected: torch.Tensor) -> float:
    """The penalty of the smallest leave-one-out error, which follows from one fit of each."""
    variance = float(fold.sizes.square().sum())
    errors = []
    for relative in PENALTIES:
        kept = fold.sizes.square() / (fold.sizes.square() + relative * variance)
        residual = known - fold.basis @ (kept[:, None] * projected)
        leverage = fold.basis.square() @ kept + 1 / len(known)
        left_out = (1 - leverage).clamp_min(torch.finfo(known.dtype).eps)
        errors.append(float((residual / left_out[:, None]).square().sum()))
    return PENALTIES[errors.index(min(errors))] * variance


MEASURES: tuple[Measure, ...] = (
    LinearPredictivity(
        name="linear_predictivity",
        title="Linear predictivity",
        source="Yamins et al. 2014; cross-validated ridge regression, both directions",
    ),
)
