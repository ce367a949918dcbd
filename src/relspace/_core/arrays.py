"""Arrays, tensors and tables of any library become tensors of real numbers, or are refused by name.

Nothing is read as something else on the way: missing values, masks, scales of quantised numbers
and digits of whole numbers are kept or refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import NAMED_AT_MOST
from relspace._core.resources import Resources
from relspace.errors import InvalidInputError, InvalidTypeError, NonFiniteError, reason_of

#: Types that features can have in torch.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE_NUMBERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# The free memory is not asked for up to this many bytes.
_SMALL_BYTES = 2**24
# Whole numbers up to these have all their digits in float32 and in float64.
_EXACT_IN_FLOAT32, _EXACT_IN_FLOAT64 = 2**24, 2**53
# Types of torch with few operations, and a type with them that holds the same numbers.
_SIGNED = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}

_INSTEAD = {
    "b": "convert them by .astype(float) if 0 and 1 are what you mean",
    "c": "give their real and imaginary parts as features of their own",
    "O": "convert them to numbers first: numpy.asarray(values, dtype=float)",
    "U": "strings are not read as numbers: convert them first",
    "S": "strings are not read as numbers: convert them first",
    "V": "make a matrix of its fields: numpy.lib.recfunctions.structured_to_unstructured",
    "M": "give dates as numbers, such as days since the first",
    "m": "give durations as numbers, such as seconds",
}


def tensor_from(features: object, name: str) -> tuple[torch.Tensor, bool]:
    """Convert an array, table, tensor or list of rows to a tensor of the same numbers.

    The tensor has one of :data:`FLOATS` or :data:`WHOLE_NUMBERS`, or is complex or bool, from
    torch. The second value says whether results should be arrays rather than tensors. What holds no
    real numbers is refused, as are missing and masked values and rows of different lengths.
    """
    if isinstance(features, torch.Tensor):
        return readable(features, name), False
    if _is_frame(features):
        return tensor_of_array(_values_of_frame(features, name), name), True
    if type(features).__module__.partition(".")[0] == "pyarrow":
        return tensor_of_array(_values_of_arrow(features, name), name), True
    if isinstance(features, list | tuple):
        return _from_sequence(features, name)
    on_gpu = hasattr(features, "__cuda_array_interface__")
    if hasattr(features, "__array__") and not on_gpu:
        # A subclass keeps its mask.
        array = _converted(lambda: np.asanyarray(features), name)
        return tensor_of_array(array, name), True
    if hasattr(features, "__dlpack__"):
        found = _converted(lambda: torch.utils.dlpack.from_dlpack(features), name)
        return readable(found, name), False
    if isinstance(features, Sequence) and not isinstance(features, str | bytes):
        return tensor_of_array(_converted(lambda: np.asarray(features), name), name), True
    raise InvalidTypeError(
        f"{name} is of type {type(features).__name__}; it must be a tensor, an array, "
        "or something with __array__ or __dlpack__."
    )


def readable(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Refuse a tensor whose values can't be read directly, and say how to make them readable.

    Unsigned types with few operations are converted to a signed type that holds the same numbers.
    """
    way = None
    if tensor.is_nested:
        way = "a nested tensor; join its parts: torch.cat(X.unbind())"
    elif tensor.is_quantized:
        way = "a quantised tensor; call .dequantize() on it first"
    elif tensor.is_meta:
        way = "a meta tensor, which has a shape and no values; load or compute them first"
    elif tensor.layout != torch.strided:
        way = "a sparse tensor; call .to_dense() on it first"
    if way is not None:
        raise InvalidTypeError(f"{name} is {way}.")
    if tensor.dtype in _SIGNED:
        return _signed(tensor, name)
    if tensor.dtype in (*FLOATS, *WHOLE_NUMBERS):
        _refuse_repeats_beyond_memory(
            tensor.numel() * tensor.element_size(), 0 in tensor.stride(), name, tensor.device
        )
        return tensor
    if tensor.is_complex() or tensor.dtype == torch.bool:
        instead = _INSTEAD["c" if tensor.is_complex() else "b"].replace(
            ".astype(float)", ".float()"
        )
    else:
        # A few bits hold numbers only together with their scale, which is kept elsewhere.
        instead = "convert them by .to(torch.float32), and multiply them by their scale if any"
    raise InvalidTypeError(
        f"{name} holds values of type {tensor.dtype}; features must be real numbers of a common "
        f"type: {instead}."
    )


