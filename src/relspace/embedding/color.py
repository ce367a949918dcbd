"""Colours: an embedding brought to three dimensions of a perceptually even colour space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch

from relspace._archive import read_archive, write_archive
from relspace._validation import Array, as_features, check_choice, check_number, check_random_state
from relspace.embedding.ncut import NormalizedCut
from relspace.embedding.oklab import oklab_to_srgb
from relspace.errors import InvalidInputError, MissingDependencyError

#: Ways from the embedding to three dimensions.
METHODS = ("spectral", "tsne", "umap")

_KIND = "coloring"
# A box around a light grey, in lightness and two chromatic axes, most of which a screen can show.
_MIDDLE = (0.70, 0.0, 0.0)
_REACH = (0.20, 0.17, 0.17)
_NEIGHBORS = 5
_LEARNED_ITEMS = 4096
_ROWS = 4096


class Coloring:
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
    colors_ : dict of str to tensor of shape (n_s, 3)
        sRGB colours in [0, 1] of every set's tokens.
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

    def __init__(
        self, method: str = "spectral", *, quantile: float = 0.02, random_state: int = 0
    ) -> None:
        self.method = method
        self.quantile = quantile
        self.random_state = random_state

    def __repr__(self) -> str:
        return f"Coloring(method={self.method!r}, quantile={self.quantile})"

    def fit(self, cut: NormalizedCut) -> Self:
        """Choose the colours of an embedding.

        Parameters
        ----------
        cut : NormalizedCut
            A fitted one, with at least 2 components.

        Returns
        -------
        Coloring
            Itself.

        Raises
        ------
        InvalidInputError
            If an argument is out of range or there are too few components.
        MissingDependencyError
            If the method needs a package that is not installed.
        """
        check_choice(self.method, "method", METHODS)
        quantile = check_number(self.quantile, "quantile")
        if not 0.0 <= quantile < 0.5:
            raise InvalidInputError(f"quantile is {quantile}; it must lie in [0, 0.5).")
        seed = check_random_state(self.random_state)
        if cut.n_components < 2:
            raise InvalidInputError("the embedding has 1 component; colours need at least 2.")
        self.weights_ = cut.eigenvalues_.clamp_min(0.0).sqrt()
        rows = torch.cat([self._unit_rows(cut.embedding_[name]) for name in cut.names_])
        if self.method == "spectral":
            self._fit_axes(rows)
        else:
            self._learn(rows, seed)
        places = self._three_dimensions(rows)
        low, high = (torch.quantile(_thin(places), q, dim=0) for q in (quantile, 1 - quantile))
        self.middle_ = (low + high) / 2
        reach = (high - low) / 2
        self.reach_ = torch.where(reach > 0, reach, torch.ones_like(reach))
        lengths = [len(cut.embedding_[name]) for name in cut.names_]
        lab = self._lab(places)
        self.colors_ = dict(zip(cut.names_, torch.split(oklab_to_srgb(lab), lengths), strict=True))
        self.rank_correlation_ = distance_rank_correlation(rows, lab, random_state=seed)
        return self

    def transform(self, embedding: object) -> Array:
        """Colour new tokens.

        Parameters
        ----------
        embedding : array-like of shape (n, n_components)
            Their embedding, ``cut.transform(name, X)``.

        Returns
        -------
        tensor or array of shape (n, 3)
            sRGB colours in [0, 1], of the kind and float type of the embedding.
        """
        if not hasattr(self, "weights_"):
            raise InvalidInputError("this Coloring is not fitted; call fit(cut) first.")
        given = as_features(embedding, "embedding")
        if given.tensor.shape[1] != len(self.weights_):
            raise InvalidInputError(
                f"embedding has {given.tensor.shape[1]} components; these colours were fitted on "
                f"{len(self.weights_)}."
            )
        places = self._three_dimensions(self._unit_rows(given.tensor.to(self.weights_)))
        return given.restore(oklab_to_srgb(self._lab(places)))

    def _unit_rows(self, embedding: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([embedding.new_ones(len(embedding), 1), embedding * self.weights_], dim=1)
        norms: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return rows / norms

    def _fit_axes(self, rows: torch.Tensor) -> None:
        self.mean_ = rows.mean(dim=0)
        covariance = (rows - self.mean_).double().T @ (rows - self.mean_).double()
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :3]
        sign = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        self.axes_ = (axes * sign).to(rows)

    def _learn(self, rows: torch.Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(rows), generator=generator)[:_LEARNED_ITEMS].sort().values
        self.known_ = rows[chosen]
        learn = _learn_tsne if self.method == "tsne" else _learn_umap
        self.places_ = torch.from_numpy(learn(self.known_.cpu().numpy(), seed)).to(rows)

    def _three_dimensions(self, rows: torch.Tensor) -> torch.Tensor:
        if self.method == "spectral":
            places: torch.Tensor = (rows - self.mean_) @ self.axes_
            return places
        out = rows.new_empty((len(rows), 3))
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            near = torch.cdist(block, self.known_).topk(_NEIGHBORS, dim=1, largest=False)
            # A token that was learned itself has a neighbour at distance 0: all weight is there.
            weight = 1 / near.values.clamp_min(1e-6)
            weight = weight / weight.sum(dim=1, keepdim=True)
            out[start : start + _ROWS] = (self.places_[near.indices] * weight[..., None]).sum(1)
        return out

    def _lab(self, places: torch.Tensor) -> torch.Tensor:
        inside = ((places - self.middle_) / self.reach_).clamp(-1.0, 1.0)
        # The axis that varies least becomes lightness, so that hue tells most.
        inside = inside.roll(1, dims=1)
        lab: torch.Tensor = inside.new_tensor(_MIDDLE) + inside * inside.new_tensor(_REACH)
        return lab

    def save(self, path: str | Path) -> Path:
        """Write the fitted colours into one safetensors file, whole or not at all."""
        state = {key: value for key, value in vars(self).items() if isinstance(value, torch.Tensor)}
        colors = {f"colors.{number}": one for number, one in enumerate(self.colors_.values())}
        metadata = {
            "names": list(self.colors_),
            "rank_correlation": self.rank_correlation_,
            "parameters": {
                "method": self.method,
                "quantile": self.quantile,
                "random_state": self.random_state,
            },
        }
        return write_archive(path, _KIND, {**state, **colors}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; the same colours, to the bit."""
        tensors, metadata = read_archive(path, _KIND)
        coloring = cls(**metadata["parameters"])
        coloring.rank_correlation_ = metadata["rank_correlation"]
        coloring.colors_ = {
            name: tensors.pop(f"colors.{number}") for number, name in enumerate(metadata["names"])
        }
        vars(coloring).update(tensors)
        return coloring


