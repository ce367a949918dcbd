"""One feature set's way into the common space: its landmarks, its bandwidth, its profile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self, cast, overload

import torch

from relspace._core.devices import choose_device, to_device
from relspace._core.fitting import Fitted
from relspace._core.memory import refuse_too_large
from relspace._core.validation import (
    Array,
    Features,
    as_features,
    check_choice,
    check_density,
    feature_names,
    refuse_other_features,
    to_numpy,
)
from relspace.errors import InvalidInputError
from relspace.features.row_files import is_read_in_blocks, open_rows
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
from relspace.rows.dask import map_rows
from relspace.rows.fitted import write_result
from relspace.rows.source import ArrayRows, DaskRows, RowSource, is_dask_array, tensor_of
from relspace.rows.transform import Output, collect_rows

#: Mean affinity between landmarks: denser than an affinity matrix that is compared as a whole, for
#: decorrelated columns lose nothing to their overlap.
LANDMARK_DENSITY = 0.2

#: What is done to tokens before their affinities are taken.
DEFAULT_NORMALIZATION = "half-whiten+unit"

#: What is done to landmark columns.
DEFAULT_STANDARDIZATION = "whiten"


class Aligner(Fitted):
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
        What is done to tokens first, fitted on the landmarks: "half-whiten" (divide each principal
        axis by the square root of its standard deviation), "quarter-whiten", "zscore", "center" or
        "none"; each also with "+unit" (bring to unit norm then), and "unit".
    standardize : str
        What is done to landmark columns: "whiten" (as above), "half-whiten" (the square root
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
        What is done to tokens first.
    profile_ : ColumnProfile
        Mean and deviation of the landmarks' columns, and what decorrelates them.

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

    #: Names of the features it was fitted on, where they are columns of a table.
    feature_names_in_: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        density: float = LANDMARK_DENSITY,
        normalize: str = DEFAULT_NORMALIZATION,
        standardize: str = DEFAULT_STANDARDIZATION,
    ) -> None:
        self.density = density
        self.normalize = normalize
        self.standardize = standardize

    def __repr__(self) -> str:
        settings = (
            f"density={self.density}, normalize={self.normalize!r}, "
            f"standardize={self.standardize!r}"
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
        check_density(self.density)
        check_choice(self.normalize, "normalize", NORMALIZATIONS)
        check_choice(self.standardize, "standardize", STANDARDIZATIONS)
        x = as_features(landmarks, "landmarks").tensor.detach()
        normalization = fit_normalization(x, self.normalize)
        points = normalization.apply(x)
        bandwidth = solve_bandwidth(points, density=self.density)
        affinity = rbf_affinity(points, sigma=bandwidth)
        assert isinstance(affinity, torch.Tensor)
        profile = column_profile(affinity, standardize=self.standardize)
        self.restore(normalization, points, bandwidth, profile)
        self.feature_names_in_ = feature_names(landmarks)
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
    def device(self) -> torch.device:
        """Where it computes: where its landmarks are."""
        return self.landmarks_.device

    def to(self, device: str | torch.device) -> Self:
        """The same on another device, which computes from then on.

        Parameters
        ----------
        device : str or torch.device
            Such as "cuda", "cuda:1" or "cpu"; "auto" is the first GPU, or the CPU without one.

        Returns
        -------
        Aligner
            Features may be anywhere: to a GPU they are brought block by block while it computes.
        """
        self._check_fitted()
        where = choose_device(device)
        moved = copy(self)
        moved.restore(
            to_device(self.normalization_, where),
            to_device(self.landmarks_, where),
            self.bandwidth_,
            to_device(self.profile_, where),
        )
        return moved

    @property
    def n_landmarks(self) -> int:
        """How many landmarks tokens are described by."""
        return int(self.landmarks_.shape[0])

    @property
    def n_features_in_(self) -> int:
        """The width of the features it was fitted on."""
        axes = self.normalization_.axes
        return int(self.landmarks_.shape[1] if axes is None else axes.shape[0])

    @overload
    def transform(
        self, X: object, *, own: torch.Tensor | None = ..., memory_budget: int | None = ...
    ) -> Array: ...
    @overload
    def transform(
        self,
        X: object,
        *,
        own: torch.Tensor | None = ...,
        out: str | Path | Output,
        client: Any = ...,
        progress: Callable[[int, int], None] | None = ...,
    ) -> RowSource: ...
    def transform(
        self,
        X: object,
        *,
        own: torch.Tensor | None = None,
        out: str | Path | Output | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array | RowSource:
        """Describe tokens by their relative features.

        Parameters
        ----------
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Tokens of the model that it was fitted on. What lies on a disk is read in blocks.
        own : LongTensor of shape (n,), optional
            For tokens that are landmarks themselves, their column (-1 for others). An item's
            affinity with itself says nothing of its features and is left out.
        out : str, Path or Output, optional
            Where to write the result as it is made, instead of holding it: a Zarr store
            (``"aligned.zarr"``, or a URL that fsspec knows) or an ``.npy`` file;
            :class:`relspace.Output` says more. If a run is cut off, the same call goes
            on where it stopped; the result is the same to the bit.
        memory_budget : int, optional
            Bytes that working memory may take where rows are read in blocks, and on a GPU; by
            default a quarter of what is free. With ``out`` it is a part of
            :class:`relspace.Output`.
        client : distributed.Client, optional
            A Dask cluster that makes the chunks of ``out``, a Zarr store that its workers reach
            under the same path, as they must ``X``.
        progress : callable, optional
            ``progress(n_done, n_rows)`` after every chunk of ``out``.

        Returns
        -------
        tensor or array of shape (n, m), or RowSource
            Relative features, of the kind, float type and device of ``X``; of a Dask array a lazy
            one. With ``out`` the finished output, as a source of rows.

        Raises
        ------
        InvalidInputError
            If the features have another width than those it was fitted on.
        MemoryBudgetError
            If the result would not fit into the free memory and no ``out`` is given.
        """
        self._check_fitted()
        if out is not None:
            return self._write(open_rows(X), own, out, client, progress)
        if is_dask_array(X):
            self._check_width(cast("Any", X).shape)
            return cast("Array", map_rows(X, self._rows_of, self.n_landmarks, own))
        if is_read_in_blocks(X):
            source = open_rows(X)
            dtype = source.dtype if source.dtype.is_floating_point else torch.float32
            collected = self.collect(source, own, dtype=dtype, memory_budget=memory_budget)
            return to_numpy(collected) if hasattr(X, "__array__") else collected
        given = self._check(X)
        if self.device.type == "cuda" and given.tensor.device.type == "cpu":
            there = ArrayRows(given.tensor)
            rows = self.collect(there, own, dtype=given.dtype, memory_budget=memory_budget)
            return given.restore(rows)
        rows = self.relative_rows(given.tensor, own, memory_budget=memory_budget)
        return given.restore(rows.to(given.tensor.device))

    def affinity(self, X: object) -> Array:
        """Affinities of tokens to the landmarks, as they are; see :meth:`transform`."""
        given = self._check(X)
        rows = self.relative_rows(given.tensor, standardized=False)
        return given.restore(rows.to(given.tensor.device))

    def relative_rows(
        self,
        X: torch.Tensor,
        own: torch.Tensor | None = None,
        *,
        standardized: bool = True,
        memory_budget: int | None = None,
        first_row: int = 0,
    ) -> torch.Tensor:
        """Relative features of tokens of the right width, a few rows at a time into one result.

        On a GPU it is as many as ``memory_budget`` holds. Errors count rows from ``first_row``.
        """
        n, m = X.shape[0], self.n_landmarks
        refuse_too_large(
            n * m * self.landmarks_.element_size(),
            f"the relative features of {n} tokens over {m} landmarks",
            "write them as they are made: {out='aligned.zarr'}",
            device=self.landmarks_.device,
        )
        return relative_rows(
            X,
            self.normalization_,
            self._frame,
            self._cloud,
            self.profile_,
            scale=self._frame.inverse_variance(self.bandwidth_.sigma),
            own=own,
            how=self.standardize if standardized and self.standardize != "none" else None,
            memory_budget=memory_budget,
            first_row=first_row,
        )

    def standardize_in_place(self, rows: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
        """Overwrite affinities by rows of mean 0 and norm 1, see :func:`standardize_rows`."""
        return standardize_rows(rows, self.profile_, own, how=self.standardize)

    def _check(self, X: object) -> Features:
        self._check_fitted()
        refuse_other_features(feature_names(X), self.feature_names_in_, "X")
        given = as_features(X, "X", check_finite=False, cast=False)
        self._check_width(given.tensor.shape)
        return given

    def _check_width(self, shape: tuple[int, ...]) -> None:
        if shape[-1] != self.n_features_in_:
            raise InvalidInputError(
                f"X has {shape[-1]} features; these landmarks have "
                f"{self.n_features_in_}: use the model and layer that they came from."
            )

    def collect(
        self,
        source: RowSource,
        own: torch.Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        memory_budget: int | None = None,
    ) -> torch.Tensor:
        """Relative features of all rows of a source in one tensor; on Dask, where it is there."""
        refuse_other_features(feature_names(source), self.feature_names_in_, "X")
        self._check_width(source.shape)
        dtype = self.landmarks_.dtype if dtype is None else dtype
        if isinstance(source, DaskRows):
            lazy = map_rows(source.array, self._rows_of, self.n_landmarks, own)
            return tensor_of(lazy.compute()).to(dtype)
        compute = RelativeRows(self, own)
        return collect_rows(
            source,
            compute,
            self.n_landmarks,
            dtype,
            memory_budget=memory_budget,
            device=self.device,
        )

    def _write(
        self,
        source: RowSource,
        own: torch.Tensor | None,
        out: str | Path | Output,
        client: Any,
        progress: Callable[[int, int], None] | None,
    ) -> RowSource:
        refuse_other_features(feature_names(source), self.feature_names_in_, "X")
        self._check_width(source.shape)
        job = {
            "operation": "transform",
            "aligner": {**self.settings(), "sha256": self.sha256(own)},
        }
        compute = RelativeRows(self, own)
        return write_result(
            source,
            compute,
            self.n_landmarks,
            out=out,
            job=job,
            columns="landmark",
            client=client,
            progress=progress,
        )

    def settings(self) -> dict[str, Any]:
        """What it was asked for and what it solved, as plain values."""
        return {
            "density": self.density,
            "normalize": self.normalize,
            "standardize": self.standardize,
            "sigma": self.bandwidth_.sigma,
            "n_landmarks": self.n_landmarks,
            "n_features": self.n_features_in_,
        }

    def sha256(self, own: torch.Tensor | None) -> str:
        """A hash of all tensors that relative features of rows with these columns depend on."""
        digest = hashlib.sha256()
        state = (
            self.landmarks_,
            *(self.normalization_.center, self.normalization_.scale, self.normalization_.axes),
            self.normalization_.rest,
            *(self.profile_.mean, self.profile_.deviation, self.profile_.whitening),
            own,
        )
        digest.update(str(self.normalization_.exponent).encode())
        for tensor in state:
            digest.update(b"none" if tensor is None else to_numpy(tensor).tobytes())
        return digest.hexdigest()

    def _rows_of(self, rows: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
        return self.relative_rows(rows, own)


class RelativeRows:
    """Relative features of some rows out of many; what the workers of a cluster are sent.

    Parameters
    ----------
    aligner : Aligner
        A fitted one.
    own : LongTensor of shape (n,), optional
        Each row's own column, as in :meth:`Aligner.transform`.
    """

    def __init__(self, aligner: Aligner, own: torch.Tensor | None = None) -> None:
        self._aligner, self._own = aligner, own

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._aligner.device

    def __call__(self, rows: torch.Tensor, first: int | None) -> torch.Tensor:
        """Relative features of the rows from ``first`` on."""
        first = first or 0
        own = None if self._own is None else self._own[first : first + len(rows)]
        return self._aligner.relative_rows(rows, own, first_row=first)
