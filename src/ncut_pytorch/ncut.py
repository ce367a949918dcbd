"""The normalized cut with the argument names of the implemented interface.

All is exact up to 8192 items. Beyond, as many random landmarks are the graph, and the other items
are brought in by the Nystroem extension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from ncut_pytorch.utils import math as _math
from relspace import DEFAULT_DENSITY, choose_landmarks, solve_bandwidth
from relspace.embedding.components import leading_components
from relspace.embedding.segments import rotation_to_segments
from relspace.errors import InvalidInputError

__all__ = ["Ncut", "kway_ncut", "ncut_click_prompt", "ncut_fn"]

_EXACT_UP_TO = 8192
_SIGMA_OF_CLICKS = 0.5

Affinity = Callable[..., Any]


@dataclass(kw_only=True)
class _Cut:
    """The leading eigenvectors (m, k) of the normalised graph of some items."""

    nodes: torch.Tensor
    sigma: float | None
    affinity: Affinity
    values: torch.Tensor
    vectors: torch.Tensor
    degrees: torch.Tensor

    def extended(self, X: torch.Tensor) -> torch.Tensor:
        """The eigenvectors at any items; a node's are its own."""
        edges = torch.as_tensor(self.affinity(X, self.nodes, sigma=self.sigma))
        scaled = edges / edges.sum(dim=1, keepdim=True).sqrt() / self.degrees.sqrt()
        return scaled @ self.vectors / self.values


def _sigma_of(
    nodes: torch.Tensor, density: float | None, sigma: float | None, affinity: Affinity
) -> float | None:
    if sigma is not None or affinity is not _math.rbf_affinity:
        return sigma
    return solve_bandwidth(nodes, density=density or DEFAULT_DENSITY).sigma


def _cut(
    nodes: torch.Tensor, n_eig: int, density: float | None, sigma: float | None, affinity: Affinity
) -> _Cut:
    sigma = _sigma_of(nodes, density, sigma, affinity)
    edges = torch.as_tensor(affinity(nodes, sigma=sigma))
    degrees = edges.sum(dim=1)
    values, components = leading_components(edges, n_eig - 1)
    constant = components.new_ones(len(nodes), 1)
    vectors = torch.cat([constant, components], dim=1) * degrees.sqrt()[:, None]
    vectors = _oriented(vectors / torch.linalg.vector_norm(vectors, dim=0))
    return _Cut(
        nodes=nodes,
        sigma=sigma,
        affinity=affinity,
        values=torch.cat([values.new_ones(1), values]),
        vectors=vectors,
        degrees=degrees,
    )


def _oriented(vectors: torch.Tensor) -> torch.Tensor:
    """Eigenvectors whose entries have a sum that isn't negative."""
    return torch.where(vectors.sum(dim=0) < 0, -vectors, vectors)


def _refuse_repulsion(repulsion_sigma: float | None, repulsion_weight: float | None) -> None:
    if repulsion_sigma is not None or repulsion_weight is not None:
        raise InvalidInputError(
            "repulsion_sigma and repulsion_weight are not offered: leave them None."
        )


@dataclass
class Ncut:
    """Eigenvectors of the normalised affinity graph; beside it stands relspace.NormalizedCut.

    The first eigenvector is the constant one times the root of the degree. A bandwidth that isn't
    given is that of relspace's default density. ``A_rep_degree``, ``extrapolation_factor``,
    ``exact_gradient`` and ``device`` are accepted so that existing calls run, and without effect:
    the extension is exact, and everything runs where X is.

    Examples
    --------
    >>> import torch
    >>> from ncut_pytorch import Ncut
    >>> X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    >>> ncut = Ncut(n_eig=4)
    >>> ncut.fit_transform(X).shape, ncut.eigval.shape
    (torch.Size([60, 4]), torch.Size([4]))
    """

    n_eig: int = 100
    A_degree: float | None = None
    A_rep_degree: float = 0.3
    sigma: float | None = None
    repulsion_sigma: float | None = None
    repulsion_weight: float | None = None
    affinity_fn: Affinity = _math.rbf_affinity
    extrapolation_factor: float = 1.0
    exact_gradient: bool = False
    device: str | None = None
    _fitted: _Cut | None = field(default=None, init=False, repr=False)

    def fit(self, X: torch.Tensor) -> Self:
        """Solve for the eigenvectors of items (n, d)."""
        _refuse_repulsion(self.repulsion_sigma, self.repulsion_weight)
        nodes = X[choose_landmarks(len(X), _EXACT_UP_TO)]
        self._fitted = _cut(nodes, self.n_eig, self.A_degree, self.sigma, self.affinity_fn)
        return self

    @property
    def eigval(self) -> torch.Tensor:
        """Eigenvalues (n_eig,), falling from 1."""
        return self._cut.values

    def transform(self, X: torch.Tensor) -> torch.Tensor:
        """Eigenvectors (n, n_eig) at the items of X."""
        return self._cut.extended(X)

    def fit_transform(self, X: torch.Tensor) -> torch.Tensor:
        """Fit to X, and return the eigenvectors at its items."""
        return self.fit(X).transform(X)

    __call__ = fit_transform

    @property
    def _cut(self) -> _Cut:
        if self._fitted is None:
            raise InvalidInputError("this Ncut is not fitted: call fit(X) first.")
        return self._fitted


