"""Measures of representational similarity: each a function of two sets, with its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relspace._core.arguments import near_names
from relspace._core.deprecation import warn_renamed
from relspace.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from relspace.measures import (
    affinity,
    cca,
    cka,
    cknna,
    distance_correlation,
    gulp,
    linear_predictivity,
    neighbor_orders,
    neighbors,
    procrustes,
    regularized_cca,
    rsa,
    spanning_trees,
    unit_matching,
)
from relspace.measures._measure import MIN_ITEMS, TRANSFORMATIONS, Measure
from relspace.measures.from_function import from_function
from relspace.resampling import ShiftFamily

__all__ = [
    "MIN_ITEMS",
    "TRANSFORMATIONS",
    "Measure",
    "ShiftFamily",
    "from_function",
    "get",
    "names",
]

_MEASURES = {
    measure.name: measure
    for module in (
        affinity,
        rsa,
        cka,
        distance_correlation,
        cca,
        procrustes,
        regularized_cca,
        gulp,
        unit_matching,
        neighbors,
        neighbor_orders,
        cknna,
        spanning_trees,
        linear_predictivity,
    )
    for measure in module.MEASURES
}

# Names that measures, or families of them, have elsewhere.
_NAMES_ELSEWHERE = {
    "centered_kernel_alignment linear_cka cka_linear unbiased_cka debiased_cka cka_debiased": "cka",
    "hsic": "cka cka_rbf",
    "biased_cka": "cka_biased",
    "rbf_cka kernel_cka": "cka_rbf",
    "rbf": "affinity cka_rbf",
    "rdm rsm": "rsa rsa_spearman",
    "pearson": "rsa",
    "spearman": "rsa_spearman",
    "kendall kendall_tau tau tau_a rsa_tau": "rsa_kendall",
    "cosine": "rsa_cosine second_order_cosine",
    "dcor": "distance_correlation",
    "mean_cca": "cca",
    "linear_metric netrep partial_whitening": "regularized_cca procrustes_angle",
    "cv_procrustes": "crossvalidated_procrustes",
    "cv_cca": "crossvalidated_cca",
    "angular angular_procrustes": "procrustes_angle",
    "shape_distance size_and_shape size_and_shape_distance": (
        "procrustes procrustes_angle size_and_shape_procrustes"
    ),
    "soft_match soft_matching_score optimal_transport": "soft_matching soft_matching_distance",
    "bipartite_matching hungarian_matching one_to_one": "permutation_matching",
    "correlation_match semi_matching max_correlation": "correlation_matching",
    "knn": "mutual_neighbors jaccard_neighbors cknna",
    "lcs lcs_knn": "lcs_neighbors",
    "nts topological_similarity cophenetic": "merge_orders",
    "mst spanning_tree": "tree_edges merge_orders",
    "edit_distance edit_distance_knn": "edit_neighbors",
    "cycle_knn": "cycle_neighbors",
    "rank_similarity ranksim": "rank_neighbors",
    "mknn mutual_knn mutual_nearest_neighbors": "mutual_neighbors",
    "neighbors": "mutual_neighbors jaccard_neighbors",
    "jaccard knn_jaccard": "jaccard_neighbors",
    "linear_regression ridge predictivity encoding r2": "linear_predictivity target_predictivity",
    "himalaya brain_score per_target": "target_predictivity",
}
_ALIASES = {
    alias: tuple(found.split())
    for aliases, found in _NAMES_ELSEWHERE.items()
    for alias in aliases.split()
}


def names() -> tuple[str, ...]:
    """The names of all measures.

    Returns
    -------
    tuple of str
        What :func:`get` takes.

    Examples
    --------
    >>> from relspace import measures
    >>> [name for name in measures.names() if measures.get(name).direction == "distance"]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['procrustes', 'procrustes_angle', 'size_and_shape_procrustes', 'permutation_procrustes',
     'regularized_cca', 'crossvalidated_procrustes', 'crossvalidated_cca', 'gulp',
     'soft_matching_distance']
    """
    return tuple(_MEASURES)


def get(name: str, **parameters: Any) -> Measure:
    """Look a measure up by its name.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **parameters
        Settings of the measure that differ from its record, see ``Measure.parameters``.

    Returns
    -------
    Measure
        The measure: a function of two sets of features, with its record.

    Raises
    ------
    UnknownNameError
        If there is no measure of this name.
    InvalidInputError
        If it has no such parameter, or not of this value.

    Examples
    --------
    >>> import torch
    >>> from relspace import measures
    >>> X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    >>> round(measures.get("cka")(X, 3 * X + 1), 4)
    1.0
    >>> measures.get("mutual_neighbors", k=5)
    Measure('mutual_neighbors', k=5, metric='cosine', index='exact')
    """
    if not isinstance(name, str):
        raise InvalidTypeError(
            f"measure is of type {type(name).__name__}; it must be the name of a measure."
        )
    if name not in _MEASURES:
        near = near_names(name, tuple(_MEASURES), _ALIASES)
        if near:
            raise UnknownNameError(
                f"there is no measure {name!r}; did you mean {' or '.join(map(repr, near))}?"
            )
        raise UnknownNameError(f"there is no measure {name!r}; there are {', '.join(_MEASURES)}.")
    measure = _MEASURES[name]
    unknown = [key for key in parameters if key not in measure.parameters]
    if unknown:
        known = ", ".join(measure.parameters) or "none"
        offered = [one for key in unknown for one in near_names(key, tuple(measure.parameters))]
        meant = f" (did you mean {' or '.join(map(repr, offered))}?)" if offered else ""
        raise InvalidInputError(
            f"the measure {name} has no parameter {', '.join(unknown)}{meant}; it has {known}."
        )
    changed: Measure = replace(measure, **parameters)
    return changed


def __getattr__(name: str) -> Any:
    if name == "list":
        warn_renamed("measures.list()", "measures.names(), of which measures.get(name) takes each")
        return lambda: tuple(_MEASURES.values())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
