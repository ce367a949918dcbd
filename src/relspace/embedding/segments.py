"""Segments: a spectral embedding discretised into k groups, consistent across sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import torch

from relspace._core.arguments import check_count, check_random_state
from relspace._core.arrays import refuse_non_finite
from relspace._core.deprecation import renamed_parameters
from relspace._core.matrices import Array
from relspace._core.resources import Resources
from relspace.embedding.sets import open_sets, restored
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.rows.source import RowSource

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-6


@overload
def kway(
    embedding: Mapping[str, torch.Tensor | RowSource], n_clusters: int, *, random_state: int = 0
) -> dict[str, torch.Tensor]: ...
@overload
def kway(
    embedding: Mapping[str, Any], n_clusters: int, *, random_state: int = 0
) -> Mapping[str, Array]: ...
@renamed_parameters(k="n_clusters")
def kway(
    embedding: Mapping[str, Any], n_clusters: int, *, random_state: int = 0
) -> Mapping[str, Array]:
    """Cut tokens of all sets into segments at once.

    The rotation of the embedding is found that brings its rows, scaled to unit norm, closest to
    indicator vectors: rows are assigned to their largest coordinate, the rotation that fits this
    assignment best follows from a singular value decomposition, and so on until the fit no longer
    grows.

    Yu and Shi (2003), Multiclass spectral clustering, ICCV, section 4.

    Parameters
    ----------
    embedding : mapping of str to array-like or RowSource of shape (n_s, n_components)
        Embedding of each set's tokens, ``NormalizedCut(...).fit(space).embedding_``; one that was
        written is read into memory.
    n_clusters : int
        How many segments, from 2 to n_components + 1.
    random_state : int
        Seed of the row that the search begins with.

    Returns
    -------
    dict of str to LongTensor or array of shape (n_s,)
        Each token's segment, 0 being the largest; the same number is the same segment in all sets.
        An array where the embedding of the set is one.

    Raises
    ------
    InvalidInputError
        If ``n_clusters`` is out of range.
    MemoryBudgetError
        If the rows of all sets would not fit into the free memory.

    Examples
    --------
    >>> import torch
    >>> from relspace.embedding import kway
    >>> side = torch.tensor([[-1.0], [-1.1], [1.0], [0.9], [1.2]])
    >>> kway({"a": side[:3], "b": side[3:]}, 2)
    {'a': tensor([1, 1, 0]), 'b': tensor([0, 0])}
    """
    k = check_count(n_clusters, "n_clusters", at_least=2)
    seed = check_random_state(random_state)
    if not isinstance(embedding, Mapping):
        raise InvalidTypeError(
            f"embedding is of type {type(embedding).__name__}; it must be a mapping of names to "
            "embeddings, such as cut.embedding_."
        )
    opened = open_sets(embedding)
    lengths = [one.rows.shape[0] for one in opened.values()]
    n, n_components = sum(lengths), next(iter(opened.values())).rows.shape[1]
    if k > n_components + 1 or k > n:
        raise InvalidInputError(
            f"n_clusters is {k}; {n_components} components of {n} tokens give 2 to "
            f"{min(n_components + 1, n)} segments: fit more components."
        )
    # Rows before and after they are normalised, and the indicator of segments, in float64.
    Resources().require(
        3 * 8 * n * k, f"cutting {n} tokens into {k} segments", "cut a part of them"
    )
    rows = torch.cat([_leading(one.rows, k, name) for name, one in opened.items()])
    # The constant component, which the embedding leaves out, belongs to the indicator space.
    rows = torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rotation = rotation_to_segments(rows, k, seed)
    labels = (rows @ rotation).argmax(dim=1)
    order = torch.bincount(labels, minlength=k).argsort(descending=True, stable=True)
    labels = order.argsort()[labels]
    parts = zip(opened.items(), torch.split(labels, lengths), strict=True)
    return {name: restored(part, is_array=one.is_array) for (name, one), part in parts}


def rotation_to_segments(rows: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """The rotation (k, k) that brings rows of unit norm closest to indicators of segments."""
    rotation = _spread_rows(rows, k, seed)
    fit = -1.0
    for _ in range(_MAX_ITERATIONS):
        labels = (rows @ rotation).argmax(dim=1)
        indicator = torch.nn.functional.one_hot(labels, k).to(rows)
        left, values, right = torch.linalg.svd(rows.T @ indicator)
        rotation = left @ right
        if float(values.sum()) - fit <= _TOLERANCE * len(rows):
            break
        fit = float(values.sum())
    return rotation


def _leading(embedding: RowSource, k: int, name: str) -> torch.Tensor:
    rows = embedding.read(0, embedding.shape[0])
    refuse_non_finite(rows, f"the embedding of {name}")
    return rows[:, : k - 1].to(torch.float64)


def _spread_rows(rows: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """Choose k rows that are as orthogonal as possible, as in section 4.3 of the paper."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    seen = rows.new_zeros(len(rows))
    for _ in range(k - 1):
        seen += (rows @ rows[chosen[-1]]).abs()
        chosen.append(int(seen.argmin()))
    return rows[chosen].T.contiguous()
