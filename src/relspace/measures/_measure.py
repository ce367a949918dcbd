"""What a measure of representational similarity is: a function with a record of its properties."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Literal

import torch

from relspace._core.labelled_tables import refuse_other_labels
from relspace._core.matrices import as_features
from relspace._core.memory import free_memory_bytes, say_bytes
from relspace._core.resources import Resources
from relspace._core.threads import on_one_core, side_by_side
from relspace.errors import (
    BandwidthError,
    InvalidInputError,
    ItemMismatchError,
    MemoryBudgetError,
    RelspaceWarning,
)
from relspace.kernels.scale import to_unit_scale
from relspace.measures.dissimilarities import Dissimilarities
from relspace.measures.sums.cross_products import CrossProducts
from relspace.measures.sums.item_parts import RandomParts
from relspace.measures.sums.item_sums import constant_features
from relspace.resampling import Permutations, shift_families

Direction = Literal["similarity", "distance"]
Range = tuple[float, float]
Names = tuple[str, ...]

#: The fewest items that can be compared.
MIN_ITEMS = 4

# Up to so many entries of features, and of a matrix over pairs, threads that share one operation
# wait for each other longer than they work.
_ENTRIES_OF_ONE_CORE = 2**20
# Batches of permutations that are dispatched together, and how many batches there are at least.
_BATCHES_OF_LOT = 32
_FEWEST_BATCHES = 8

#: Chance of biased measures: n items always lie in n dimensions.
WIDE_FEATURES_LOOK_ALIKE = "above 0, to 1 as n_features / n_items grows"

#: What can be done to the features of one set without changing a measure that is invariant to it.
TRANSFORMATIONS = {
    "rotation": "a rotation or reflection of the axes",
    "scale": "one factor for all features",
    "shift": "one vector added to all items",
    "item scale": "a positive factor for each item",
    "item shift": "a number for each item, added to all its features",
    "channel scale": "a factor for each feature",
    "linear map": "any invertible linear map of the features",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Measure(ABC):
    """A measure of how similar two sets of features of the same items are.

    Calling it compares two sets. What depends on one set alone is its factor (:meth:`prepare`).
    Comparing many pairs of sets, or one pair under many permutations of items, then costs only
    :meth:`from_factors` each.

    Attributes
    ----------
    name, title : str
        The name for :func:`relspace.measures.get`, and the one in tables and figures.
    direction : "similarity" or "distance"
        Whether larger values mean more alike or less.
    identical : float
        The value of a set compared with itself.
    source : str
        Where it is defined.
    """

    name: str
    title: str
    source: str
    direction: Direction = "similarity"
    identical: float = 1.0

    @property
    def range(self) -> Range:
        """The smallest and the largest possible value."""
        return (-1.0, 1.0)

    @property
    def symmetric(self) -> bool:
        """Whether the order of the sets does not matter."""
        return True

    @property
    def invariances(self) -> Names:
        """Which of :data:`TRANSFORMATIONS` of either set leave the value as it is."""
        return ("rotation", "scale", "shift")

    @property
    def computed_in(self) -> torch.dtype:
        """What features of other types than float32 and float64 are converted to."""
        return torch.float32

    @property
    @abstractmethod
    def chance(self) -> str:
        """What unrelated features give, in words."""

    @property
    def permutations_for_chance(self) -> int:
        """How many permutations estimate the chance level, where it has no closed form."""
        return 20

    @property
    def unbiased(self) -> bool:
        """Whether unrelated features give 0 on average, whatever their numbers and widths."""
        return self.chance == "0"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of ``measures.get(name, ...)`` and their values."""
        common = {field.name for field in fields(Measure)}
        return {f.name: vars(self)[f.name] for f in fields(self) if f.name not in common}

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"Measure({self.name!r}{settings})"

    def to_dict(self) -> dict[str, Any]:
        """The record in plain values, ready for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "direction": self.direction,
            "range": list(self.range),
            "identical": self.identical,
            "symmetric": self.symmetric,
            "invariances": list(self.invariances),
            "chance": self.chance,
            "source": self.source,
            "parameters": self.parameters,
        }

    def __call__(self, X: object, Y: object) -> float:
        """Compare two sets of features of the same items, row by row.

        Parameters
        ----------
        X, Y : array-like of shape (n, d) and (n, e)
            Features; rows are paired by position.

        Returns
        -------
        float
            The value, see ``direction``, ``range`` and ``chance``.

        Raises
        ------
        ItemMismatchError
            If the sets differ in their number of items.
        InvalidInputError
            If features are not finite, constant, too few, or the measure is undefined on them.
        """
        if isinstance(X, Dissimilarities) or isinstance(Y, Dissimilarities):
            return self._of_pairs(X, Y)
        x, y = (
            as_features(Z, name, dtype=self.computed_in).tensor for Z, name in ((X, "X"), (Y, "Y"))
        )
        refuse_other_labels(X, Y, ("X", "Y"))
        if len(x) != len(y):
            raise ItemMismatchError(
                f"X has {len(x)} items and Y has {len(y)}: a measure compares features of the "
                "same items, row by row; select the shared items first."
            )
        return self.from_factors(self.prepare(x, "X"), self.prepare(y.to(x.device), "Y"))

    def _of_pairs(self, X: object, Y: object) -> float:
        """Compare two sets of which one at least is a matrix over pairs, row by row."""
        from relspace.measures.common_pairs import on_common_pairs

        x, y = (
            one if isinstance(one, Dissimilarities) else as_features(one, name).tensor
            for one, name in ((X, "X"), (Y, "Y"))
        )
        if len(x) != len(y):
            raise ItemMismatchError(
                f"X has {len(x)} items and Y has {len(y)}: select the shared items first."
            )
        missing = any(isinstance(one, Dissimilarities) and one.n_missing for one in (x, y))
        measure = on_common_pairs(self) if missing else self
        return measure.from_factors(measure.prepare(x, "X"), measure.prepare(y.to(x.device), "Y"))

    def prepare(self, X: object, name: str = "X", *, memory_budget: int | None = None) -> Any:
        """Compute the factor of one set: what depends on it alone.

        Where a measure is invariant to scale, features are first brought to unit scale by a power
        of two, which is exact: the value is right at any scale that the features' type can hold.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.
        name : str
            The name of the set in errors.
        memory_budget : int, optional
            Bytes that the factor may take beyond the features, for a measure that can do with
            less. A sixteenth of the free memory by default.
        """
        if isinstance(X, Dissimilarities):
            if len(X) < MIN_ITEMS:
                raise InvalidInputError(
                    f"{name} has {len(X)} items; a comparison needs at least {MIN_ITEMS}."
                )
            return self._factor_of_pairs(X, name)
        features = as_features(X, name, dtype=self.computed_in).tensor.detach()
        if len(features) < MIN_ITEMS:
            raise InvalidInputError(
                f"{name} has {len(features)} items; a comparison needs at least {MIN_ITEMS}."
            )
        if "scale" in self.invariances:
            features = to_unit_scale(features)[0]
        _refuse_constant(features, name)
        _warn_of_pair_matrix(features, name)
        if memory_budget is None:
            memory_budget = Resources(device=features.device).for_blocks() // 4

        def work() -> Any:
            return self._factor(features, name, memory_budget)

        try:
            with torch.no_grad():
                small = is_small(*features.shape)
                return on_one_core(work, features.device) if small else work()
        except BandwidthError as error:
            raise error.about(name) from error

    @abstractmethod
    def _factor(self, X: torch.Tensor, name: str, memory_budget: int) -> Any:
        """Compute the factor of checked features."""

    def _factor_of_pairs(self, given: Dissimilarities, name: str) -> Any:
        """Compute the factor of given dissimilarities, where a measure compares such."""
        raise InvalidInputError(
            f"{name} holds dissimilarities, and the measure {self.name} reads features; "
            "take rsa, rsa_spearman, rsa_kendall or rsa_cosine."
        )

    @abstractmethod
    def from_factors(self, x: Any, y: Any, permutation: torch.Tensor | None = None) -> float:
        """Compare two sets by their factors.

        Parameters
        ----------
        x, y
            Factors made by :meth:`prepare`.
        permutation : LongTensor of shape (n,), optional
            The item of the first set that is paired with each item of the second.
        """

    def pooled(self, factors: Sequence[Any]) -> Any | None:
        """The factor of a set that is the mean of several; None where sets have no mean.

        A measure that is a cosine has one: it is as alike to the sets, on average, as any set can
        be.
        """
        return None

    def table(
        self, x: Sequence[Any], y: Sequence[Any], permutation: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare every set of one list with every set of another by their factors.

        Returns
        -------
        tensor of shape (len(x), len(y))
            Values in float64.
        """

        def compare(pair: tuple[Any, Any]) -> float:
            return self.from_factors(*pair, permutation)

        pairs = [(one, other) for one in x for other in y]
        values = side_by_side(lambda: compare, pairs, _device_of(x[0]))
        return torch.tensor(values, dtype=torch.float64).view(len(x), len(y))

    def null_table(
        self,
        x: Sequence[Any],
        y: Sequence[Any],
        family: Permutations,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Compute :meth:`table` under every permutation of a family, in batches of one core each.

        ``on_progress`` is called with the number of permutations that are done.

        Returns
        -------
        tensor of shape (n_permutations, len(x), len(y))
            Values in float64.
        """
        at_once = min(self._permutations_at_once(x, y), -(-len(family) // _FEWEST_BATCHES))
        batches = family.batches(at_once)

        def compare(batch: torch.Tensor) -> torch.Tensor:
            return self._tables(x, y, batch)

        tables: list[torch.Tensor] = []
        done = 0
        while lot := list(islice(batches, _BATCHES_OF_LOT)):
            tables += side_by_side(lambda: compare, lot, _device_of(x[0]))
            for _ in range(sum(map(len, lot))):
                done += 1
                if on_progress is not None:
                    on_progress(done)
        return torch.cat(tables)

    def permutations(
        self,
        n_items: int,
        n_permutations: int,
        *,
        groups: object | None = None,
        random_state: int = 0,
    ) -> Sequence[Permutations]:
        """Draw the permutations of items under which the measure is tested.

        Parameters are those of :func:`relspace.resampling.shift_families`.
        """
        return shift_families(n_items, n_permutations, groups=groups, random_state=random_state)

    def _permutations_at_once(self, x: Sequence[Any], y: Sequence[Any]) -> int:
        """How many permutations are compared in one batch."""
        return 1

    def _tables(
        self, x: Sequence[Any], y: Sequence[Any], permutations: torch.Tensor
    ) -> torch.Tensor:
        """Compute the table under each of a batch of permutations (b, n): (b, len(x), len(y))."""
        return torch.stack([self.table(x, y, one) for one in permutations])

    def bytes_per_pair(self, n_sets: int) -> int:
        """The least bytes for each pair of items that comparing ``n_sets`` sets takes."""
        return 0

    def refuse_too_many(self, n_items: int, n_sets: int, memory_budget: int | None) -> None:
        """Refuse items whose pairs would not fit, before anything is allocated.

        Parameters
        ----------
        n_items, n_sets : int
            What is to be compared.
        memory_budget : int, optional
            Bytes that may be taken; the free memory by default.

        Raises
        ------
        MemoryBudgetError
            If they don't fit; it says how many items would.
        """
        of_pair = self.bytes_per_pair(n_sets)
        may = free_memory_bytes() if memory_budget is None else memory_budget
        if of_pair * n_items**2 > may:
            raise MemoryBudgetError(
                f"{self.name} ranks all pairs of {n_items} items, which needs "
                f"{say_bytes(of_pair * n_items**2)}, and {say_bytes(may)} may be used.",
                ways_out=[
                    "compare a random part of the items by "
                    f"{{max_items={math.isqrt(may // of_pair)}}}",
                    "use a measure of other kind, such as rsa",
                ],
            )

    @property
    def streams(self) -> bool:
        """Whether it needs only sums of products over items, which may then be any number."""
        return type(self).from_cross_products is not Measure.from_cross_products

    def from_cross_products(self, products: CrossProducts) -> float:
        """Compare two sets by sums over their items, and over those of each of the :meth:`folds`.

        Raises
        ------
        InvalidInputError
            If the measure needs the items themselves.
        """
        raise self.needs_items()

    def folds(self, n_items: int) -> RandomParts | None:
        """The parts of the items that are held out in turn; None without cross-validation."""
        return None

    @property
    def copies_of_products(self) -> int:
        """How many matrices as large as the products of two sets comparing them takes at once."""
        return 1

    def needs_items(self) -> InvalidInputError:
        """The error that sums over items are not enough."""
        return InvalidInputError(
            f"the measure {self.name} needs all items in memory and can't be summed over them.",
            ways_out=[
                "compare a random part of them by {max_items=10_000}",
                "use a measure that is made of sums, such as cka, cca, procrustes or "
                "linear_predictivity",
            ],
        )

    def recall(self, factor: Any) -> float | None:
        """The share of what it needs that an approximate index found; None where all is exact."""
        return None

    def warn_of_direction(self, x: Any) -> None:
        """Warn where a set, by its factor, contradicts the direction of a function's values."""
        return None

    def expected_by_chance(self, x: Any, y: Any) -> float | None:
        """The exact mean over all permutations of the items; None where there is no closed form."""
        return None


def _device_of(factor: Any) -> torch.device:
    if isinstance(factor, torch.Tensor):
        return factor.device
    tensors = (value for value in vars(factor).values() if isinstance(value, torch.Tensor))
    return next(tensors).device


def is_small(n_items: int, n_features: int = 1) -> bool:
    """Whether features, or pairs of items, are so few that one core is faster than several."""
    return n_items * max(n_items, n_features) <= _ENTRIES_OF_ONE_CORE


def varying(X: torch.Tensor) -> torch.Tensor:
    """Which features (d,) differ between items by more than rounding."""
    spread = (X - X[0]).abs().amax(dim=0)
    return spread > 4 * torch.finfo(X.dtype).eps * X.abs().amax(dim=0)


def _refuse_constant(X: torch.Tensor, name: str) -> None:
    if not bool(varying(X).any()):
        raise constant_features(name)


def _warn_of_pair_matrix(X: torch.Tensor, name: str) -> None:
    """Warn where features look like a matrix over pairs of items, as measures make themselves."""
    # One row and column tell almost all features, without a copy of a large matrix.
    if X.shape[0] != X.shape[1] or not torch.allclose(X[0], X[:, 0], rtol=1e-4):
        return
    rounding = 1e-6 * float(X.abs().max())
    diagonal = X.diagonal()
    if float(diagonal.max() - diagonal.min()) > rounding or float((X - X.T).abs().max()) > rounding:
        return
    if not bool(X.triu(1).any()):
        # One item of each class, one-hot.
        return
    kind = "dissimilarities" if abs(float(diagonal[0])) <= rounding else "similarities"
    warnings.warn(
        f"{name} is a symmetric matrix of {len(X)} x {len(X)} with {float(diagonal[0]):.4g} all "
        f"along its diagonal, as {kind} of items are. Its rows are compared as features of the "
        f"items. To compare the {kind} themselves, give "
        f"relspace.Dissimilarities({'D' if kind == 'dissimilarities' else '1 - D'}); to compare "
        "what they were made from, give the features, a matrix (n_items, n_features).",
        RelspaceWarning,
        stacklevel=3,
    )


def centered(X: torch.Tensor) -> torch.Tensor:
    """Features in float64 with the mean of every column at 0."""
    wide = X.to(torch.float64)
    return wide - wide.mean(dim=0)


def in_fewest_dimensions(X: torch.Tensor) -> torch.Tensor:
    """The same points up to a rotation, in as many dimensions as there are points at most."""
    if X.shape[1] <= X.shape[0]:
        return X
    triangle: torch.Tensor = torch.linalg.qr(X.T, mode="r").R
    return triangle.T.contiguous()
