"""Normalized cut: the spectral embedding of all sets' tokens in one balanced graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch

from relspace._archive import read_archive, write_archive
from relspace._blocks import chunk_slices, refuse_too_large
from relspace._parallel import side_by_side
from relspace._validation import (
    Array,
    Features,
    as_features,
    check_count,
    check_fraction,
    check_positive,
    check_random_state,
    name_some,
)
from relspace.embedding.graph import JointGraph, joint_graph
from relspace.errors import InvalidInputError, UnknownNameError
from relspace.kernels.distances import Frame, full_precision
from relspace.kernels.landmarks import choose_landmarks

_KIND = "normalized cut"
_ROWS = 1024
#: A single feature set is kept under this name.
SINGLE = "features"


class NormalizedCut:
    r"""Spectral embedding of tokens of several sets, jointly.

    The components are the eigenvectors of the random walk on the joint graph
    (:class:`relspace.embedding.graph.JointGraph`), which relax the normalized cut,

    .. math:: D^{-1} W y = \lambda y, \qquad D_{ii} = \sum_j W_{ij},

    without the constant one; eigenvalues fall from near 1. Tokens beyond the nodes of the graph
    are brought in by the Nystroem extension

    .. math:: y(x) = \frac{1}{\lambda} \sum_j \frac{W_{xj}}{\sum_l W_{xl}} y_j,

    which gives a node its own value, and the components are orthonormalised over all tokens,
    weighted by their degree.

    Shi and Malik (2000), IEEE PAMI 22(8), equation 11; Fowlkes et al. (2004), IEEE PAMI 26(2).

    Parameters
    ----------
    n_components : int
        How many components.
    density : float
        Mean affinity of every block of the graph.
    within_weight : float
        Weight of edges within a set next to 1 between sets.
    n_landmarks : int
        Up to this many tokens in all, every one is a node of the graph; beyond, as many tokens at
        random, shared evenly between the sets.
    random_state : int
        Seed of that choice.

    Attributes
    ----------
    eigenvalues_ : tensor of shape (n_components,)
        Eigenvalues, falling.
    embedding_ : dict of str to tensor of shape (n_s, n_components)
        The embedding of every set's tokens.
    graph_ : JointGraph
        The graph.

    Examples
    --------
    >>> import torch, relspace
    >>> generator = torch.Generator().manual_seed(0)
    >>> two = torch.cat([torch.randn(40, 5, generator=generator) + 4 * s for s in (0, 1)])
    >>> cut = relspace.NormalizedCut(n_components=2).fit(two)
    >>> sides = cut["features"][:, 0] > 0
    >>> bool(sides[:40].all() != sides[40:].all())
    True
    """

    def __init__(
        self,
        n_components: int = 16,
        *,
        density: float = 0.05,
        within_weight: float = 0.3,
        n_landmarks: int = 4096,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.within_weight = within_weight
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    def __repr__(self) -> str:
        return (
            f"NormalizedCut(n_components={self.n_components}, density={self.density}, "
            f"within_weight={self.within_weight}, n_landmarks={self.n_landmarks})"
        )

    def fit(self, sets: Mapping[str, object] | object) -> Self:
        """Embed the tokens of several sets of one common space, or of one feature set.

        Parameters
        ----------
        sets : AlignedSpace, mapping of str to array-like of shape (n_s, m), or one array-like
            Relative features; sets may have different numbers of tokens but the same columns.

        Returns
        -------
        NormalizedCut
            Itself.

        Raises
        ------
        BandwidthError
            If a block of the graph can't have the density.
        InvalidInputError
            If the sets have different columns, or too few tokens for the components.
        MemoryBudgetError
            If the graph would not fit into the free memory.
        """
        k = check_count(self.n_components, "n_components")
        limit = check_count(self.n_landmarks, "n_landmarks", at_least=3)
        check_fraction(self.density, "density")
        check_positive(self.within_weight, "within_weight")
        seed = check_random_state(self.random_state)
        given = _check_sets(sets)
        nodes = _choose_nodes({name: one.tensor for name, one in given.items()}, limit, seed)
        n_nodes = sum(map(len, nodes.values()))
        if k > n_nodes - 2:
            raise InvalidInputError(
                f"n_components is {k} and the graph has {n_nodes} nodes; ask for at most "
                f"{n_nodes - 2}."
            )
        kind = next(iter(given.values())).tensor
        refuse_too_large(
            3 * n_nodes**2 * kind.element_size(),
            f"the graph of {n_nodes} nodes",
            "lower n_landmarks.",
            device=kind.device,
        )
        self.names_ = tuple(given)
        self.graph_ = joint_graph(
            {name: given[name].tensor[rows] for name, rows in nodes.items()},
            density=self.density,
            within_weight=self.within_weight,
            random_state=seed,
        )
        self.eigenvalues_, self.vectors_ = leading_components(self.graph_.weights(), k)
        self.rotation_ = torch.eye(k, dtype=self.vectors_.dtype)
        extended, degrees = {}, {}
        for name, one in given.items():
            extended[name], degrees[name] = self._extend(name, one.tensor)
        self.rotation_ = _orthonormalizer(
            torch.cat(list(extended.values())), torch.cat(list(degrees.values()))
        )
        self.embedding_ = {name: rows @ self.rotation_ for name, rows in extended.items()}
        return self

    def __getitem__(self, name: str) -> torch.Tensor:
        self._which(name)
        return self.embedding_[name]

    def transform(self, name: str, X: object) -> Array:
        """Embed new tokens of a known set.

        Parameters
        ----------
        name : str
            The set they belong to.
        X : array-like of shape (n, m)
            Their relative features.

        Returns
        -------
        tensor or array of shape (n, n_components)
            Their embedding, of the kind, float type and device of ``X``.
        """
        self._which(name)
        given = as_features(X, "X")
        width = self.graph_.nodes.points.shape[1]
        if given.tensor.shape[1] != width:
            raise InvalidInputError(
                f"X has {given.tensor.shape[1]} columns; this embedding was fitted on {width}."
            )
        return given.restore(self._extend(name, given.tensor)[0] @ self.rotation_)

    def _which(self, name: str) -> int:
        if not hasattr(self, "names_"):
            raise InvalidInputError("this NormalizedCut is not fitted; call fit(sets) first.")
        if name not in self.names_:
            raise UnknownNameError(
                f"no set is called {name!r}; this embedding holds {name_some(self.names_)}."
            )
        return self.names_.index(name)

    def _extend(self, name: str, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        which = self._which(name)
        walk = self.vectors_ / self.eigenvalues_
        rows = X.new_empty((len(X), walk.shape[1]))
        degrees = X.new_empty(len(X))

        def extend(part: slice) -> None:
            tokens = self.graph_.frame.place(X[part])
            edges = tokens.points.new_empty((len(tokens.points), len(walk)))
            self.graph_.edges(which, tokens, edges)
            degree = edges.sum(dim=1)
            degrees[part] = degree
            # A token so far from all nodes that its edges vanish belongs nowhere: 0.
            degree = torch.where(degree > 0, degree, torch.inf)
            rows[part] = (edges @ walk) / degree[:, None]

        with full_precision():
            side_by_side(lambda: extend, chunk_slices(len(X), _ROWS), X.device)
        return rows, degrees

    def save(self, path: str | Path) -> Path:
        """Write the fitted embedding into one safetensors file, whole or not at all."""
        self._which(self.names_[0])
        tensors = {
            "eigenvalues": self.eigenvalues_,
            "vectors": self.vectors_,
            "rotation": self.rotation_,
            "nodes": self.graph_.nodes.points,
            "half_norms": self.graph_.nodes.half_norms,
            "origin": self.graph_.frame.origin,
            "scale": self.graph_.scale,
            "weight": self.graph_.weight,
        }
        for number, name in enumerate(self.names_):
            tensors[f"embedding.{number}"] = self.embedding_[name]
        metadata = {
            "names": list(self.names_),
            "starts": list(self.graph_.starts),
            "unit": self.graph_.frame.unit,
            "parameters": {
                "n_components": self.n_components,
                "density": self.density,
                "within_weight": self.within_weight,
                "n_landmarks": self.n_landmarks,
                "random_state": self.random_state,
            },
        }
        return write_archive(path, _KIND, tensors, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; the same embedding, to the bit."""
        from relspace.kernels.distances import Cloud

        tensors, metadata = read_archive(path, _KIND)
        cut = cls(**metadata["parameters"])
        cut.names_ = tuple(metadata["names"])
        cut.graph_ = JointGraph(
            Cloud(tensors["nodes"], tensors["half_norms"]),
            Frame(tensors["origin"], metadata["unit"]),
            tuple(metadata["starts"]),
            tensors["scale"],
            tensors["weight"],
        )
        cut.eigenvalues_, cut.vectors_ = tensors["eigenvalues"], tensors["vectors"]
        cut.rotation_ = tensors["rotation"]
        cut.embedding_ = {
            name: tensors[f"embedding.{number}"] for number, name in enumerate(cut.names_)
        }
        return cut


