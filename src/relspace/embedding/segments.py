"""Segments: a spectral embedding discretised into k groups, consistent across sets."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from relspace._blocks import refuse_too_large
from relspace._validation import check_count, check_random_state
from relspace.errors import InvalidInputError
from relspace.row_sources import RowSource

_MAX_ITERATIONS = 100
_TOLERANCE = 1e-6


def kway(
    embedding: Mapping[str, torch.Tensor | RowSource], k: int, *, random_state: int = 0
) -> dict[str, torch.Tensor]:
    """Cut tokens of all sets into k segments at once.

    The rotation of the embedding is found that brings its rows, scaled to unit norm, closest to
    indicator vectors: rows are assigned to their largest coordinate, the rotation that fits this
    assignment best follows from a singular value decomposition, and so on until the fit no longer
    grows.

    Yu and Shi (2003), Multiclass spectral clustering, ICCV, section 4.

    Parameters
    ----------
    embedding : mapping of str to tensor or RowSource of shape (n_s, n_components)
        Embedding of each set's tokens, ``NormalizedCut(...).fit(space).embedding_``; one that was
        written is read into memory.
    k : int
        How many segments, from 2 to n_components + 1.
    random_state : int
        Seed of the row that the search begins with.

    Returns
    -------
    dict of str to LongTensor of shape (n_s,)
        Each token's segment, 0 being the largest; the same number is the same segment in all sets.

    Raises
    ------
    InvalidInputError
        If ``k`` is out of range.
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
    names = list(embedding)
    check_count(k, "k", at_least=2)
    lengths = [embedding[name].shape[0] for name in names]
    n, n_components = sum(lengths), embedding[names[0]].shape[1]
    if k > n_components + 1 or k > n:
        raise InvalidInputError(
            f"k is {k}; {n_components} components of {n} tokens give 2 to "
            f"{min(n_components + 1, n)} segments: fit more components."
        )
    # Rows, which are normalised, and the indicator of their segments, in float64.
    refuse_too_large(3 * 8 * n * k, f"cutting {n} tokens into {k} segments", "cut a part of them.")
    rows = torch.cat([_leading(embedding[name], k) for name in names])
    # The constant component, which the embedding leaves out, belongs to the indicator space.
    rows = torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rotation = _spread_rows(rows, k, check_random_state(random_state))
    fit = -1.0
    for _ in range(_MAX_ITERATIONS):
        labels = (rows @ rotation).argmax(dim=1)
        indicator = torch.nn.functional.one_hot(labels, k).to(rows)
        left, values, right = torch.linalg.svd(rows.T @ indicator)
        rotation = left @ right
        if float(values.sum()) - fit <= _TOLERANCE * len(rows):
            break
        fit = float(values.sum())
    order = torch.bincount(labels, minlength=k).argsort(descending=True, stable=True)
    labels = order.argsort()[labels]
    return dict(zip(names, torch.split(labels, lengths), strict=True))


def _leading(embedding: torch.Tensor | RowSource, k: int) -> torch.Tensor:
    if not isinstance(embedding, torch.Tensor):
        embedding = embedding.read(0, embedding.shape[0])
    return embedding[:, : k - 1].to(torch.float64)


def _spread_rows(rows: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """Begin with k rows that are as orthogonal as can be, as the paper's section 4.3 does."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    seen = rows.new_zeros(len(rows))
    for _ in range(k - 1):
        seen += (rows @ rows[chosen[-1]]).abs()
        chosen.append(int(seen.argmin()))
    return rows[chosen].T.contiguous()