def tensor_of_array(array: NDArray[Any], name: str) -> torch.Tensor:
    """A tensor of an array's numbers, which shares its memory where torch can."""
    if isinstance(array, np.ma.MaskedArray):
        refuse_missing(np.ma.getmaskarray(array), name, "masked values", "fill")
        array = array.data
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        # Types of other libraries, such as bfloat16, have the kind of records too.
        is_record = array.dtype.kind != "V" or array.dtype.names
        instead = _INSTEAD.get(array.dtype.kind) if is_record else "convert by .astype(float)"
        raise InvalidTypeError(
            f"{name} holds values of type {array.dtype}; features must be real numbers: {instead}."
        )
    _refuse_repeats_beyond_memory(array.nbytes, 0 in array.strides, name)
    if array.dtype.kind == "f" and array.dtype.itemsize not in (2, 4, 8):
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # torch shares memory only with writable arrays of positive strides.
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return readable(torch.from_numpy(array), name)


def _refuse_repeats_beyond_memory(
    n_bytes: int, is_repeated: bool, name: str, device: torch.device | None = None
) -> None:
    """Refuse a broadcast array (with strides of 0) that would not fit once it is computed on.

    The memory of other arrays is allocated already, or they lie in a file.
    """
    if not is_repeated or n_bytes < _SMALL_BYTES:
        return
    resources = Resources() if device is None else Resources(device=device)
    resources.require(n_bytes, f"{name}, whose rows or columns are repeated,")


def bytes_in_floats(dtype: torch.dtype) -> int:
    """Bytes of a number of this type in the float type that is computed in, at most.

    >>> bytes_in_floats(torch.float16), bytes_in_floats(torch.int64)
    (4, 8)
    """
    return 8 if dtype in (torch.float64, torch.int32, torch.int64) else 4


