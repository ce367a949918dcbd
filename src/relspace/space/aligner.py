"""The aligner, which maps one feature set into the common space by affinities to landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import torch

from relspace._core.arguments import check_choice, check_density
from relspace._core.labelled_tables import feature_names, refuse_other_features
from relspace._core.matrices import Array, as_features, to_numpy
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError
from relspace.kernels.affinity import rbf_affinity
from relspace.kernels.bandwidth import Bandwidth, solve_bandwidth
from relspace.kernels.frame import Cloud, Frame
from relspace.kernels.normalization import NORMALIZATIONS, Normalization, fit_normalization
from relspace.kernels.relative import (
    STANDARDIZATIONS,
    ColumnProfile,
    column_profile,
    relative_rows,
    standardize_rows,
)
from relspace.rows.fitted import FittedMap, apply_map
from relspace.rows.row_map import RowMap
from relspace.space.defaults import ITEMS
from relspace.space.stored_sets import check_stored_aligner


class Aligner(FittedMap):
    r"""Describes the tokens of one model by their affinities to landmarks.

    A token x becomes, over the landmarks l_1 ... l_m,

    .. math::
        a_j = \exp\left(-\frac{\lVert \tilde x - \tilde l_j \rVert^2}{2 \sigma^2}\right), \qquad
        z = W (a - \mu),

    where the tilde stands for the normalisation, sigma is solved so that the landmarks' mean
    affinity is ``density``, mu_j is the mean of column j over the other landmarks, and the
    symmetric W standardises and decorrelates the columns (ZCA whitening with a ridge). Rows z are
    then centred and brought to unit norm, so that the squared Euclidean distance of two rows, of
    whatever models, is 2 (1 - r) with their correlation r.

    Relative representations over anchors are due to Moschella et al. (2023, ICLR); the kernel, its
    scaling and the decorrelated columns are this library's.

    Parameters
    ----------
    density : float
        Mean affinity between distinct landmarks.
    normalize : str
        The normalisation of tokens, fitted on the landmarks: "quarter-whiten" (divide each
        principal axis by the fourth root of its standard deviation), "half-whiten", "zscore",
        "center" or "none"; each also with "+unit" (bring to unit norm then), and "unit".
    standardize : str
        The standardisation of columns: "whiten" (as above), "half-whiten" (the square root
        of that W, so that columns are decorrelated halfway: finds what is of one kind rather than
        one item), "columns" (each divided by its own standard deviation instead), or "none"
        (:meth:`transform` gives the affinities as they are).

    Attributes
    ----------
    bandwidth_ : Bandwidth
        The solved bandwidth, of normalised tokens.
    landmarks_ : tensor of shape (m, d)
        Normalised features of the landmarks.
    normalization_ : Normalization
        The fitted normalisation of tokens.
    profile_ : ColumnProfile
        Mean and deviation of the landmarks' columns, and the matrix that decorrelates them.

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

    _results: ClassVar = (
        *("normalization_", "landmarks_", "bandwidth_", "profile_"),
        *("_frame", "_cloud"),
    )
    _fit_call: ClassVar = "fit(landmarks)"
    _kind: ClassVar = "aligner"
    # The deviation of a column that doesn't vary.
    _may_be_infinite: ClassVar = ("profile_deviation",)

    #: Names of the features it was fitted on, where they are columns of a table.
    feature_names_in_: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        density: float = ITEMS.density,
        normalize: str = ITEMS.normalize,
        standardize: str = ITEMS.standardize,
    ) -> None:
        self.density = density
        self.normalize = normalize
        self.standardize = standardize

    def fit(self, landmarks: object, y: object = None) -> Self:
        """Solve the bandwidth of the landmarks' features and measure their profile.

        Parameters
        ----------
        landmarks : array-like of shape (m, d)
            This model's features of at least 3 landmarks.
        y : object
            Ignored; pipelines of scikit-learn pass it.

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
        check_density(self.density)
        check_choice(self.normalize, "normalize", NORMALIZATIONS)
        check_choice(self.standardize, "standardize", STANDARDIZATIONS)
        x = as_features(landmarks, "landmarks").tensor.detach()
        normalization = fit_normalization(x, self.normalize)
        points = normalization.apply(x)
        bandwidth = solve_bandwidth(points, density=self.density)
        affinity = torch.as_tensor(rbf_affinity(points, sigma=bandwidth))
        profile = column_profile(affinity, standardize=self.standardize)
        self._hold(normalization, points, bandwidth, profile)
        self.feature_names_in_ = feature_names(landmarks)
        return self

    def _hold(
        self,
        normalization: Normalization,
        landmarks: torch.Tensor,
        bandwidth: Bandwidth,
        profile: ColumnProfile,
    ) -> None:
        self.normalization_ = normalization
        self.landmarks_ = landmarks
        self.bandwidth_ = bandwidth
        self.profile_ = profile
        self._frame = Frame.of(landmarks)
        self._cloud: Cloud = self._frame.place(landmarks)

    @property
    def device(self) -> torch.device:
        """The device of its landmarks, where it computes."""
        return self.landmarks_.device

    @property
    def n_landmarks(self) -> int:
        """The number of landmarks."""
        return int(self.landmarks_.shape[0])

    @property
    def n_features_in_(self) -> int:
        """The width of the features that it was fitted on."""
        axes = self.normalization_.axes
        return int(self.landmarks_.shape[1] if axes is None else axes.shape[0])

    def affinity(self, X: object) -> Array:
        """Affinities of tokens to the landmarks; see :meth:`transform`."""
        self._check_fitted()
        affinities = RelativeRows(self, standardized=False)
        return cast("Array", apply_map(affinities.row_map(), X))

    def standardize_in_place(self, rows: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
        """Overwrite affinities by rows of mean 0 and norm 1, see :func:`standardize_rows`."""
        return standardize_rows(rows, self.profile_, own, how=self.standardize)

    def _row_map(self, memory_budget: int | None = None) -> RowMap:
        return RelativeRows(self, memory_budget=memory_budget).row_map()

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        self._check_fitted()
        found = {
            "landmarks": self.landmarks_,
            "profile_mean": self.profile_.mean,
            "profile_deviation": self.profile_.deviation,
            "profile_whitening": self.profile_.whitening,
            "center": self.normalization_.center,
            "scale": self.normalization_.scale,
            "axes": self.normalization_.axes,
            "rest": self.normalization_.rest,
        }
        return {name: one for name, one in found.items() if one is not None}, {
            **self.get_params(),
            "bandwidth": self.bandwidth_.to_dict(),
            "exponent": self.normalization_.exponent,
            "feature_names": self.feature_names_in_,
        }

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        check_stored_aligner(tensors, metadata)
        aligner = cls(**{name: metadata[name] for name in ("density", "normalize", "standardize")})
        aligner._hold(
            Normalization(
                tensors.get("center"),
                tensors.get("scale"),
                tensors.get("axes"),
                metadata["normalize"].endswith("unit"),
                metadata.get("exponent", 0),
                tensors.get("rest"),
            ),
            tensors["landmarks"],
            Bandwidth(**metadata["bandwidth"]),
            ColumnProfile(
                tensors["profile_mean"],
                tensors["profile_deviation"],
                tensors.get("profile_whitening"),
            ),
        )
        if metadata.get("feature_names") is not None:
            aligner.feature_names_in_ = tuple(metadata["feature_names"])
        return aligner


@dataclass(frozen=True)
class RelativeRows:
    """The row function of a fitted aligner, which can be pickled.

    ``own`` (n,) is the column of each row that is a landmark itself, -1 for others: an item's
    affinity with itself says nothing of its features, and is left out. ``memory_budget`` is for
    working memory on a GPU.
    """

    aligner: Aligner
    own: torch.Tensor | None = None
    standardized: bool = True
    memory_budget: int | None = None

    @property
    def device(self) -> torch.device:
        return self.aligner.device

    def __call__(self, rows: torch.Tensor, first: int | None = None) -> torch.Tensor:
        fitted, first = self.aligner, first or 0
        n, m = len(rows), fitted.n_landmarks
        Resources(device=self.device).require(
            n * m * fitted.landmarks_.element_size(),
            f"the relative features of {n} tokens over {m} landmarks",
            "write them as they are made: {out='aligned.zarr'}",
        )
        is_plain = not self.standardized or fitted.standardize == "none"
        return relative_rows(
            rows,
            fitted.normalization_,
            fitted._frame,
            fitted._cloud,
            fitted.profile_,
            scale=fitted._frame.inverse_variance(fitted.bandwidth_.sigma),
            own=None if self.own is None else self.own[first : first + n],
            how=None if is_plain else fitted.standardize,
            memory_budget=self.memory_budget,
            first_row=first,
        )

    def row_map(self) -> RowMap:
        """The function together with the width and meaning of its result."""
        operation = "transform" if self.standardized else "affinity"
        return RowMap(
            self,
            self.aligner.n_landmarks,
            "landmark",
            self._check,
            lambda: {"operation": operation, "aligner": self.settings()},
        )

    def _check(self, shape: tuple[int, ...], names: tuple[str, ...] | None) -> None:
        refuse_other_features(names, self.aligner.feature_names_in_, "X")
        width = self.aligner.n_features_in_
        if shape[1] != width:
            raise InvalidInputError(
                f"X has {shape[1]} features; these landmarks have {width}: use the model and layer "
                "that they came from."
            )

    def settings(self) -> dict[str, Any]:
        """All that relative features depend on, as plain values and a hash of the tensors."""
        fitted = self.aligner
        normalization, profile = fitted.normalization_, fitted.profile_
        digest = hashlib.sha256(str(normalization.exponent).encode())
        for tensor in (
            *(fitted.landmarks_, normalization.center, normalization.scale, normalization.axes),
            *(normalization.rest, profile.mean, profile.deviation, profile.whitening, self.own),
        ):
            digest.update(b"none" if tensor is None else to_numpy(tensor).tobytes())
        return {
            **fitted.get_params(),
            "sigma": fitted.bandwidth_.sigma,
            "n_landmarks": fitted.n_landmarks,
            "n_features": fitted.n_features_in_,
            "sha256": digest.hexdigest(),
        }
