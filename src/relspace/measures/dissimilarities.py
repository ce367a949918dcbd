"""Dissimilarities of items that are given as a matrix, from brains, judgements or other tools."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_count, name_some, say_count
from relspace._core.arrays import refuse_non_finite, tensor_from
from relspace._core.items import ItemId, as_ids, own_ids
from relspace._core.labelled_tables import as_labelled_table, feature_names, refuse_other_features
from relspace._core.matrices import as_features
from relspace.errors import (
    InvalidInputError,
    InvalidTypeError,
    ItemMismatchError,
    MissingDependencyError,
)
from relspace.kernels.scale import to_unit_scale
from relspace.rows.locations import reading

# What float32 leaves of symmetry and of a zero diagonal.
_ROUNDING = 1e-5
_FEWEST_ITEMS = 4


class Dissimilarities:
    """Dissimilarities of all pairs of items, which are compared as they are.

    They go wherever features are compared by the measures ``rsa``, ``rsa_spearman``,
    ``rsa_kendall`` and ``rsa_cosine``, on either side or on both; items are permuted as rows and
    columns together, and no half of the items that an interval rests on holds an item twice.

    Parameters
    ----------
    D : array-like of shape (n, n) or (n * (n - 1) / 2,)
        Symmetric with zeros on the diagonal; or its part above the diagonal, row by row, as
        :func:`scipy.spatial.distance.squareform` has it. NaN, or masked, where a pair is missing;
        such pairs are left out of comparisons. Crossvalidated distances may be below 0.
    ids : sequence, optional
        The items' ids; by default the labels of a table's rows and columns, if it has such.

    Attributes
    ----------
    values : tensor of shape (n, n)
        The matrix in float64.
    ids : tuple or None
        The items' ids.
    n_missing : int
        Pairs of items without a value.

    Raises
    ------
    InvalidInputError
        If the matrix isn't symmetric with zeros on its diagonal, holds infinite values, has another
        shape, or too few items.
    ItemMismatchError
        If a table's rows and columns have different labels, or the same in another order.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 6))
    >>> judged = rs.Dissimilarities(np.linalg.norm(X[:, None] - X, axis=-1))
    >>> judged
    Dissimilarities(40 items)
    >>> rsa = rs.measures.get("rsa", distance="euclidean")
    >>> round(rs.compare(judged, X, measure=rsa).value, 6)
    1.0
    """

    def __init__(self, D: object, ids: object | None = None) -> None:
        if ids is None:
            ids = _labels_of_both(D)
        matrix = _as_square(D)
        self.values = torch.from_numpy(matrix)
        self.ids: tuple[ItemId, ...] | None = None if ids is None else as_ids(ids, "D", len(matrix))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.values), len(self.values)

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def n_missing(self) -> int:
        return int(self.values.isnan().sum()) // 2

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: torch.Tensor) -> Dissimilarities:
        """The dissimilarities of some of the items, in the order asked for."""
        chosen = rows.to(self.device)
        ids = None if self.ids is None else tuple(self.ids[row] for row in rows.tolist())
        return self._with(self.values[chosen][:, chosen], ids)

    def to(self, device: torch.device | str) -> Dissimilarities:
        """The same on another device."""
        return self._with(self.values.to(device), self.ids)

    def detach(self) -> Dissimilarities:
        """Themselves: they are no result of a computation."""
        return self

    @classmethod
    def _with(cls, values: torch.Tensor, ids: tuple[ItemId, ...] | None) -> Dissimilarities:
        # Checked before; of few rows, items may be too few to be given.
        made = cls.__new__(cls)
        made.values, made.ids = values, ids
        return made

    def __repr__(self) -> str:
        missing = f", {self.n_missing} pairs missing" if self.n_missing else ""
        return f"Dissimilarities({len(self)} items{missing})"

    @classmethod
    def from_rsatoolbox(
        cls, rdms: Any, *, index: int | None = None, ids: str | None = None
    ) -> Dissimilarities:
        """Take one of the matrices of an RDMs object of rsatoolbox.

        Parameters
        ----------
        rdms : rsatoolbox.rdm.RDMs
            The matrices.
        index : int, optional
            Which of them, from 0; needed if there are several.
        ids : str, optional
            The pattern descriptor that names the items; none by default.
        """
        descriptors = dict(rdms.pattern_descriptors)
        return cls._chosen(np.asarray(rdms.dissimilarities), index, descriptors, ids)

    def to_rsatoolbox(self) -> Any:
        """Make an RDMs object of rsatoolbox with one matrix; ids are its descriptor ``"ids"``.

        Raises
        ------
        MissingDependencyError
            If rsatoolbox isn't installed.
        """
        try:
            RDMs = import_module("rsatoolbox.rdm").RDMs
        except ImportError as error:
            raise MissingDependencyError(
                "rsatoolbox is not installed: pip install rsatoolbox"
            ) from error
        above = np.triu_indices(len(self), 1)
        return RDMs(
            self.values.cpu().numpy()[above][None],
            pattern_descriptors={} if self.ids is None else {"ids": list(self.ids)},
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        key: str | None = None,
        index: int | None = None,
        ids: str | None = None,
    ) -> Dissimilarities:
        """Read a matrix from .npy, .mat, or the .h5 or .hdf5 that rsatoolbox writes.

        Parameters
        ----------
        path : str or Path
            The file. Nothing is unpickled.
        key : str, optional
            The variable of a .mat file; needed if there are several.
        index : int, optional
            Which matrix of an rsatoolbox file, from 0; needed if there are several.
        ids : str, optional
            The pattern descriptor of an rsatoolbox file that names the items.

        Raises
        ------
        FileFormatError
            If the file can't be read.
        InvalidInputError
            If the file is of another kind, or holds several matrices and none is chosen.
        """
        file = Path(path)
        suffix = file.suffix.lower()
        if not file.is_file():
            raise InvalidInputError(f"path is {str(path)!r}; there is no such file.")
        if key is not None and suffix != ".mat":
            raise InvalidInputError(f"key is {key!r}; only .mat files have variables, not {file}.")
        with reading(file):
            if suffix == ".npy":
                return cls(np.load(file, allow_pickle=False))
            if suffix == ".mat":
                return cls(_read_mat(file, key))
            if suffix in (".h5", ".hdf5"):
                dissimilarities, descriptors = _read_rsatoolbox(file)
                return cls._chosen(dissimilarities, index, descriptors, ids)
        raise InvalidInputError(
            f"{file} ends in {suffix!r}; dissimilarities are read from .npy, .mat, .h5 and .hdf5."
        )

    @classmethod
    def _chosen(
        cls,
        matrices: NDArray[Any],
        index: int | None,
        descriptors: dict[str, Any],
        ids: str | None,
    ) -> Dissimilarities:
        if index is None and len(matrices) != 1:
            raise InvalidInputError(
                f"there are {len(matrices)} matrices; choose one by index=0 to {len(matrices) - 1}."
            )
        number = 0 if index is None else check_count(index, "index", at_least=0)
        if number >= len(matrices):
            raise InvalidInputError(f"index is {index}; there are {len(matrices)} matrices.")
        if ids is not None and ids not in descriptors:
            raise InvalidInputError(
                f"ids is {ids!r}; the pattern descriptors are {', '.join(descriptors)}."
            )
        names = None if ids is None else np.asarray(descriptors[ids]).tolist()
        return cls(matrices[number], ids=names)


def _labels_of_both(D: object) -> tuple[ItemId, ...] | None:
    """The ids that a table's rows and columns have; labels that only count are none."""
    table = as_labelled_table(D, "D")
    if table is None:
        return None
    rows, names = own_ids(D, "D"), table.feature_names or ()
    columns = tuple(map(str, names))
    if all(name in (str(i), f"column_{i}") for i, name in enumerate(columns)):
        return rows
    if rows is None:
        return as_ids(names, "D", len(names))
    if tuple(map(str, rows)) == columns:
        return rows
    pairs = enumerate(zip(map(str, rows), columns, strict=False))
    where = [
        f"row {i} is {row!r} and column {i} is {column!r}"
        for i, (row, column) in pairs
        if row != column
    ]
    raise ItemMismatchError(
        f"the rows and columns of D have different labels, or the same in another order: "
        f"{where[0] if where else f'{len(rows)} rows and {len(columns)} columns'}.",
        ways_out=["bring them into one order, as by D.loc[:, D.index]", "give {ids}"],
    )


