"""Normalized cut: the spectral embedding of all sets' tokens in one balanced graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from relspace._core.archive import check_tensors
from relspace._core.arguments import (
    check_count,
    check_density,
    check_positive,
    check_random_state,
    name_some,
)
from relspace._core.fitting import Fitted
from relspace._core.progress import Progress, as_listener
from relspace._core.resources import Resources
from relspace.embedding.components import leading_components
from relspace.embedding.extension import Extension
from relspace.embedding.graph import JointGraph, joint_graph
from relspace.embedding.sets import (
    Outputs,
    check_set_names,
    locations_of_results,
    open_sets,
    outputs_of,
    restored,
    restored_results,
    shapes_of_results,
    some_tokens,
    stored_results,
)
from relspace.embedding.token_pass import hold_embeddings, write_embeddings
from relspace.errors import FileFormatError, InvalidInputError, UnknownNameError
from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.landmarks import choose_landmarks
from relspace.rows.fitted import FittedMaps
from relspace.rows.row_map import RowMap

# Rounding of float32 is 6e-8 of a degree; of edges that weigh so much less some digits are left.
_WEIGHT_RANGE = 1e6


class NormalizedCut(Fitted, FittedMaps):
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
    embedding_ : dict of str to tensor, array or RowSource of shape (n_s, n_components)
        The embedding of every set's tokens, an array where these were one; what :meth:`fit` wrote
        is a source of rows.
    graph_ : JointGraph
        The graph.
    arrays_ : frozenset of str
        The sets whose tokens were arrays, so that results are too.

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

    _results: ClassVar = (
        *("names_", "graph_", "eigenvalues_", "vectors_", "rotation_"),
        *("embedding_", "arrays_"),
    )
    _fit_call: ClassVar = "fit(sets)"
    _kind: ClassVar = "normalized cut"

    names_: tuple[str, ...]
    graph_: JointGraph
    eigenvalues_: torch.Tensor
    vectors_: torch.Tensor
    rotation_: torch.Tensor
    embedding_: dict[str, Any]
    arrays_: frozenset[str]

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

    def fit(
        self,
        sets: Mapping[str, object] | object,
        *,
        out: Outputs | None = None,
        memory_budget: int | None = None,
        checkpoint: str | Path | None = None,
        client: Any = None,
        progress: Progress = None,
    ) -> Self:
        """Embed the tokens of several sets of one common space, or of one feature set.

        Only the nodes of the graph are held; all other tokens are read in blocks, once.

        Parameters
        ----------
        sets : ItemSpace, mapping of str to array-like of shape (n_s, m), or one array-like
            Relative features; sets may have different numbers of tokens but the same columns.
            Paths, memory maps, lists of shards, layers of feature sets and other sources of rows
            (:func:`relspace.features.scan`) are read in blocks.
        out : path, Output, or mapping of str to these, optional
            Where each set's embedding is written, instead of holding it; one path for one set. The
            components before they are orthonormal are kept beside it until all are written, so that
            the same call resumes an interrupted run, to the same bits.
        memory_budget : int, optional
            Bytes that working memory besides the graph may take; by default a quarter of what is
            free. For writing, it is a part of :class:`relspace.Output`.
        checkpoint : str or Path, optional
            With ``out``: a small file that keeps the sums over all tokens, so that the same call
            finds a finished embedding done without extending tokens again.
        client : distributed.Client, optional
            With ``out``: a cluster that makes the chunks, which must reach the tokens and the
            output under the same paths.
        progress : callable or bool, optional
            Told ``(done, total, text)`` after every block of tokens; True prints lines on stderr.

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
            If the graph, or the embedding without ``out``, would not fit into the free memory.
        """
        tell = as_listener(progress)
        k = check_count(self.n_components, "n_components")
        limit = check_count(self.n_landmarks, "n_landmarks", at_least=3)
        check_density(self.density)
        within_weight = check_positive(self.within_weight, "within_weight")
        if not 1 / _WEIGHT_RANGE <= within_weight <= _WEIGHT_RANGE:
            raise InvalidInputError(
                f"within_weight is {within_weight}; it must lie in 1e-6 .. 1e6, since edges of one "
                "kind are lost beside those of the other otherwise."
            )
        seed = check_random_state(self.random_state)
        opened = open_sets(sets)
        sources = {name: one.rows for name, one in opened.items()}
        outputs = outputs_of(out, sources, checkpoint)
        if outputs is None and (checkpoint is not None or client is not None):
            given = "client" if checkpoint is None else "checkpoint"
            raise InvalidInputError(
                f"{given} is for embeddings that are written.",
                ways_out=["give {out='embedding.zarr'}"],
            )
        nodes = _choose_nodes({name: one.shape[0] for name, one in sources.items()}, limit, seed)
        n_nodes = sum(map(len, nodes.values()))
        if k > n_nodes - 2:
            raise InvalidInputError(
                f"n_components is {k} and the graph has {n_nodes} nodes; ask for at most "
                f"{n_nodes - 2}."
            )
        tokens = {name: some_tokens(one, nodes[name], name) for name, one in sources.items()}
        kind = next(iter(tokens.values()))
        tokens = {name: one.to(kind) for name, one in tokens.items()}
        there = Resources(device=kind.device)
        there.require(
            3 * n_nodes**2 * kind.element_size(),
            f"the graph of {n_nodes} nodes",
            "lower {n_landmarks}",
        )
        if outputs is None:
            n_tokens = sum(one.shape[0] for one in sources.values())
            there.require(
                n_tokens * k * kind.element_size(),
                f"the embedding of {n_tokens} tokens in {k} components",
                "write it as it is made: {out='embedding.zarr'}",
            )
        # The results of an earlier call are kept if this one fails.
        fitted = copy(self)
        fitted.names_ = tuple(sources)
        fitted.arrays_ = frozenset(name for name, one in opened.items() if one.is_array)
        tell(0, 0, f"Cutting the graph of {n_nodes} nodes")
        fitted.graph_ = joint_graph(
            tokens, density=self.density, within_weight=within_weight, random_state=seed
        )
        fitted.eigenvalues_, fitted.vectors_ = leading_components(fitted.graph_.weights(), k)
        fitted.rotation_ = torch.eye(k, dtype=fitted.vectors_.dtype, device=kind.device)
        extensions = {name: fitted._extension(name) for name in sources}
        if outputs is None:
            fitted.rotation_, held = hold_embeddings(
                sources, extensions, budget=Resources.of(memory_budget).for_blocks(), tell=tell
            )
            fitted.embedding_ = {
                name: restored(rows, is_array=opened[name].is_array) for name, rows in held
            }
        else:
            dtype = str(kind.dtype).removeprefix("torch.")
            fitted.rotation_, fitted.embedding_ = write_embeddings(
                sources,
                extensions,
                {name: replace(one, dtype=one.dtype or dtype) for name, one in outputs.items()},
                fitted._job,
                checkpoint=checkpoint,
                client=client,
                tell=tell,
            )
        vars(self).update(vars(fitted))
        return self

    def __getitem__(self, name: str) -> Any:
        self._which(name)
        if name not in self.embedding_:
            raise InvalidInputError(
                f"the embedding of {name!r} was written to a file of its own and is not part of "
                "this one; open it with relspace.features.scan."
            )
        return self.embedding_[name]

    def _which(self, name: str) -> int:
        if not isinstance(name, str) or name not in self.names_:
            raise UnknownNameError(
                f"no set is called {name!r}; this embedding holds {name_some(self.names_)}."
            )
        return self.names_.index(name)

    def _row_map_of(self, name: str, memory_budget: int | None = None) -> RowMap:
        extension = self._extension(name)
        k = self.rotation_.shape[1]
        return RowMap(extension, k, "component", self._check_width, lambda: self._job(extension))

    def _check_width(self, shape: tuple[int, ...], names: tuple[str, ...] | None) -> None:
        width = self.graph_.nodes.points.shape[1]
        if shape[1] != width:
            raise InvalidInputError(
                f"X has {shape[1]} columns; this embedding was fitted on {width}."
            )

    def _extension(self, name: str) -> Extension:
        walk = self.vectors_ / self.eigenvalues_
        return Extension(self.graph_, self._which(name), walk, self.rotation_)

    def _job(self, extension: Extension) -> dict[str, Any]:
        own = {"set": self.names_[extension.which], **self.get_params()}
        return {"operation": "normalized cut", "cut": {**own, "sha256": extension.sha256()}}

    def _read_from(self) -> Iterable[str | Path]:
        return locations_of_results(self.embedding_)

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        self._check_fitted()
        nodes, frame = self.graph_.nodes, self.graph_.frame
        tensors = {
            "eigenvalues": self.eigenvalues_,
            "vectors": self.vectors_,
            "rotation": self.rotation_,
            "nodes": nodes.points,
            "half_norms": nodes.half_norms,
            "origin": frame.origin,
            "scale": self.graph_.scale,
            "weight": self.graph_.weight,
        }
        return tensors | stored_results(self.names_, self.embedding_, "embedding"), {
            "names": list(self.names_),
            "arrays": sorted(self.arrays_),
            "starts": list(self.graph_.starts),
            "unit": frame.unit,
            "exponent": frame.exponent,
            "parameters": self.get_params(),
        }

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        _check_stored(tensors, metadata)
        cut = cls(**metadata["parameters"])
        cut.names_ = tuple(metadata["names"])
        cut.graph_ = JointGraph(
            Cloud(tensors["nodes"], tensors["half_norms"]),
            Frame(tensors["origin"], metadata["unit"], metadata.get("exponent", 0)),
            tuple(metadata["starts"]),
            tensors["scale"],
            tensors["weight"],
        )
        cut.eigenvalues_, cut.vectors_ = tensors["eigenvalues"], tensors["vectors"]
        cut.rotation_ = tensors["rotation"]
        cut.arrays_ = frozenset(metadata.get("arrays", ()))
        cut.embedding_ = restored_results(tensors, "embedding", metadata)
        return cut


def _check_stored(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Refuse what can't be a saved embedding: parts that do not fit together."""
    names = check_set_names(metadata["names"], metadata.get("arrays", []))
    parameters = metadata["parameters"]
    for name in ("n_components", "n_landmarks"):
        check_count(parameters[name], name)
    check_density(parameters["density"])
    check_positive(parameters["within_weight"], "within_weight")
    check_random_state(parameters["random_state"])
    check_positive(metadata["unit"], "unit")
    exponent = metadata.get("exponent", 0)
    if isinstance(exponent, bool) or not isinstance(exponent, int):
        raise FileFormatError(f"exponent is {exponent!r}; it must be a whole number.")
    starts = [check_count(start, "starts", at_least=0) for start in metadata["starts"]]
    (n_nodes, m), (k,) = tensors["nodes"].shape, tensors["eigenvalues"].shape
    if starts != sorted(set(starts)) or len(starts) != len(names) + 1:
        raise FileFormatError(f"starts is {starts}; it must rise, with one more than sets.")
    if (starts[0], starts[-1]) != (0, n_nodes):
        raise FileFormatError(f"starts goes from {starts[0]} to {starts[-1]} of {n_nodes} nodes.")
    sets = (len(names), len(names))
    shapes = {
        **{"nodes": (n_nodes, m), "half_norms": (n_nodes,), "origin": (m,)},
        **{"scale": sets, "weight": sets},
        **{"eigenvalues": (k,), "vectors": (n_nodes, k), "rotation": (k, k)},
        **shapes_of_results(tensors, "embedding", len(names), k),
    }
    check_tensors(tensors, shapes)


def _choose_nodes(sizes: Mapping[str, int], limit: int, seed: int) -> dict[str, torch.Tensor]:
    if sum(sizes.values()) <= limit:
        return {name: torch.arange(n) for name, n in sizes.items()}
    share = max(3, limit // len(sizes))
    return {name: choose_landmarks(n, share, random_state=seed) for name, n in sizes.items()}
