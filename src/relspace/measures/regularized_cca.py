"""The family from CCA to Procrustes: angles of two sets after whitening in part and rotation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relspace._core.arguments import check_number
from relspace.errors import InvalidInputError
from relspace.measures._measure import Measure, Names, Range, centered, in_fewest_dimensions
from relspace.measures.cca import principal_axes, refuse_too_many_dimensions
from relspace.measures.held_out import HeldOutMeasure, same_parts
from relspace.measures.product_measure import Points, ProductMeasure, far_apart
from relspace.measures.sums.cross_products import CrossProducts, Training

# Entries of one set under several permutations at once.
_ENTRIES_AT_ONCE = 2**18


@dataclass(frozen=True, kw_only=True, repr=False)
class PartialWhitening(Measure):
    r"""A measure of features that are whitened in part.

    .. math::
        \phi(X) = X \bigl(\alpha I + (1 - \alpha) (X^\top X)^{-1/2}\bigr)

    of centred features, scaled so that their variances along the r principal axes are 1 on average
    (Williams et al. 2021, equation 8). Axes without variance are left out.

    Attributes
    ----------
    alpha : float
        From 0 (CCA, all axes count alike) to 1 (Procrustes, axes count by their size).
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= check_number(self.alpha, "alpha") <= 1.0:
            raise InvalidInputError(f"alpha is {self.alpha}; it must be from 0 to 1.")

    @property
    def invariances(self) -> Names:
        all_maps = ("channel scale", "linear map") if self.alpha == 0.0 else ()
        return ("rotation", "scale", "shift", *all_maps)

    def _whitening(self, sizes: torch.Tensor) -> torch.Tensor:
        """What features along principal axes (r,) are multiplied by, from their sizes."""
        return self.alpha / sizes.square().mean().sqrt() + (1 - self.alpha) / sizes


@dataclass(frozen=True, kw_only=True, repr=False)
class RegularizedCCA(PartialWhitening, ProductMeasure):
    r"""Angle of two sets that are whitened in part, under the best rotation.

    .. math::
        \theta = \arccos \frac{\lVert \phi(X)^\top \phi(Y) \rVert_*}
                             {\lVert \phi(X) \rVert_F \lVert \phi(Y) \rVert_F}

    It is a metric. With ``alpha=1`` it is the angular Procrustes distance; with ``alpha=0`` it
    depends on the canonical correlations alone, and is refused where :class:`CCA` is.
    """

    @property
    def range(self) -> Range:
        return (0.0, math.pi / 2)

    @property
    def chance(self) -> str:
        return "below the largest, to 0 as n_features / n_items grows"

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Points:
        basis, sizes, _ = principal_axes(X)
        return Points(basis * self._weights(sizes), len(X))

    def from_cross_products(self, products: CrossProducts) -> float:
        of_x, of_y = (self._weights(one.principal[1]) for one in (products.x, products.y))
        coupling = of_x[:, None] * products.coupling * of_y
        return float(self._of_products(coupling[None], products.n_items, products.n_items))

    @property
    def copies_of_products(self) -> int:
        return 3

    def _weights(self, sizes: torch.Tensor) -> torch.Tensor:
        """Lengths (r,) along the principal axes, all together of norm 1."""
        lengths = sizes * self._whitening(sizes)
        return lengths / lengths.square().sum().sqrt()

    def _of_products(self, products: torch.Tensor, size_x: float, size_y: float) -> torch.Tensor:
        if self.alpha == 0.0:
            refuse_too_many_dimensions(round(size_x), *products.shape[1:])
        return (1 - far_apart(torch.linalg.svdvals(products).sum(dim=1))).acos()


@dataclass(frozen=True)
class Whitened:
    """A set whitened by the items that each fold trains on.

    ``part_of`` (n,) is the fold that holds out each item, ``folds`` (n_folds, n, r) are all items
    about the mean of those trained on, ``features`` (n, d) the set itself, to within ``rounding``.
    """

    part_of: torch.Tensor
    folds: torch.Tensor
    features: torch.Tensor
    rounding: float

    @property
    def squared_length(self) -> torch.Tensor:
        """The sum of squares of all held-out items."""
        items = torch.arange(len(self.part_of), device=self.part_of.device)
        return self.folds[self.part_of, items].square().sum()