def colors(
    cut: NormalizedCut, *, method: str = "spectral", random_state: int = 0
) -> Mapping[str, torch.Tensor]:
    """Colour the tokens of all sets of an embedding, see :class:`Coloring`.

    Parameters
    ----------
    cut : NormalizedCut
        A fitted embedding.
    method : str
        "spectral", "tsne" or "umap".
    random_state : int
        Seed.

    Returns
    -------
    dict of str to tensor of shape (n_s, 3)
        sRGB colours in [0, 1]: the same concept has the same colour in every set.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    >>> rgb = relspace.colors(relspace.NormalizedCut(n_components=5).fit(X))
    >>> rgb["features"].min() >= 0, rgb["features"].max() <= 1
    (tensor(True), tensor(True))
    """
    return Coloring(method, random_state=random_state).fit(cut).colors_


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
    ranks = [
        torch.linalg.vector_norm(one[pairs[0]] - one[pairs[1]], dim=1).argsort().argsort().double()
        for one in (rows, lab)
    ]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _thin(places: torch.Tensor) -> torch.Tensor:
    # torch.quantile takes at most 2**24 numbers.
    return places[:: max(1, len(places) // 1_000_000)]


def _learn_tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise MissingDependencyError(
            'method "tsne" needs openTSNE; install it with: pip install "relspace[tsne]"'
        ) from error
    plane = np.asarray(TSNE(n_components=2, random_state=seed % 2**32).fit(rows))
    return np.concatenate([plane, np.zeros((len(plane), 1))], axis=1)


def _learn_umap(rows: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError(
            'method "umap" needs umap-learn; install it with: pip install "relspace[umap]"'
        ) from error
    return np.asarray(UMAP(n_components=3, random_state=seed % 2**32).fit_transform(rows))