def in_floats(tensor: torch.Tensor, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Convert all but float32 and float64 to ``dtype``, or to float64 for large whole numbers.

    Whole numbers beyond 2^53 are refused.
    """
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    if tensor.dtype not in (torch.int32, torch.int64) or tensor.numel() == 0:
        return tensor.to(dtype)
    low, high = (int(one) for one in torch.aminmax(tensor))
    if max(-low, high) <= _EXACT_IN_FLOAT32:
        return tensor.to(dtype)
    if max(-low, high) > _EXACT_IN_FLOAT64:
        which = int((tensor == (high if high > -low else low)).flatten().nonzero()[0])
        at = ", ".join(str(int(i)) for i in np.unravel_index(which, tensor.shape))
        raise InvalidInputError(
            f"{name} holds whole numbers beyond 2^53, such as {high if high > -low else low} at "
            f"({at}), which floats can't tell apart: subtract what they have in common first, "
            "as whole numbers."
        )
    return tensor.to(torch.float64)


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    # A sum of finite numbers may overflow, but a finite sum clears all of them, and allocates
    # nothing.
    values = tensor.detach()
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())


def refuse_non_finite(
    tensor: torch.Tensor, name: str, *, first_row: int = 0, rows: torch.Tensor | None = None
) -> None:
    """Refuse NaN and infinity; rows are numbered from ``first_row``, or by ``rows``."""
    if not all_finite(tensor):
        bad = ~tensor.detach().isfinite().cpu().numpy()
        numbers = first_row + np.arange(len(bad)) if rows is None else rows.cpu().numpy()
        refuse_missing(bad, name, "NaN or infinite values", "repair", rows=numbers)


def refuse_missing(
    missing: NDArray[np.bool_],
    name: str,
    what: str,
    repair: str,
    *,
    rows: NDArray[np.int64] | None = None,
    columns: Sequence[object] | None = None,
) -> None:
    """Refuse features with missing values, and say how many there are and where the first are.

    ``what`` names these values and ``repair`` what can be done to their rows besides removing them.
    ``rows`` are the numbers of the rows, and ``columns`` the names of the columns.
    """
    if not missing.any():
        return
    if missing.ndim == 0:
        raise NonFiniteError(
            f"{name} is a single value, which stands for {what}; features are a matrix (n_items, "
            "n_features)."
        )
    first = []
    for row, *column in np.argwhere(missing)[:NAMED_AT_MOST].tolist():
        named = column if columns is None or len(column) != 1 else [columns[column[0]]]
        first.append(f"({', '.join(map(repr, (row if rows is None else int(rows[row]), *named)))})")
    n_rows = int(missing.reshape(len(missing), -1).any(axis=1).sum())
    raise NonFiniteError(
        f"{name} holds {int(missing.sum())} {what} in {n_rows} of {len(missing)} rows, first at "
        f"(row, column) {', '.join(first)}; {repair} or remove these rows."
    )


def _signed(tensor: torch.Tensor, name: str) -> torch.Tensor:
    found = tensor.to(_SIGNED[tensor.dtype])
    if tensor.dtype == torch.uint64 and bool((found < 0).any()):
        raise InvalidInputError(
            f"{name} holds whole numbers of 2^63 and more, which floats can't tell apart: subtract "
            "what they have in common first, as whole numbers."
        )
    return found


def _from_sequence(rows: Sequence[Any], name: str) -> tuple[torch.Tensor, bool]:
    """A matrix of a list of rows."""
    if any(_has_dimensions(row, 2) for row in rows):
        raise InvalidInputError(
            f"{name} is a list of {len(rows)} matrices; join them first: numpy.concatenate or "
            "torch.cat."
        )
    if any(isinstance(row, torch.Tensor) for row in rows):
        parts = [readable(torch.as_tensor(row), f"{name}[{i}]") for i, row in enumerate(rows)]
        return _converted(lambda: torch.stack(parts), name), False
    for number, row in enumerate(rows):
        if isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row):
            refuse_missing(np.ma.getmaskarray(row), f"{name}[{number}]", "masked values", "fill")
    return tensor_of_array(_converted(lambda: np.asarray(rows), name), name), True


def is_matrix_like(part: object) -> bool:
    """Whether something in a list is a matrix of its own (a shard), rather than a row."""
    return _has_dimensions(part, 2)


def _has_dimensions(part: object, at_least: int) -> bool:
    if isinstance(part, torch.Tensor):
        return part.dim() >= at_least
    shape = getattr(part, "shape", None)
    return isinstance(shape, tuple) and len(shape) >= at_least


def _converted(make: Callable[[], Any], name: str) -> Any:
    """Run a conversion, and raise errors of another library as errors of this one."""
    try:
        return make()
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{name} can't be made an array: {reason_of(error)}.") from error
    except (TypeError, RuntimeError, BufferError, AttributeError) as error:
        raise InvalidTypeError(f"{name} can't be made an array: {reason_of(error)}.") from error


def _is_frame(features: object) -> bool:
    """Whether something is a table or a column of pandas, or is used like one."""
    return hasattr(features, "isna") and hasattr(features, "to_numpy")


def _values_of_frame(frame: Any, name: str) -> NDArray[Any]:
    """The numbers of a data frame, in a type that holds those of all columns."""
    labels = list(getattr(frame, "columns", [getattr(frame, "name", None)]))
    kinds = list(frame.dtypes) if hasattr(frame, "columns") else [frame.dtype]
    for label, kind in zip(labels, kinds, strict=True):
        if getattr(kind, "kind", "O") not in "fiu":
            raise InvalidTypeError(
                f"column {label!r} of {name} holds values of type {kind}; features must be real "
                "numbers: leave this column out, or convert it by .astype(float)."
            )
    if all(isinstance(kind, np.dtype) for kind in kinds):
        return np.asarray(frame)
    # Types of pandas' own know missing values, also of whole numbers.
    own = np.array([not isinstance(kind, np.dtype) for kind in kinds])
    missing = np.asarray(frame.isna())
    missing = missing & (own if missing.ndim == 2 else own[0])
    refuse_missing(missing, name, "missing values", "fill", columns=labels)
    stored = [getattr(kind, "numpy_dtype", getattr(kind, "subtype", kind)) for kind in kinds]
    common = np.result_type(*stored)
    if common.kind == "f" and any(kind.kind in "iu" and kind.itemsize == 8 for kind in stored):
        whole = [label for label, kind in zip(labels, stored, strict=True) if kind.kind in "iu"]
        numbers = np.asarray(frame[whole].to_numpy(dtype=np.int64) if missing.ndim == 2 else frame)
        in_floats(torch.from_numpy(np.array(numbers)), f"whole numbers of {name}")
    values: NDArray[Any] = frame.to_numpy(dtype=common)
    return values


def _values_of_arrow(table: Any, name: str) -> NDArray[Any]:
    """The numbers of an Arrow table, record batch or column."""
    columns = list(table.columns) if hasattr(table, "columns") else [table]
    labels = list(table.column_names) if hasattr(table, "column_names") else [None]
    for position, column in enumerate(columns):
        if getattr(column, "null_count", 0):
            missing = np.zeros((len(column), len(columns)), dtype=bool)
            missing[:, position] = np.asarray(column.is_null())
            refuse_missing(missing, name, "missing values (nulls)", "fill", columns=labels)
    values = _converted(lambda: [np.asarray(column) for column in columns], name)
    for label, one in zip(labels, values, strict=True):
        if one.dtype.kind not in "fiu":
            raise InvalidTypeError(
                f"column {label!r} of {name} holds values of type {one.dtype}; features must be "
                "real numbers: leave this column out, or convert it first."
            )
    return np.column_stack(values) if hasattr(table, "columns") else values[0]
