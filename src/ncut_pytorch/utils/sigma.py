"""Bandwidths with the argument names of the implemented interface."""

from __future__ import annotations

from relspace import DEFAULT_DENSITY, solve_bandwidth

__all__ = ["find_sigma"]


def find_sigma(
    anchor: object,
    n_sample: int = 1000,
    A_degree: float | None = None,
    max_iter: int = 50,
    tol: float = 1e-4,
) -> float:
    """Bandwidth at which the mean affinity is ``A_degree``; see :func:`relspace.solve_bandwidth`.

    Parameters
    ----------
    anchor : array-like of shape (n, d)
        Features of at least 3 items.
    n_sample : int
        Every pair counts up to this many items; beyond, random pairs do, as many as it takes.
    A_degree : float, optional
        The mean affinity of distinct items, between 0 and 1. By default relspace's default
        density, so that ``rbf_affinity(anchor)`` has this very bandwidth.
    max_iter, tol : int, float
        Accepted so that existing calls run, and without effect: the solution always meets
        ``A_degree`` (to 1e-6 of it over all pairs, to a standard error of 0.5 % over sampled
        ones), or an error says why it can't.

    Returns
    -------
    float
        The bandwidth, in units of the features.

    Raises
    ------
    RelspaceError
        As :func:`relspace.solve_bandwidth` does.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch.utils.sigma import find_sigma
    >>> simplex = torch.eye(4)
    >>> round(find_sigma(simplex, A_degree=0.5), 4)
    1.2011
    """
    density = DEFAULT_DENSITY if A_degree is None else A_degree
    return solve_bandwidth(anchor, density=density, max_items=n_sample).sigma
