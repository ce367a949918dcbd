"""Variance of mean values over items and references, t-tests of them, corrections for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, check_count
from relspace.errors import InvalidInputError

Numbers = NDArray[np.float64]

#: How p-values of several tests are corrected.
CORRECTIONS = ("holm", "benjamini_hochberg", "none")


def corrected_variance(
    both: object,
    of_references: object,
    of_items: object,
    *,
    n_references: int | None = None,
    n_items: int | None = None,
) -> Numbers:
    r"""Variance of a mean over references and items, from the spread under resampling of each.

    Resampling both at once counts the noise that is of one reference and one item three times, and
    resampling one of them counts it once each:

    .. math:: v = 2 (v_R + v_I) - v_{RI}

    v is at least the larger of :math:`v_R` and :math:`v_I` and at most :math:`v_{RI}` (Schuett et
    al. 2023). Where numbers are given, the bootstrap's own factor of (R - 1) / R is undone:

    .. math:: v = \frac{R}{R - 1} v_R + \frac{P}{P - 1} v_I
        - \frac{R P}{(R - 1)(P - 1)} (v_{RI} - v_R - v_I)

    Parameters
    ----------
    both, of_references, of_items : array-like of one shape
        Variances with references and items resampled, with references only, with items only.
    n_references, n_items : int, optional
        How many there are, if variances are those of a bootstrap.

    Returns
    -------
    array of that shape
        In float64.

    Raises
    ------
    InvalidInputError
        If shapes differ, a variance is negative or not finite, or there is one of a kind.

    Examples
    --------
    >>> corrected_variance([4.0], [1.0], [2.0])
    array([2.])
    >>> corrected_variance([3.5], [1.0], [2.0], n_references=5, n_items=21)
    array([2.69375])
    """
    given = [np.asarray(one, dtype=np.float64) for one in (both, of_references, of_items)]
    if len({one.shape for one in given}) > 1:
        raise InvalidInputError(
            f"variances have the shapes {', '.join(str(one.shape) for one in given)}; they must "
            "be of one shape."
        )
    if not all(bool((one >= 0).all()) and bool(np.isfinite(one).all()) for one in given):
        raise InvalidInputError("variances must be finite, and not below 0.")
    v_both, v_references, v_items = given
    r, p = _undone(n_references, "n_references"), _undone(n_items, "n_items")
    of_pairs = r * p * (v_both - v_references - v_items)
    least = np.maximum(r * v_references, p * v_items)
    found: Numbers = np.minimum(
        np.maximum(r * v_references + p * v_items - of_pairs, least), v_both
    )
    return found


def _undone(count: int | None, name: str) -> float:
    """By what a bootstrap of so many is too narrow."""
    return 1.0 if count is None else (n := check_count(count, name, at_least=2)) / (n - 1)


@dataclass(frozen=True, eq=False)
class Spread:
    """Variance of a statistic, and the degrees of freedom with which it is known."""

    variance: Numbers
    dof: Numbers

    def standard_error(self, rounding: float) -> Numbers:
        """Its root; no less than rounding, by which equal values may differ."""
        found: Numbers = np.sqrt(np.maximum(self.variance, rounding**2))
        return found

    def half_width(self, level: float, rounding: float) -> Numbers:
        """Half of the interval that holds the population's value with probability ``level``."""
        from scipy.stats import t

        found: Numbers = t.ppf((1 + level) / 2, self.dof) * self.standard_error(rounding)
        return found

    def p_two_sided(self, difference: Numbers, rounding: float) -> Numbers:
        """p-values of differences from 0 either way."""
        from scipy.stats import t

        found: Numbers = 2 * t.sf(np.abs(difference) / self.standard_error(rounding), self.dof)
        return found

    def p_above(self, excess: Numbers, rounding: float) -> Numbers:
        """p-values of what is above 0."""
        from scipy.stats import t

        found: Numbers = t.sf(excess / self.standard_error(rounding), self.dof)
        return found


def spread_of_means(values: Numbers, draws: Numbers, n_units: int) -> Spread:
    """Spread of means over references, for other items and other references.

    The mean over references is linear in them, so what resampling them gives is known without
    drawing: the variance between references over their number. Items are drawn as halves
    (:func:`relspace.resampling.bootstrap`), whose spread needs no factor. Degrees of freedom are
    those of Satterthwaite (1946), from as many as there are references, items and draws.

    Parameters
    ----------
    values : array of shape (n_references, n)
        n statistics for each reference, of all items.
    draws : array of shape (n_draws, n_references, n)
        The same on halves of the items.
    n_units : int
        Items, or groups of them, that halves were drawn of.
    """
    n_draws, n_references = draws.shape[:2]
    dof_items = 1 / (1 / (n_units - 1) + 1 / (n_draws - 1))
    of_items = draws.mean(axis=1).var(axis=0, ddof=1)
    if n_references == 1:
        return Spread(of_items, np.full(of_items.shape, dof_items))
    of_references = values.var(axis=0, ddof=1) / n_references
    both = of_items + draws.var(axis=1, ddof=1).mean(axis=0) / n_references
    variance = corrected_variance(np.maximum(both, of_references), of_references, of_items)
    rest = variance - of_references
    weighted = of_references**2 / (n_references - 1) + rest**2 / dof_items
    least = np.full(variance.shape, min(n_references - 1.0, dof_items))
    return Spread(variance, np.divide(variance**2, weighted, out=least, where=weighted > 0))


def adjust(p_values: object, correction: str = "holm") -> Numbers:
    """Correct the p-values of several tests.

    Parameters
    ----------
    p_values : array-like of shape (n,)
        Of single tests.
    correction : "holm", "benjamini_hochberg" or "none"
        Holm (1979) bounds the probability that any true null hypothesis is rejected; Benjamini and
        Hochberg (1995) the expected share of these among all that are rejected.

    Returns
    -------
    array of shape (n,)
        To be compared with the level as they are.

    Raises
    ------
    InvalidInputError
        If a value is no probability.

    Examples
    --------
    >>> adjust([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    >>> adjust([0.01, 0.04, 0.03], "benjamini_hochberg")
    array([0.03, 0.04, 0.04])
    """
    check_choice(correction, "correction", CORRECTIONS)
    p: NDArray[Any] = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not bool(((p >= 0) & (p <= 1)).all()):
        raise InvalidInputError("p_values must be a list of numbers from 0 to 1.")
    order, count = np.argsort(p, kind="stable"), len(p)
    if correction == "none" or not count:
        return p.copy()
    ordered = p[order]
    if correction == "holm":
        ordered = np.maximum.accumulate(ordered * np.arange(count, 0, -1))
    else:
        steps = ordered * count / np.arange(1, count + 1)
        ordered = np.minimum.accumulate(steps[::-1])[::-1]
    found = np.empty(count)
    found[order] = np.minimum(ordered, 1.0)
    return found
