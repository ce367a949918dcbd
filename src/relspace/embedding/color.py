"""Colours: an embedding brought to three dimensions of a perceptually even colour space."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch

from relspace._core.archive import check_tensors, read_archive, write_archive
from relspace._core.device_copies import copies_for
from relspace._core.devices import choose_device, to_device
from relspace._core.fitting import Fitted
from relspace._core.memory import memory_budget_bytes, refuse_too_large
from relspace._core.validation import (
    Array,
    as_features,
    check_choice,
    check_number,
    check_random_state,
    to_numpy,
)
from relspace.embedding.color_axes import measure_rows, parts_of, spread_sample
from relspace.embedding.learned import learn_tsne, learn_umap
from relspace.embedding.ncut import NormalizedCut
from relspace.embedding.palette import Neighbors, Palette
from relspace.embedding.sets import Outputs, check_set_names, outputs_of, restored
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.features.row_files import is_read_in_blocks, open_rows
from relspace.kernels.landmarks import draw_distinct
from relspace.kernels.ties import mean_ranks
from relspace.rows.ahead import read_blocks
from relspace.rows.fitted import Progress, gather_result, write_result
from relspace.rows.source import ArrayRows, RowSource, reading
from relspace.rows.transform import Output

#: Ways from the embedding to three dimensions.
METHODS = ("spectral", "tsne", "umap")

_KIND = "coloring"
_LEARNED_ITEMS = 4096


class Coloring(Fitted):
    """Gives tokens colours whose distances follow the distances of their embeddings.

    Rows of the embedding, components weighted by the square root of their eigenvalue and the
    constant one included, are brought to unit norm (Ng, Jordan and Weiss 2001) and then to three
    dimensions; the first two become the chromatic axes of OKLab (Ottosson 2020), the third
    lightness. Position and scale come from quantiles, so that outliers don't grey out the rest;
    what lies beyond is clipped.

    Parameters
    ----------
    method : str
        "spectral": the three principal axes, no extra dependency. "tsne" (two dimensions, of one
        lightness; openTSNE) and "umap" are learned on up to 4096 tokens, others take the weighted
        mean of their 5 nearest.
    quantile : float
        The share of tokens, on either side of an axis, that may lie beyond the range of colours.
    random_state : int
        Seed of "tsne", "umap" and of the choice of the tokens they learn.

    Attributes
    ----------
    colors_ : dict of str to tensor, array or RowSource of shape (n_s, 3)
        sRGB colours in [0, 1] of every set's tokens, an array where these were one; what
        :meth:`fit` wrote is a source of rows.
    palette_ : Palette
        What gives a row of the embedding its colour.
    rank_correlation_ : float
        Spearman correlation of colour distance (in OKLab) and distance of unit rows, on a sample
        of pairs of tokens.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    >>> cut = relspace.NormalizedCut(n_components=5).fit(X)
    >>> coloring = relspace.Coloring().fit(cut)
    >>> coloring.colors_["features"].shape
    torch.Size([50, 3])
    """

    _results: ClassVar = ("palette_", "rank_correlation_", "colors_")
    _fit_call: ClassVar = "fit(cut)"

    palette_: Palette
    rank_correlation_: float
    colors_: dict[str, Any]

    def __init__(
        self, method: str = "spectral", *, quantile: float = 0.02, random_state: int = 0
    ) -> None:
        self.method = method
        self.quantile = quantile
        self.random_state = random_state

    def __repr__(self) -> str:
        return f"Coloring(method={self.method!r}, quantile={self.quantile})"

    def fit(
        self,
        cut: NormalizedCut,
        *,
        out: Outputs | None = None,
        memory_budget: int | None = None,
        client: Any = None,
    ) -> Self:
        """Choose the colours of an embedding.

        An embedding that was written to files is read in blocks. The principal axes are those of
        all tokens; quantiles and the rank correlation come from a random sample where there are
        more than 262144.

        Parameters
        ----------
        cut : NormalizedCut
            A fitted one, with at least 2 components.
        out : path, Output, or mapping of str to these, optional
            Where each set's colours are written, instead of holding them; one path for one set.
        memory_budget : int, optional
            Bytes that working memory may take; by default a quarter of what is free.
        client : distributed.Client, optional
            With ``out``: a cluster that writes the colours, which must reach the embedding and the
            output under the same paths.

        Returns
        -------
        Coloring
            Itself.

        Raises
        ------
        InvalidInputError
            If an argument is out of range or there are too few components.
        MemoryBudgetError
            If the colours would not fit into the free memory and no ``out`` is given.
        MissingDependencyError
            If the method needs a package that is not installed.
        """
        check_choice(self.method, "method", METHODS)
        quantile = check_number(self.quantile, "quantile")
        if not 0.0 <= quantile < 0.5:
            raise InvalidInputError(f"quantile is {quantile}; it must lie in [0, 0.5).")
        seed = check_random_state(self.random_state)
        if not isinstance(cut, NormalizedCut):
            raise InvalidTypeError(
                f"cut is of type {type(cut).__name__}; it must be a fitted NormalizedCut."
            )
        if len(cut.eigenvalues_) < 2:
            raise InvalidInputError("the embedding has 1 component; colours need at least 2.")
        sources = {name: _rows_of(cut[name]) for name in cut.names_}
        outputs = outputs_of(out, sources)
        if outputs is None and client is not None:
            raise InvalidInputError(
                "client is for colours that are written.", ways_out=["give {out='colors.zarr'}"]
            )
        n_tokens = sum(one.shape[0] for one in sources.values())
        if outputs is None:
            refuse_too_large(
                3 * n_tokens * cut.eigenvalues_.element_size(),
                f"the colours of {n_tokens} tokens",
                "write them as they are made: {out='colors.zarr'}",
            )
        weights = cut.eigenvalues_.clamp_min(0.0).sqrt()
        budget = memory_budget_bytes(memory_budget)
        rows, axes = measure_rows(sources, weights, spread_sample(n_tokens, seed), budget)
        project = axes if self.method == "spectral" else self._learned(rows, seed)
        places = project(rows)
        low, high = (torch.quantile(places, q, dim=0) for q in (quantile, 1 - quantile))
        reach = (high - low) / 2
        reach = torch.where(reach > 0, reach, torch.ones_like(reach))
        fitted = copy(self)
        fitted.palette_ = Palette(weights, project, (low + high) / 2, reach)
        lab = fitted.palette_.lab(places)
        fitted.rank_correlation_ = distance_rank_correlation(rows, lab, random_state=seed)
        fitted.colors_ = {}
        copies = copies_for(weights.device)
        for name, source in sources.items():
            if outputs is None:
                found = weights.new_empty((source.shape[0], 3))
                with closing(read_blocks(source, parts_of(source, budget), copies)) as blocks:
                    for part, block in blocks:
                        found[part] = fitted.palette_(block, part.start)
                fitted.colors_[name] = restored(found, is_array=name in cut.arrays_)
            else:
                fitted.colors_[name] = fitted._write(source, outputs[name], client)
        # What an earlier call fitted was kept until here.
        vars(self).update(vars(fitted))
        return self

    @overload
    def transform(self, embedding: object, *, memory_budget: int | None = ...) -> Array: ...
    @overload
    def transform(
        self,
        embedding: object,
        *,
        out: str | Path | Output,
        client: Any = ...,
        progress: Progress | None = ...,
    ) -> RowSource: ...
    def transform(
        self,
        embedding: object,
        *,
        out: str | Path | Output | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Progress | None = None,
    ) -> Array | RowSource:
        """Colour new tokens.

        Parameters
        ----------
        embedding : array-like of shape (n, n_components), path, source of rows, or Dask array
            Their embedding, ``cut.transform(name, X)``.
        out, memory_budget, client, progress
            For tokens larger than memory: where the result goes as it is made, and how; see
            :meth:`relspace.Aligner.transform`.

        Returns
        -------
        tensor or array of shape (n, 3), or RowSource
            sRGB colours in [0, 1], of the kind and float type of the embedding; of a Dask array a
            lazy one; with ``out`` the finished output.
        """
        self._check_fitted()
        if out is not None:
            return self._write(open_rows(embedding), out, client, progress)
        if is_read_in_blocks(embedding):
            source = open_rows(embedding)
            self._check_width(source.shape)
            return gather_result(
                source, self.palette_, 3, like=embedding, memory_budget=memory_budget
            )
        given = as_features(embedding, "embedding")
        self._check_width(given.tensor.shape)
        found = self.palette_(given.tensor)
        return given.restore(found.to(given.tensor.device))

    def _write(
        self,
        source: RowSource,
        out: str | Path | Output,
        client: Any = None,
        progress: Progress | None = None,
    ) -> RowSource:
        self._check_width(source.shape)
        job = {
            "operation": "colors",
            "coloring": {**self._parameters(), "sha256": self.palette_.sha256()},
        }
        return write_result(
            source,
            self.palette_,
            3,
            out=out,
            job=job,
            columns="channel",
            client=client,
            progress=progress,
        )

    def _check_width(self, shape: tuple[int, ...]) -> None:
        if shape[1] != len(self.palette_.weights):
            raise InvalidInputError(
                f"embedding has {shape[1]} components; these colours were fitted on "
                f"{len(self.palette_.weights)}."
            )

    def _parameters(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "quantile": self.quantile,
            "random_state": self.random_state,
        }

    def _learned(self, rows: torch.Tensor, seed: int) -> Neighbors:
        generator = torch.Generator().manual_seed(seed)
        chosen = draw_distinct(len(rows), _LEARNED_ITEMS, generator)
        known = rows[chosen.to(rows.device)]
        learn = learn_tsne if self.method == "tsne" else learn_umap
        return Neighbors(known, torch.from_numpy(learn(to_numpy(known), seed)).to(rows))

    def to(self, device: str | torch.device) -> Self:
        """The same colours on another device, which computes from then on.

        Parameters
        ----------
        device : str or torch.device
            Such as "cuda", "cuda:1" or "cpu"; "auto" is the first GPU, or the CPU without one.

        Returns
        -------
        Coloring
            One of its own. Colours that were written to files stay there.
        """
        self._check_fitted()
        where = choose_device(device)
        moved = copy(self)
        moved.palette_ = to_device(self.palette_, where)
        moved.colors_ = to_device(self.colors_, where)
        return moved

    def save(self, path: str | Path) -> Path:
        """Write the fitted colours into one safetensors file, whole or not at all.

        Colours that were written by ``out`` stay where they are and are not a part of it.
        """
        self._check_fitted()
        colors = {
            f"colors.{number}": torch.as_tensor(one)
            for number, one in enumerate(self.colors_.values())
            if isinstance(one, torch.Tensor | np.ndarray)
        }
        metadata = {
            "names": list(self.colors_),
            "arrays": [name for name, one in self.colors_.items() if isinstance(one, np.ndarray)],
            "rank_correlation": self.rank_correlation_,
            "parameters": self._parameters(),
        }
        return write_archive(path, _KIND, {**self.palette_.tensors(), **colors}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; the same colours, to the bit."""
        tensors, metadata = read_archive(path, _KIND)
        with reading(path, "saved colours"):
            _check_stored(tensors, metadata)
            coloring = cls(**metadata["parameters"])
            coloring.rank_correlation_ = metadata["rank_correlation"]
            arrays = metadata.get("arrays", ())
            coloring.colors_ = {
                name: restored(tensors.pop(f"colors.{number}"), is_array=name in arrays)
                for number, name in enumerate(metadata["names"])
                if f"colors.{number}" in tensors
            }
            coloring.palette_ = Palette.of(tensors)
            return coloring


