"""Maps that are fitted on features and applied to others, in memory, in blocks or on Dask."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, overload, runtime_checkable

import torch

from relspace._core.fitting import Fitted
from relspace._core.labelled_tables import feature_names
from relspace._core.matrices import Array, as_features
from relspace._core.progress import Progress, as_listener
from relspace.errors import InvalidInputError
from relspace.rows.formats.dask import is_dask_array
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.registry import gives_arrays, is_held, scan
from relspace.rows.row_map import RowMap, as_given
from relspace.rows.saved import Saved
from relspace.rows.source import RowSource
from relspace.rows.transform import Output


@dataclass(frozen=True)
class OpenedSet:
    """Rows of a set, whether they were an array (then results are), and their type."""

    rows: RowSource
    is_array: bool
    dtype: torch.dtype


@runtime_checkable
class OpensSets(Protocol):
    """What opens its sets itself, as spaces do, whose rows may not be held."""

    def open_set(self, name: str) -> OpenedSet:
        """Open the rows of one set."""


def open_set(features: object, name: str) -> OpenedSet:
    """Open the rows of a set; what is in memory is checked at once, and errors name the set."""
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
    """Apply a fitted function to rows wherever they lie, see :meth:`FittedMap.transform`."""
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
    """Base of what is fitted once and then describes any rows, each by itself."""

    @abstractmethod
    def _row_map(self, memory_budget: int | None = None) -> RowMap:
        """The fitted function; ``memory_budget`` is what it may take on a GPU."""

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
        """Apply what was fitted to rows.

        Parameters
        ----------
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Rows like those that it was fitted on. What lies on a disk is read in blocks.
        out : str, Path or Output, optional
            Where to write the result as it is made, instead of holding it: a Zarr store
            (``"aligned.zarr"``, or a URL that fsspec knows) or an ``.npy`` file;
            :class:`relspace.Output` says more. The same call resumes a run that was cut off; the
            result is the same to the bit.
        memory_budget : int, optional
            Bytes that working memory may take where rows are read in blocks, and on a GPU; by
            default a quarter of what is free. One of :class:`relspace.Output` comes first.
        client : distributed.Client, optional
            A Dask cluster that makes the chunks of ``out``, a Zarr store that its workers reach
            under the same path, as they must ``X``.
        progress : callable or bool, optional
            Told ``(done, total, text)`` after every block of rows; True prints lines on stderr.

        Returns
        -------
        tensor or array of shape (n, m), or RowSource
            One row for each, of the kind, float type and device of ``X``; of a Dask array a lazy
            one. With ``out`` the finished output, as a source of rows.

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


class FittedMaps(Saved):
    """Base of what holds such a function for each of several sets."""

    @abstractmethod
    def _row_map_of(self, name: str, memory_budget: int | None = None) -> RowMap:
        """The function of one set."""

    def _given_of(self, name: str, X: object) -> object:
        """The rows that are meant by what was given for a set."""
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
        """Bring new rows of a known set to where its others are.

        Parameters
        ----------
        name : str
            The set that they belong to.
        X : array-like of shape (n, d), path, list of shards, source of rows, or Dask array
            Its new rows. For a space these are features of that model, of a feature set the layer
            that the set was aligned by; none of them is taken for a landmark.
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
