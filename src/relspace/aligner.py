"""One feature set's way into the common space: its landmarks, its bandwidth, its profile."""

from __future__ import annotations

from typing import Self

import torch

from relspace._blocks import chunk_slices, empty_matrix, refuse_too_large
from relspace._parallel import side_by_side
from relspace._validation import (
    Array,
    Features,
    as_features,
    check_choice,
    check_fraction,
    refuse_non_finite,
)
from relspace.errors import InvalidInputError
from relspace.kernels.affinity import rbf_affinity
from relspace.kernels.bandwidth import DEFAULT_DENSITY, Bandwidth, solve_bandwidth
from relspace.kernels.distances import Cloud, Frame, full_precision
from relspace.kernels.normalization import NORMALIZATIONS, Normalization, fit_normalization
from relspace.kernels.relative import (
    ColumnProfile,
    affinity_rows,
    column_profile,
    standardize_rows,
)

# Rows that are worked on from the features to the result while they are in a CPU's cache.
_ROWS_IN_CACHE = 512
_ROWS_ON_DEVICE = 2**16


class Aligner:
    r"""Describes the tokens of one model by their affinities to landmarks.

    A token x becomes, over the landmarks l_1 ... l_m,

    .. math::
        a_j = \exp\left(-\frac{\lVert \tilde x - \tilde l_j \rVert^2}{2 \sigma^2}\right), \qquad
        z_j = \frac{a_j - \mu_j}{s_j},

    where the tilde stands for the normalisation, sigma is solved so that the landmarks' mean
    affinity is ``density``, and mu_j, s_j are the mean and standard deviation of column j over the
    other landmarks. Rows z are then centred and brought to unit norm, so that the squared
    Euclidean distance of two rows, of whatever models, is 2 (1 - r) with their correlation r.

    Relative representations over anchors are due to Moschella et al. (2023, ICLR); the kernel, its
    scaling and the standardised columns are this library's.

    Parameters
    ----------
    density : float
        Mean affinity between distinct landmarks.
    normalize : str
        What is done to tokens first: "center+unit" (subtract the landmarks' mean, bring to unit
        norm), "center", "unit", "zscore", "zscore+unit" or "none".
    standardize : bool
        Whether the shared profile is removed and rows have unit norm, as above; otherwise
        :meth:`transform` gives the affinities as they are.

    Attributes
    ----------
    bandwidth_ : Bandwidth
        The solved bandwidth, of normalised tokens.
    landmarks_ : tensor of shape (m, d)
        Normalised features of the landmarks.
    normalization_ : Normalization
        What is done to tokens first.
    profile_ : ColumnProfile
        Mean and standard deviation of the landmarks' columns.

    Examples
    --------
    >>> import torch
    >>> from relspace import Aligner
    >>> generator = torch.Generator().manual_seed(0)
    >>> landmarks = torch.randn(50, 8, generator=generator)
    >>> aligner = Aligner().fit(landmarks)
    >>> aligner.transform(torch.randn(3, 8, generator=generator)).shape
    torch.Size([3, 50])
    """

    def __init__(
        self,
        *,
        density: float = DEFAULT_DENSITY,
        normalize: str = "center+unit",
        standardize: bool = True,
    ) -> None:
        self.density = density
        self.normalize = normalize
        self.standardize = standardize

    def __repr__(self) -> str:
        settings = (
            f"density={self.density}, normalize={self.normalize!r}, standardize={self.standardize}"
        )
        return f"Aligner({settings})"

    def fit(self, landmarks: object) -> Self:
        """Solve the bandwidth of the landmarks' features and measure their profile.

        Parameters
        ----------
        landmarks : array-like of shape (m, d)
            This model's features of at least 3 landmarks.

        Returns
        -------
        Aligner
            Itself.

        Raises
        ------
        BandwidthError
            If the landmarks' features can't have the density.
        InvalidInputError
            If an argument is out of range or the features are not a finite matrix.
        """
        check_fraction(self.density, "density")
        check_choice(self.normalize, "normalize", NORMALIZATIONS)
        x = as_features(landmarks, "landmarks").tensor.detach()
        normalization = fit_normalization(x, self.normalize)
        points = normalization.apply(x)
        bandwidth = solve_bandwidth(points, density=self.density)
        affinity = rbf_affinity(points, sigma=bandwidth)
        assert isinstance(affinity, torch.Tensor)
        self.restore(normalization, points, bandwidth, column_profile(affinity))
        return self

    def restore(
        self,
        normalization: Normalization,
        landmarks: torch.Tensor,
        bandwidth: Bandwidth,
        profile: ColumnProfile,
    ) -> None:
        """Take over a state that was solved before."""
        self.normalization_ = normalization
        self.landmarks_ = landmarks
        self.bandwidth_ = bandwidth
        self.profile_ = profile
        self._frame = Frame.of(landmarks)
        self._cloud: Cloud = self._frame.place(landmarks)

    @property
    def n_landmarks(self) -> int:
        """How many landmarks tokens are described by."""
        return int(self.landmarks_.shape[0])

    @property
    def n_features_in_(self) -> int:
        """The width of the features it was fitted on."""
        return int(self.landmarks_.shape[1])

    def transform(self, X: object, *, own: torch.Tensor | None = None) -> Array:
        """Describe tokens by their relative features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Tokens of the model that it was fitted on.
        own : LongTensor of shape (n,), optional
            For tokens that are landmarks themselves, their column (-1 for others). An item's
            affinity with itself says nothing of its features and is left out.

        Returns
        -------
        tensor or array of shape (n, m)
            Relative features, of the kind, float type and device of ``X``.

        Raises
        ------
        InvalidInputError
            If the features have another width than those it was fitted on.
        MemoryBudgetError
            If the result would not fit into the free memory.
        """
        given = self._check(X)
        rows = self.relative_rows(given.tensor, own, standardize=self.standardize)
        return given.restore(rows.to(given.tensor.device))

    def affinity(self, X: object) -> Array:
        """Affinities of tokens to the landmarks, as they are; see :meth:`transform`."""
        given = self._check(X)
        rows = self.relative_rows(given.tensor, standardize=False)
        return given.restore(rows.to(given.tensor.device))

    def relative_rows(
        self, X: torch.Tensor, own: torch.Tensor | None = None, *, standardize: bool
    ) -> torch.Tensor:
        """Relative features of tokens of the right width, a few rows at a time into one result."""
        n, m = X.shape[0], self.n_landmarks
        refuse_too_large(
            n * m * self.landmarks_.element_size(),
            f"the relative features of {n} tokens over {m} landmarks",
            "transform fewer tokens at a time, or use fewer landmarks.",
            device=self.landmarks_.device,
        )
        out = empty_matrix(n, m, like=self.landmarks_)
        scale = (self._frame.unit / self.bandwidth_.sigma) ** 2
        step = _ROWS_IN_CACHE if out.device.type == "cpu" else _ROWS_ON_DEVICE

        def fill(rows: slice) -> None:
            block = X[rows].to(self.landmarks_)
            points = self._frame.place(self.normalization_.apply(block))
            if not bool(points.half_norms.sum().isfinite()):
                refuse_non_finite(X, "X")
            affinity_rows(points, self._cloud, scale, out[rows])
            if standardize:
                mine = None if own is None else own[rows]
                standardize_rows(out[rows], self.profile_, mine, deviation=True)

        with full_precision():
            side_by_side(lambda: fill, chunk_slices(n, step), out.device)
        return out

    def standardize_in_place(
        self, rows: torch.Tensor, own: torch.Tensor | None, *, deviation: bool = True
    ) -> torch.Tensor:
        """Overwrite affinities by rows of mean 0 and norm 1 without the shared profile."""
        return standardize_rows(rows, self.profile_, own, deviation=deviation)

    def _check(self, X: object) -> Features:
        if not hasattr(self, "landmarks_"):
            raise InvalidInputError("this Aligner is not fitted; call fit(landmarks) first.")
        given = as_features(X, "X", check_finite=False)
        if given.tensor.shape[1] != self.n_features_in_:
            raise InvalidInputError(
                f"X has {given.tensor.shape[1]} features; these landmarks have "
                f"{self.n_features_in_}: use the model and layer that they came from."
            )
        return given