def _numbers(D: object) -> NDArray[Any]:
    """The array of a matrix that is given, with NaN where it is masked."""
    if isinstance(D, torch.Tensor):
        D = D.detach().cpu().numpy()
    if isinstance(D, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in D):
        D = np.ma.array(D)
    if isinstance(D, np.ma.MaskedArray) and D.dtype.kind in "biuf":
        return np.ma.filled(D.astype(np.float64), np.nan)
    given: NDArray[Any] = np.asarray(D)
    table = as_labelled_table(D, "D")
    if table is not None and len(table.feature_names or ()) == given.shape[-1] - 1:
        # One of the columns holds the ids.
        given = np.asarray(table.read_features())
    return given


def _as_square(D: object) -> NDArray[np.float64]:
    try:
        given = _numbers(D)
        if given.dtype.kind not in "biuf":
            raise TypeError
        values = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"D is of type {type(D).__name__}; it must be a matrix of real numbers."
        ) from error
    if values.ndim == 1:
        n = round((1 + (1 + 8 * len(values)) ** 0.5) / 2)
        if n * (n - 1) // 2 != len(values):
            raise InvalidInputError(
                f"D has {len(values)} entries; those above the diagonal of a matrix of n items "
                "are n (n - 1) / 2, such as 4186 of 92 items."
            )
        square = np.zeros((n, n))
        square[np.triu_indices(n, 1)] = values
        values = square + square.T
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InvalidInputError(
            f"D has shape {values.shape}; it must be (n, n), or (n (n - 1) / 2,) for the part "
            "above the diagonal."
        )
    if len(values) < _FEWEST_ITEMS:
        raise InvalidInputError(
            f"D is of {len(values)} items; a comparison needs at least {_FEWEST_ITEMS}."
        )
    if np.isinf(values).any():
        raise InvalidInputError("D holds infinite values; give NaN for pairs that are missing.")
    finite = np.nan_to_num(np.abs(values))
    off = _ROUNDING * float(finite.max())
    diagonal = float(finite.diagonal().max())
    if diagonal > off:
        raise InvalidInputError(
            f"D has {diagonal:.4g} on its diagonal, where dissimilarities are 0: give 1 - D if "
            "these are correlations or other similarities, or features as they are."
        )
    missing = np.isnan(values)
    np.fill_diagonal(missing, False)
    difference = np.nan_to_num(np.abs(values - values.T))
    if float(difference.max()) > off or bool((missing != missing.T).any()):
        row, column = np.unravel_index(
            int((difference + (missing != missing.T)).argmax()), values.shape
        )
        raise InvalidInputError(
            f"D isn't symmetric: entry ({row}, {column}) is {values[row, column]:.4g} and "
            f"({column}, {row}) is {values[column, row]:.4g}; give (D + D.T) / 2 if the mean is "
            "meant."
        )
    # Halved before they are added, as the sum of two large ones would overflow.
    symmetric: NDArray[np.float64] = values / 2 + values.T / 2
    np.fill_diagonal(symmetric, 0.0)
    return symmetric


