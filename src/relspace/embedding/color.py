"""Colours: an embedding mapped to three dimensions of a perceptually uniform colour space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
import torch

from relspace._core.archive import check_tensors
from relspace._core.arguments import check_choice, check_number, check_random_state
from relspace._core.deprecation import renamed_parameters
from relspace._core.matrices import Array
from relspace._core.progress import Progress, as_listener, prefixed, shifted
from relspace._core.resources import Resources
from relspace.embedding.fit_palette import METHODS, fit_palette
from relspace.embedding.ncut import NormalizedCut
from relspace.embedding.palette import Palette
from relspace.embedding.sets import (
    Outputs,
    check_set_names,
    locations_of_results,
    outputs_of,
    restored,
    restored_results,
    shapes_of_results,
    stored_results,
)
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.rows.fitted import FittedMap
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.row_map import RowMap
from relspace.rows.source import RowSource


class Coloring(FittedMap):
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
        The map from rows of the embedding to colours.
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
    _kind: ClassVar = "coloring"

    palette_: Palette
    rank_correlation_: float
    colors_: dict[str, Any]

    def __init__(
        self, method: str = "spectral", *, quantile: float = 0.02, random_state: int = 0
    ) -> None:
        self.method = method
        self.quantile = quantile
        self.random_state = random_state

    def fit(
        self,
        cut: NormalizedCut,
        *,
        out: Outputs | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Progress = None,
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
        progress : callable or bool, optional
            Told ``(done, total, text)`` after every block of tokens; True prints lines on stderr.

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
        tell = as_listener(progress)
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
            Resources(device=cut.eigenvalues_.device).require(
                3 * n_tokens * cut.eigenvalues_.element_size(),
                f"the colours of {n_tokens} tokens",
                "write them as they are made: {out='colors.zarr'}",
            )
        budget = Resources.of(memory_budget).for_blocks()
        weights = cut.eigenvalues_.clamp_min(0.0).sqrt()
        # The results of an earlier call are kept if this one fails.
        fitted = copy(self)
        fitted.palette_, fitted.rank_correlation_ = fit_palette(
            sources,
            weights,
            method=self.method,
            quantile=quantile,
            random_state=seed,
            budget=budget,
            tell=tell,
        )
        fitted.colors_ = {}
        colors = fitted._row_map()
        for name, source in sources.items():
            if outputs is not None:
                fitted.colors_[name] = colors.write(
                    source, outputs[name], client=client, tell=prefixed(tell, f"Colours of {name}")
                )
                continue
            about = shifted(tell, 0, source.shape[0], f"Colouring {name}")
            found = colors.collect(
                source, dtype=weights.dtype, memory_budget=budget, tell=about
            ).to(weights.device)
            fitted.colors_[name] = restored(found, is_array=name in cut.arrays_)
        vars(self).update(vars(fitted))
        return self

    transform = renamed_parameters(embedding="X")(FittedMap.transform)

    def _row_map(self, memory_budget: int | None = None) -> RowMap:
        return RowMap(
            self.palette_,
            3,
            "channel",
            self._check_width,
            lambda: {
                "operation": "colors",
                "coloring": {**self.get_params(), "sha256": self.palette_.sha256()},
            },
        )

    def _check_width(self, shape: tuple[int, ...], names: tuple[str, ...] | None) -> None:
        if shape[1] != len(self.palette_.weights):
            raise InvalidInputError(
                f"X has {shape[1]} components; these colours were fitted on "
                f"{len(self.palette_.weights)}."
            )

    def _read_from(self) -> Iterable[str | Path]:
        return locations_of_results(self.colors_)

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        self._check_fitted()
        colors = stored_results(self.colors_, self.colors_, "colors")
        return {**self.palette_.tensors(), **colors}, {
            "names": list(self.colors_),
            "arrays": [name for name, one in self.colors_.items() if isinstance(one, np.ndarray)],
            "rank_correlation": self.rank_correlation_,
            "parameters": self.get_params(),
        }

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        _check_stored(tensors, metadata)
        coloring = cls(**metadata["parameters"])
        coloring.rank_correlation_ = metadata["rank_correlation"]
        coloring.colors_ = restored_results(tensors, "colors", metadata)
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
    shapes |= shapes_of_results(tensors, "colors", len(names), 3)
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


def _rows_of(embedding: Array | RowSource) -> RowSource:
    return embedding if isinstance(embedding, RowSource) else ArrayRows(embedding)