def leading_components(weights: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The k leading eigenvectors of the random walk on a graph, without the constant one.

    They are those of :math:`D^{-1/2} W D^{-1/2}`, found by Lanczos iteration and divided by
    :math:`D^{1/2}`; scaled to unit mean square over nodes weighted by their degree; the entry of
    largest size is positive.

    Parameters
    ----------
    weights : tensor of shape (n, n)
        Symmetric weights.
    k : int
        How many.

    Returns
    -------
    eigenvalues : tensor of shape (k,)
        Eigenvalues, falling.
    vectors : tensor of shape (n, k)
        Eigenvectors.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = weights.shape[0]
    degrees = weights.sum(dim=1, dtype=torch.float64)
    root = degrees.sqrt()
    scaled = weights / root[:, None].to(weights) / root.to(weights)

    def product(vector: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(np.ascontiguousarray(vector.ravel())).to(scaled)
        return (scaled @ given).double().cpu().numpy()

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    # The constant eigenvector is known; a start of random signs sees all the others.
    start = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    values, vectors = eigsh(operator, k=k + 1, which="LA", v0=start.numpy())
    order = np.argsort(values)[::-1][1:]
    found = torch.from_numpy(vectors[:, order].copy()) / root.cpu()[:, None]
    found *= (degrees.cpu().sum() / (degrees.cpu()[:, None] * found.square()).sum(0)).sqrt()
    found *= found.gather(0, found.abs().argmax(dim=0, keepdim=True)).sign()
    return torch.from_numpy(values[order].copy()).to(weights), found.to(weights)


def _orthonormalizer(rows: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """The triangular map that makes components orthonormal, each by itself and those before it."""
    share = degrees.double() / degrees.double().sum()
    gram = (rows.double() * share[:, None]).T @ rows.double()
    factor = torch.linalg.cholesky(gram)
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    inverse: torch.Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T.to(rows)


def _choose_nodes(
    sets: Mapping[str, torch.Tensor], limit: int, seed: int
) -> dict[str, torch.Tensor]:
    if sum(map(len, sets.values())) <= limit:
        return {name: torch.arange(len(one)) for name, one in sets.items()}
    share = max(3, limit // len(sets))
    return {
        name: choose_landmarks(len(one), share, random_state=seed) for name, one in sets.items()
    }


def _check_sets(sets: Mapping[str, object] | object) -> dict[str, Features]:
    if not isinstance(sets, Mapping):
        return {SINGLE: as_features(sets, "sets")}
    if not sets:
        raise InvalidInputError("sets is empty; give at least one set of tokens.")
    given = {str(name): as_features(one, str(name)) for name, one in sets.items()}
    first = next(iter(given))
    for name, one in given.items():
        if one.tensor.shape[1] != given[first].tensor.shape[1]:
            raise InvalidInputError(
                f"{name} has {one.tensor.shape[1]} columns and {first} has "
                f"{given[first].tensor.shape[1]}; bring both into one space with align() first."
            )
    kind = given[first].tensor
    return {
        name: Features(one.tensor.to(kind), one.is_array, one.dtype) for name, one in given.items()
    }