def ncut_fn(
    X: torch.Tensor,
    n_eig: int = 100,
    A_degree: float | None = None,
    A_rep_degree: float = 0.3,
    sigma: float | None = None,
    repulsion_sigma: float | None = None,
    repulsion_weight: float | None = None,
    affinity_fn: Affinity = _math.rbf_affinity,
    extrapolation_factor: float = 1.0,
    exact_gradient: bool = False,
    device: str | None = None,
    make_orthogonal: bool = False,
    no_propagation: bool = False,
    affinity_diag_eps: float = 1e-8,
) -> tuple[Any, ...]:
    """Eigenvectors (n, n_eig) and eigenvalues (n_eig,), see :class:`Ncut`.

    With ``no_propagation``, the eigenvectors at the nodes of the graph, the eigenvalues, the row
    numbers of the nodes, and sigma. ``affinity_diag_eps`` is accepted, and without effect.
    """
    _refuse_repulsion(repulsion_sigma, repulsion_weight)
    indices = choose_landmarks(len(X), _EXACT_UP_TO)
    found = _cut(X[indices], n_eig, A_degree, sigma, affinity_fn)
    if no_propagation:
        return found.vectors, found.values, indices, found.sigma
    vectors = found.extended(X)
    return (torch.linalg.qr(vectors)[0] if make_orthogonal else vectors), found.values


def kway_ncut(
    eigvec: torch.Tensor,
    n_clusters: int | None = None,
    device: str | None = None,
    ret_R: bool = False,
) -> torch.Tensor:
    """Rotate eigenvectors (n, k) towards segments: the largest coordinate of a row is its segment.

    :func:`relspace.kway` gives labels. ``ret_R`` returns the rotation (k, k) instead.
    """
    leading = eigvec[:, :n_clusters]
    rows = leading.double()
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rotation = rotation_to_segments(rows, rows.shape[1], 0).to(eigvec)
    return rotation if ret_R else leading @ rotation


def ncut_click_prompt(
    X: torch.Tensor,
    fg_indices: Sequence[int],
    bg_indices: Sequence[int] | None = None,
    click_weight: float = 0.5,
    bg_weight: float = 0.1,
    n_eig: int = 2,
    A_degree: float | None = None,
    device: str | None = None,
    sigma: float | None = None,
    affinity_fn: Affinity = _math.rbf_affinity,
    exact_gradient: bool = False,
    no_propagation: bool = False,
    return_indices_and_sigma: bool = False,
) -> tuple[Any, ...]:
    """Eigenvectors (n, n_eig) of a graph that clicked items pull together, and eigenvalues.

    The normalised graph is mixed with that of the affinity to the clicked items. Clicks are row
    numbers of X, of at most 8192 items.
    """
    if len(X) > _EXACT_UP_TO:
        raise InvalidInputError(
            f"X holds {len(X)} items; at most {_EXACT_UP_TO} are offered: take a part of them."
        )
    sigma = _sigma_of(X, A_degree, sigma, affinity_fn)
    graph = _normalised(torch.as_tensor(affinity_fn(X, sigma=sigma)))
    clicked = graph[torch.as_tensor(fg_indices)].mean(dim=0)
    if bg_indices is not None and len(bg_indices):
        clicked = clicked - bg_weight * graph[torch.as_tensor(bg_indices)].mean(dim=0)
    of_clicks = affinity_fn((clicked * len(X))[:, None], sigma=_SIGMA_OF_CLICKS)
    mixed = click_weight * _normalised(torch.as_tensor(of_clicks)) + (1 - click_weight) * graph
    values, vectors = torch.linalg.eigh(mixed)
    values, vectors = values.flip(0)[:n_eig], _oriented(vectors.flip(1)[:, :n_eig])
    if no_propagation or return_indices_and_sigma:
        return vectors, values, torch.arange(len(X)), sigma
    return vectors, values


def _normalised(edges: torch.Tensor) -> torch.Tensor:
    root = edges.sum(dim=1).sqrt()
    return edges / root[:, None] / root