@dataclass(frozen=True, kw_only=True, repr=False)
class CrossvalidatedShape(PartialWhitening, HeldOutMeasure):
    r"""Angle of the held-out items of two sets, whitened and rotated as suits the others.

    .. math::
        \theta = \arccos \frac{\sum_f \langle \phi(X_f) Q_f, \phi(Y_f) \rangle}
            {\sqrt{\sum_f \lVert \phi(X_f) \rVert^2 \sum_f \lVert \phi(Y_f) \rVert^2}}

    over the folds f, with means, whitening and rotation of the items that are trained on. Features
    in whose span no items are trained on count for nothing. Many features can't bring unrelated
    sets together, as they do without held-out items: these are at a right angle.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        PartialWhitening.__post_init__(self)
        HeldOutMeasure.__post_init__(self)

    @property
    def range(self) -> Range:
        return (0.0, math.pi)

    @property
    def chance(self) -> str:
        return "1.57, a right angle"

    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Whitened:
        features = in_fewest_dimensions(centered(X))
        rounding = max(X.shape) * torch.finfo(X.dtype).eps
        return self._whitened(features, self._part_of(len(X)).to(X.device), rounding)

    def _whitened(self, features: torch.Tensor, part_of: torch.Tensor, rounding: float) -> Whitened:
        folds = []
        for part in range(int(part_of.max()) + 1):
            known = features[part_of != part]
            mean = known.mean(dim=0)
            _, sizes, axes = torch.linalg.svd(known - mean, full_matrices=False)
            keep = sizes > rounding * sizes[0]
            axes = axes[keep].T * self._whitening(sizes[keep])
            # All folds have one width, so that permutations can mix them.
            missing = features.shape[1] - axes.shape[1]
            folds.append(torch.nn.functional.pad((features - mean) @ axes, (0, missing)))
        return Whitened(part_of, torch.stack(folds), features, rounding)

    def from_factors(
        self, x: Whitened, y: Whitened, permutation: torch.Tensor | None = None
    ) -> float:
        if permutation is None:
            permutation = torch.arange(len(x.part_of))
        return float(self._tables([x], [y], permutation[None]))

    def _permutations_at_once(self, x: Sequence[Whitened], y: Sequence[Whitened]) -> int:
        largest = max(one.features.numel() for one in (*x, *y))
        return max(1, _ENTRIES_AT_ONCE // largest)

    def _tables(
        self, x: Sequence[Whitened], y: Sequence[Whitened], permutations: torch.Tensor
    ) -> torch.Tensor:
        permutations = permutations.to(x[0].part_of.device)
        parts = x[0].part_of[permutations]
        keeping = [same_parts(y[0].part_of, one) for one in parts]
        if all(keeping):
            rows = [[self._angles(a, b, permutations) for b in y] for a in x]
            return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).cpu()
        return torch.cat([self._anew(x, y, *one) for one in zip(permutations, parts, strict=True)])

    def _anew(
        self,
        x: Sequence[Whitened],
        y: Sequence[Whitened],
        permutation: torch.Tensor,
        part_of: torch.Tensor,
    ) -> torch.Tensor:
        """The table under a permutation that changes which items of the second set are held out."""
        others = [self._whitened(one.features, part_of, one.rounding) for one in y]
        rows = [[self._angles(a, b, permutation[None]) for b in others] for a in x]
        return torch.tensor(rows, dtype=torch.float64)[None]

    def _angles(self, x: Whitened, y: Whitened, permutations: torch.Tensor) -> torch.Tensor:
        alike = torch.zeros(len(permutations), dtype=torch.float64, device=permutations.device)
        for fold, own in enumerate(y.folds):
            is_test = y.part_of == fold
            # Each permutation brings one fold of the first set here.
            brought = x.part_of[permutations[:, is_test][:, 0]]
            other = x.folds[brought[:, None], permutations]
            train, test = (other[:, items].mT @ own[items] for items in (~is_test, is_test))
            alike += _along_the_best_rotation(train, test)
        return _angle(alike / (x.squared_length * y.squared_length).sqrt())

    def from_cross_products(self, products: CrossProducts) -> float:
        alike, squares = products.both.new_zeros(1), [0.0, 0.0]
        for fold, (of_x, of_y) in enumerate(
            zip(products.x.trainings, products.y.trainings, strict=True)
        ):
            outer = torch.outer(products.x.sums[fold], products.y.sums[fold])
            test = products.by_fold[fold]
            known = products.both - test - outer / of_x.n_items
            maps = [self._map(one) for one in (of_x, of_y)]
            along = (maps[0].T @ one @ maps[1] for one in (known, test + of_x.shift * outer))
            alike += _along_the_best_rotation(*(one[None] for one in along))
            for k, one in enumerate((of_x, of_y)):
                lengths = self._whitening(one.variances.sqrt()).square()
                squares[k] += float(lengths @ one.held_out.diagonal())
        return float(_angle(alike / math.sqrt(squares[0] * squares[1])))

    def _map(self, training: Training) -> torch.Tensor:
        return training.axes * self._whitening(training.variances.sqrt())


def _along_the_best_rotation(train: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
    """How alike (b,) held-out items are, rotated as suits the others, from products (b, r, s)."""
    left, _, right = torch.linalg.svd(train, full_matrices=False)
    alike: torch.Tensor = (test * (left @ right)).sum(dim=(1, 2))
    return alike


def _angle(alike: torch.Tensor) -> torch.Tensor:
    return (1 - far_apart(alike)).clamp(min=-1.0).acos()


MEASURES: tuple[Measure, ...] = (
    RegularizedCCA(
        name="regularized_cca",
        title="Regularised CCA angle",
        source="Williams et al. 2021, section 2, between CCA and Procrustes",
        direction="distance",
        identical=0.0,
    ),
    CrossvalidatedShape(
        name="crossvalidated_procrustes",
        title="Cross-validated Procrustes angle",
        source="Williams et al. 2021, section 2, on held-out items",
        direction="distance",
        identical=0.0,
    ),
    CrossvalidatedShape(
        name="crossvalidated_cca",
        title="Cross-validated CCA angle",
        source="Williams et al. 2021, section 2, on held-out items",
        direction="distance",
        identical=0.0,
        alpha=0.0,
    ),
)