def _check_stored(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Refuse what can't be saved colours: parts that do not fit together."""
    names = check_set_names(metadata["names"], metadata.get("arrays", []))
    parameters = metadata["parameters"]
    method = check_choice(parameters["method"], "method", METHODS)
    if not 0.0 <= check_number(parameters["quantile"], "quantile") < 0.5:
        raise FileFormatError(f"quantile is {parameters['quantile']}; it must lie in [0, 0.5).")
    check_random_state(parameters["random_state"])
    if abs(check_number(metadata["rank_correlation"], "rank_correlation")) > 1 + 1e-6:
        raise FileFormatError("rank_correlation lies beyond 1.")
    (k,) = tensors["weights"].shape
    shapes: dict[str, tuple[int, ...]] = {"weights": (k,), "middle": (3,), "reach": (3,)}
    if method == "spectral":
        shapes |= {"mean": (k + 1,), "axes": (k + 1, 3)}
    else:
        n_known = tensors["known"].shape[0]
        shapes |= {"known": (n_known, k + 1), "places": (n_known, 3)}
    stored = [f"colors.{i}" for i in range(len(names)) if f"colors.{i}" in tensors]
    shapes |= {name: (tensors[name].shape[0], 3) for name in stored}
    check_tensors(tensors, shapes)
    if surplus := sorted(set(tensors) - set(shapes)):
        raise FileFormatError(f"it holds {', '.join(surplus)}, which method={method!r} has not.")
    if not bool((tensors["reach"] > 0).all()):
        raise FileFormatError("its tensor 'reach' holds values that are not above 0.")


@overload
def colors(
    cut: NormalizedCut, *, method: str = ..., random_state: int = ...
) -> Mapping[str, Array]: ...
@overload
def colors(
    cut: NormalizedCut,
    *,
    method: str = ...,
    random_state: int = ...,
    out: Outputs,
    memory_budget: int | None = ...,
) -> Mapping[str, RowSource]: ...
def colors(
    cut: NormalizedCut,
    *,
    method: str = "spectral",
    random_state: int = 0,
    out: Outputs | None = None,
    memory_budget: int | None = None,
) -> Mapping[str, Array] | Mapping[str, RowSource]:
    """Colour the tokens of all sets of an embedding, see :class:`Coloring`.

    Parameters
    ----------
    cut : NormalizedCut
        A fitted embedding.
    method : str
        "spectral", "tsne" or "umap".
    random_state : int
        Seed.
    out, memory_budget
        For colours larger than memory: where each set's go, see :meth:`Coloring.fit`.

    Returns
    -------
    dict of str to tensor or array of shape (n_s, 3), or to RowSource with ``out``
        sRGB colours in [0, 1]: the same concept has the same colour in every set.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    >>> rgb = relspace.colors(relspace.NormalizedCut(n_components=5).fit(X))
    >>> rgb["features"].min() >= 0, rgb["features"].max() <= 1
    (tensor(True), tensor(True))
    """
    coloring = Coloring(method, random_state=random_state)
    return coloring.fit(cut, out=out, memory_budget=memory_budget).colors_


def distance_rank_correlation(
    rows: torch.Tensor, lab: torch.Tensor, *, random_state: int = 0, n_pairs: int = 20_000
) -> float:
    """Spearman correlation of two kinds of distance over random pairs of tokens.

    Parameters
    ----------
    rows : tensor of shape (n, d)
        Unit rows of the embedding.
    lab : tensor of shape (n, 3)
        Colours in OKLab.
    random_state : int
        Seed of the pairs.
    n_pairs : int
        How many pairs.
    """
    generator = torch.Generator().manual_seed(random_state)
    pairs = torch.randint(len(rows), (2, n_pairs), generator=generator)
    # Ranks of squares: a root would tell apart what only rounding does.
    ranks = [
        mean_ranks((one[pairs[0]].double() - one[pairs[1]].double()).square().sum(dim=1))
        for one in (rows, lab)
    ]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _rows_of(embedding: Array | RowSource) -> RowSource:
    return embedding if isinstance(embedding, RowSource) else ArrayRows(embedding)