def _read_mat(path: Path, key: str | None) -> NDArray[Any]:
    from scipy.io import loadmat

    found = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    if key is None and len(found) != 1:
        raise InvalidInputError(f"{path} holds {', '.join(found)}; choose one by key.")
    name = next(iter(found)) if key is None else key
    if name not in found:
        raise InvalidInputError(f"{path} has no variable {name!r}; it holds {', '.join(found)}.")
    values: NDArray[Any] = np.asarray(found[name])
    # MATLAB has no vectors.
    return values.ravel() if values.ndim == 2 and 1 in values.shape else values


def _read_rsatoolbox(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs h5py: pip install h5py") from error
    with h5py.File(path, "r") as file:
        if "dissimilarities" not in file:
            raise InvalidInputError(
                f"{path} has no dataset 'dissimilarities', as files of rsatoolbox have."
            )
        descriptors: dict[str, Any] = {}
        for name, dataset in dict(file.get("pattern_descriptors", {})).items():
            values = np.asarray(dataset)
            descriptors[name] = values.astype(str) if values.dtype.kind == "S" else values
        return np.asarray(file["dissimilarities"]), descriptors


def crossnobis(
    X: object, *, precision: object | None = None, ids: object | None = None
) -> Dissimilarities:
    r"""Crossvalidated squared Mahalanobis distances of items that were measured repeatedly.

    .. math:: d_{ij} = \frac{1}{R d} \sum_r
        (\bar x_i^{-r} - \bar x_j^{-r})^\top P \, (x_i^r - x_j^r)

    Each repeat is compared with the mean of the others (Walther et al. 2016). Noise that is
    independent between repeats adds nothing on average, so items that don't differ have distance 0,
    and single values below 0 (as ``calc_rdm_crossnobis`` of rsatoolbox).

    Parameters
    ----------
    X : array-like of shape (n_repeats, n_items, n_features), or list of matrices or tables
        Features of the same items in each repeat. Tables whose rows have labels are brought into
        the order of the first one.
    precision : array-like of shape (n_features, n_features), optional
        Inverse covariance P of the noise; identity by default.
    ids : sequence, optional
        The items' ids, in the order of the rows of every repeat; by default the labels of tables.

    Returns
    -------
    Dissimilarities
        Divided by the number of features.

    Raises
    ------
    InvalidInputError
        If there are fewer than 2 repeats, values aren't finite or don't fit together, or distances
        are beyond the range of float64.
    InvalidTypeError
        If values are no real numbers.
    ItemMismatchError
        If repeats have labels of different items.

    Examples
    --------
    >>> import numpy as np, relspace as rs
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(30, 20))
    >>> rs.crossnobis(signal + rng.normal(size=(4, 30, 20)))
    Dissimilarities(30 items)
    """
    parts = _repeats(X)
    matrices = [as_features(one, f"X[{i}]").tensor for i, one in enumerate(parts)]
    if ids is None:
        matrices, ids = _order_by_labels(parts, matrices)
    shapes = {tuple(one.shape) for one in matrices}
    if len(matrices) < 2 or len(shapes) > 1:
        raise InvalidInputError(
            f"X has {say_count(len(matrices), 'repeat')}, of shape {name_some(sorted(shapes))}; it "
            "must be (n_repeats, n_items, n_features), with at least 2 repeats."
        )
    given = torch.stack([one.detach().cpu().to(torch.float64) for one in matrices])
    scaled, exponent = to_unit_scale(given)
    repeats = scaled.numpy()
    n_repeats, n_items, width = repeats.shape
    names = feature_names(parts[0])
    for i, one in enumerate(parts[1:], start=1):
        refuse_other_features(feature_names(one), names, f"X[{i}]")
    weights, of_weights = np.eye(width), 0
    if precision is not None:
        refuse_other_features(feature_names(precision), names, "precision")
        weights, of_weights = _precision(precision, width)
    total = repeats.sum(axis=0)
    products = np.zeros((n_items, n_items))
    for one in repeats:
        products += (total - one) / (n_repeats - 1) @ weights @ one.T
    products /= n_repeats * width
    own = products.diagonal()
    distances = own[:, None] + own - products - products.T
    np.fill_diagonal(distances, 0.0)
    largest = float(np.abs(distances).max())
    in_units = 2 * exponent + of_weights
    range_ = np.finfo(np.float64)
    if largest and not range_.minexp + 53 < np.frexp(largest)[1] + in_units <= range_.maxexp:
        raise InvalidInputError(
            f"X holds values up to {float(given.abs().max()):.2g}, whose squared distances are "
            "beyond the range of float64: divide X by a power of two of about this size, which "
            "changes no comparison."
        )
    return Dissimilarities(np.ldexp(distances, in_units), ids=ids)


def _repeats(X: object) -> list[Any]:
    """The matrices of all repeats, still as they are given."""
    if isinstance(X, list | tuple):
        return list(X)
    stack = X if isinstance(X, np.ndarray | torch.Tensor) else tensor_from(X, "X")[0]
    if stack.ndim != 3:
        raise InvalidInputError(
            f"X has shape {tuple(stack.shape)}; it must be (n_repeats, n_items, n_features), with "
            "at least 2 repeats."
        )
    return list(stack)


def _order_by_labels(
    parts: list[Any], matrices: list[torch.Tensor]
) -> tuple[list[torch.Tensor], tuple[ItemId, ...] | None]:
    """Repeats with their rows in the order of the first one, by their labels, and these."""
    labels = [own_ids(one, f"X[{i}]") for i, one in enumerate(parts)]
    if all(one is None for one in labels):
        return matrices, None
    ids = labels[0]
    ordered = []
    for i, (matrix, own) in enumerate(zip(matrices, labels, strict=True)):
        if ids is None or own is None or set(own) != set(ids):
            raise ItemMismatchError(
                f"the labels of the rows of X[0] and X[{i or 1}] are of different items, or one of "
                "them has none.",
                ways_out=["give the same items in each repeat", "give {ids}, and rows in order"],
            )
        number = {item: row for row, item in enumerate(own)}
        ordered.append(matrix[[number[item] for item in ids]])
    return ordered, ids


def _precision(given: object, width: int) -> tuple[NDArray[np.float64], int]:
    """The matrix at unit scale, and the exponent of the power of two that it was divided by."""
    matrix = tensor_from(given, "precision")[0].detach().cpu().to(torch.float64)
    if tuple(matrix.shape) != (width, width):
        raise InvalidInputError(
            f"precision has shape {tuple(matrix.shape)}; it must be a symmetric matrix of {width} "
            f"x {width}, one row for each feature."
        )
    refuse_non_finite(matrix, "precision")
    scaled, exponent = to_unit_scale(matrix)
    weights: NDArray[np.float64] = scaled.numpy()
    if not np.allclose(weights, weights.T):
        row, column = np.unravel_index(int(np.abs(weights - weights.T).argmax()), weights.shape)
        raise InvalidInputError(
            f"precision isn't symmetric: entry ({row}, {column}) is "
            f"{float(matrix[row, column]):.4g} and ({column}, {row}) is "
            f"{float(matrix[column, row]):.4g}."
        )
    return weights, exponent
