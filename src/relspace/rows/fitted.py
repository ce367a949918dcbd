"""Base classes of fitted maps, which transform rows in memory, in blocks or on Dask."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, overload, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.fitting import Fitted
from relspace._core.labelled_tables import feature_names
from relspace._core.matrices import Array, as_features
from relspace._core.progress import Progress, as_listener
from relspace.errors import InvalidInputError
from relspace.rows.formats.dask import is_dask_array
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.output import Output
from relspace.rows.registry import gives_arrays, is_held, scan
from relspace.rows.row_map import RowMap, as_given
from relspace.rows.saved import Saved
from relspace.rows.source import RowSource


@dataclass(frozen=True)
class OpenedSet:
    """The rows of a set, whether results are arrays (as the rows were), and their float type."""

    rows: RowSource
    is_array: bool
    dtype: torch.dtype


@runtime_checkable
class OpensSets(Protocol):
    """An object, such as a space, that opens its own sets, whose rows may not be in memory."""

    def open_set(self, name: str) -> OpenedSet:
        """Open the rows of one set."""


def open_set(features: object, name: str) -> OpenedSet:
    """Open the rows of a set; rows in memory are checked at once, by errors that name the set."""
    if not is_held(features):
        rows = scan(features)
        return OpenedSet(rows, gives_arrays(features), rows.dtype)
    given = as_features(features, name)
    return OpenedSet(ArrayRows(given.tensor.detach()), given.is_array, given.dtype)


def apply_map(
    fitted: RowMap,
    X: object,
    *,
    out: str | Path | Output | None = None,
    memory_budget: int | None = None,
    client: Any = None,
    progress: Progress = None,
) -> Array | RowSource:
    """Apply a fitted function to rows, see :meth:`FittedMap.transform`."""
    tell = as_listener(progress)
    if out is not None:
        source = scan(X)
        fitted.check(source.shape, feature_names(source))
        return fitted.write(source, out, memory_budget=memory_budget, client=client, tell=tell)
    if client is not None:
        raise InvalidInputError(
            "client is for results that are written.", ways_out=["give {out='aligned.zarr'}"]
        )
    if is_dask_array(X):
        fitted.check(cast("Any", X).shape, None)
        return fitted.lazily(X)
    if not is_held(X):
        source = scan(X)
        fitted.check(source.shape, feature_names(source))
        return as_given(fitted.collect(source, memory_budget=memory_budget, tell=tell), X)
    given = as_features(X, "X", check_finite=False, cast=False)
    fitted.check(given.tensor.shape, feature_names(X))
    if fitted.compute.device.type == "cuda" and given.tensor.device.type == "cpu":
        rows = ArrayRows(given.tensor)
        return given.restore(fitted.collect(rows, dtype=given.dtype, memory_budget=memory_budget))
    return given.restore(fitted.compute(given.tensor, 0).to(given.tensor.device))


class FittedMap(Fitted, Saved):
    """Base of estimators whose fitted function maps each row by itself."""

    @abstractmethod
    def _row_map(self, memory_budget: int | None = None) -> RowMap:
        """The fitted function; ``memory_budget`` is for its working memory on a GPU."""

    @overload
    def transform(
        self, X: object, *, memory_budget: int | None = ..., progress: Progress = ...
    ) -> Array: ...
    @overload
    def transform(
        self,
        X: object,
        *,
        out: str | Path | Output,
        memory_budget: int | None = ...,
        client: Any = ...,
        progress: Progress = ...,
    ) -> RowSource: ...
    def transform(
        self,
        X: object,
        *,
        out: str | Path | Output | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Progress = None,
    ) -> Array | RowSource:
        """Apply the fitted function to rows.

        Parameters
        ----------
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Rows with the columns that it was fitted on. Files are read in blocks.
        out : str, Path or Output, optional
            Where the result is written, instead of returning it: a Zarr store (``"aligned.zarr"``,
            or a URL that fsspec knows) or an ``.npy`` file; see :class:`relspace.Output`. The same
            call resumes an interrupted run, and the result is the same to the bit.
        memory_budget : int, optional
            Bytes of working memory for blocks of rows, and on a GPU; by default a quarter of what
            is free. The budget of :class:`relspace.Output` comes first.
        client : distributed.Client, optional
            A Dask cluster that computes the chunks of ``out``, a Zarr store. Its workers must reach
            ``out`` and ``X`` under the same paths.
        progress : callable or bool, optional
            Told ``(done, total, text)`` after every block of rows; True prints lines on stderr.

        Returns
        -------
        tensor or array of shape (n, m), or RowSource
            One row for each row of ``X``, of its kind, float type and device; lazy for a Dask
            array. With ``out`` the complete output, as a source of rows.

        Raises
        ------
        InvalidInputError
            If ``X`` has another width than what it was fitted on.
        MemoryBudgetError
            If the result would not fit into the free memory and no ``out`` is given.
        """
        self._check_fitted()
        return apply_map(
            self._row_map(memory_budget),
            X,
            out=out,
            memory_budget=memory_budget,
            client=client,
            progress=progress,
        )

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Name the columns of what :meth:`transform` gives, as scikit-learn does.

        Parameters
        ----------
        input_features : object
            Ignored: columns are not those of the features.

        Returns
        -------
        array of str of shape (m,)
            The class in lower case, and the number of the column from 0.
        """
        self._check_fitted()
        name = type(self).__name__.lower()
        names = [f"{name}{column}" for column in range(self._row_map().n_columns)]
        return np.array(names, dtype=object)


class FittedMaps(Saved):
    """Base of objects that have a fitted function of rows for each of several sets."""

    @abstractmethod
    def _row_map_of(self, name: str, memory_budget: int | None = None) -> RowMap:
        """The function of one set."""

    def _given_of(self, name: str, X: object) -> object:
        """The rows to transform, such as one layer of the feature set that was given."""
        return X

    @overload
    def transform(
        self, name: str, X: object, *, memory_budget: int | None = ..., progress: Progress = ...
    ) -> Array: ...
    @overload
    def transform(
        self,
        name: str,
        X: object,
        *,
        out: str | Path | Output,
        memory_budget: int | None = ...,
        client: Any = ...,
        progress: Progress = ...,
    ) -> RowSource: ...
    def transform(
        self,
        name: str,
        X: object,
        *,
        out: str | Path | Output | None = None,
        memory_budget: int | None = None,
        client: Any = None,
        progress: Progress = None,
    ) -> Array | RowSource:
        """Transform new rows of a known set.

        Parameters
        ----------
        name : str
            The set that they belong to.
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Its new rows. For a space these are features of that model; of a feature set, the layer
            that the set was aligned by is used. None of the rows is treated as a landmark.
        out, memory_budget, client, progress
            As for :meth:`relspace.Aligner.transform`.

        Returns
        -------
        tensor or array of shape (n, m), or RowSource
            As for :meth:`relspace.Aligner.transform`.

        Raises
        ------
        UnknownNameError
            If there is no set of this name.
        """
        return apply_map(
            self._row_map_of(name, memory_budget),
            self._given_of(name, X),
            out=out,
            memory_budget=memory_budget,
            client=client,
            progress=progress,
        )
