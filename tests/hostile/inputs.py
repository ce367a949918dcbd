"""Features as they must not be, and features that look odd and are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

N, D = 24, 6
#: What all inputs are made from; multiples of 1/64, which float16 holds, far from ties.
BASE = np.round(np.random.default_rng(0).normal(size=(N, D)) * 64) / 64
#: Small whole numbers, for types of whole numbers.
WHOLE = np.round(np.random.default_rng(1).normal(size=(N, D)) * 30)


@dataclass(frozen=True)
class Refused:
    """Features that must be refused, with what the refusal says besides the argument's name."""

    make: Callable[[], Any]
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Right:
    """Features that must be taken for the same numbers in float64, to some tolerance."""

    make: Callable[[], Any]
    same_as: Callable[[], np.ndarray]
    tolerance: float = 2e-5
    #: What of the numbers is another: nothing, their "scale", "shift" or "width".
    moved: str = ""


def _with(value: float, dtype: Any = np.float64) -> np.ndarray:
    array = BASE.astype(dtype)
    array[3, 2] = value
    return array


def _tensor(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(BASE).to(dtype)


def _frame(**columns: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(BASE, columns=[f"f{i}" for i in range(D)]).assign(**columns)


def _arrow_with_null() -> Any:
    import pyarrow as pa

    return pa.table({f"f{i}": [None, *BASE[1:, i].tolist()] for i in range(D)})


def _masked(*, with_mask: bool) -> np.ndarray:
    array = np.ma.masked_array(BASE.copy(), mask=np.zeros_like(BASE, bool))
    if with_mask:
        array[5, 1] = np.ma.masked
    return array


def _scipy_sparse() -> Any:
    from scipy import sparse

    return sparse.csr_matrix(BASE)


def _read_only() -> np.ndarray:
    array = BASE.copy()
    array.flags.writeable = False
    return array


def _dask() -> Any:
    import dask.array as da

    return da.from_array(BASE, chunks=(7, D))


class _Interface:
    """What only has ``__array__``."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(BASE, dtype=dtype)


class _Refuses:
    """What fails when it is made an array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("no array today")


class _Lies:
    """What gives no array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return "not an array"


class _Subclass(np.ndarray):
    """An array of another class."""


REFUSED: dict[str, Refused] = {
    "None": Refused(lambda: None),
    "a number": Refused(lambda: 3.5),
    "a whole number": Refused(lambda: 7),
    "True": Refused(lambda: True),
    "an object": Refused(object),
    "a set": Refused(lambda: {1.0, 2.0}),
    "a generator": Refused(lambda: (row for row in BASE)),
    "a function": Refused(lambda: np.mean),
    "a class": Refused(lambda: np.ndarray),
    "an empty list": Refused(list),
    "a list of None": Refused(lambda: [None, None]),
    "a list of texts": Refused(lambda: [["a", "b"], ["c", "d"]]),
    "a ragged list": Refused(lambda: [[1.0, 2.0], [3.0]]),
    "a list with None in it": Refused(lambda: [[1.0, None], [2.0, 3.0]]),
    "a list of numbers": Refused(lambda: [1.0, 2.0, 3.0], ["shape"]),
    "no rows": Refused(lambda: np.zeros((0, D)), ["empty"]),
    "no columns": Refused(lambda: np.zeros((N, 0)), ["empty"]),
    "no rows, tensor": Refused(lambda: torch.zeros(0, D), ["empty"]),
    "no axis": Refused(lambda: np.float64(3.0)),
    "an array without an axis": Refused(lambda: np.array(3.0)),
    "one axis": Refused(lambda: BASE[:, 0], ["shape"]),
    "three axes": Refused(lambda: BASE.reshape(4, 6, D), ["shape"]),
    "three axes, tensor": Refused(lambda: _tensor().reshape(4, 6, D), ["shape"]),
    "complex": Refused(lambda: BASE.astype(complex), ["complex"]),
    "complex tensor": Refused(lambda: _tensor(torch.complex64), ["complex"]),
    "bool": Refused(lambda: BASE > 0, ["bool"]),
    "bool tensor": Refused(lambda: _tensor() > 0, ["bool"]),
    "objects": Refused(lambda: BASE.astype(object), ["object"]),
    "texts": Refused(lambda: BASE.astype(str)),
    "bytes": Refused(lambda: BASE.astype("S8")),
    "structured": Refused(lambda: np.zeros(N, dtype=[("x", float), ("y", float)])),
    "dates": Refused(lambda: WHOLE.astype("datetime64[D]"), ["datetime64"]),
    "spans of time": Refused(lambda: WHOLE.astype("timedelta64[s]"), ["timedelta64"]),
    "NaN": Refused(lambda: _with(np.nan), ["NaN", "(3, 2)"]),
    "inf": Refused(lambda: _with(np.inf), ["infinite", "(3, 2)"]),
    "-inf": Refused(lambda: _with(-np.inf), ["infinite", "(3, 2)"]),
    "inf in float16": Refused(lambda: _with(np.inf, np.float16), ["infinite", "(3, 2)"]),
    "NaN everywhere": Refused(lambda: np.full((N, D), np.nan), ["NaN"]),
    "NaN, tensor": Refused(lambda: torch.from_numpy(_with(np.nan)), ["NaN", "(3, 2)"]),
    "NaN in bfloat16": Refused(
        lambda: torch.from_numpy(_with(np.nan)).bfloat16(), ["NaN", "(3, 2)"]
    ),
    "a masked value": Refused(lambda: _masked(with_mask=True), ["mask"]),
    "a single masked value": Refused(lambda: np.ma.masked, ["mask"]),
    "a frame with NA": Refused(
        lambda: _frame(f2=[None, *BASE[1:, 2]]).astype({"f2": "Float64"}),
    ),
    "a frame with NaN": Refused(lambda: _frame(f2=[np.nan, *BASE[1:, 2]])),
    "a frame with texts": Refused(lambda: _frame(f2=["x"] * N)),
    "a frame with categories": Refused(lambda: _frame(f2=["x"] * N).astype({"f2": "category"})),
    "an Arrow table with nulls": Refused(_arrow_with_null),
    "sparse": Refused(lambda: _tensor().to_sparse(), ["sparse"]),
    "sparse rows": Refused(lambda: _tensor().to_sparse_csr(), ["sparse"]),
    "sparse, of scipy": Refused(_scipy_sparse),
    "meta": Refused(lambda: torch.empty(N, D, device="meta"), ["meta"]),
    "nested": Refused(
        lambda: torch.nested.nested_tensor([torch.zeros(2, D), torch.zeros(3, D)]), ["nested"]
    ),
    "quantized": Refused(
        lambda: torch.quantize_per_tensor(_tensor(), 0.1, 0, torch.qint8), ["quanti"]
    ),
    "fails to be an array": Refused(_Refuses),
    "lies about being an array": Refused(_Lies),
}

RIGHT: dict[str, Right] = {
    "float16": Right(lambda: BASE.astype(np.float16), lambda: BASE, 2e-3),
    "float32": Right(lambda: BASE.astype(np.float32), lambda: BASE),
    "long double": Right(lambda: BASE.astype(np.longdouble), lambda: BASE),
    "bfloat16": Right(
        lambda: _tensor(torch.bfloat16), lambda: _tensor(torch.bfloat16).double().numpy(), 2e-2
    ),
    "big endian": Right(lambda: BASE.astype(">f8"), lambda: BASE),
    "big endian float32": Right(lambda: BASE.astype(">f4"), lambda: BASE),
    "Fortran order": Right(lambda: np.asfortranarray(BASE), lambda: BASE),
    "every second row": Right(lambda: np.repeat(BASE, 2, axis=0)[::2], lambda: BASE),
    "every second column": Right(lambda: np.repeat(BASE, 2, axis=1)[:, ::2], lambda: BASE),
    "negative strides": Right(lambda: BASE[::-1, ::-1].copy()[::-1, ::-1], lambda: BASE),
    "read-only": Right(_read_only, lambda: BASE),
    "a list of lists": Right(BASE.tolist, lambda: BASE),
    "a tuple of tuples": Right(lambda: tuple(map(tuple, BASE.tolist())), lambda: BASE),
    "a masked array without a mask": Right(lambda: _masked(with_mask=False), lambda: BASE),
    "a subclass": Right(lambda: BASE.copy().view(_Subclass), lambda: BASE),
    "what has __array__": Right(_Interface, lambda: BASE),
    "a frame": Right(_frame, lambda: BASE),
    "a Dask array": Right(_dask, lambda: BASE),
    "a tensor": Right(lambda: _tensor(torch.float64), lambda: BASE),
    "a tensor that requires grad": Right(
        lambda: _tensor(torch.float64).requires_grad_(), lambda: BASE
    ),
    "a transposed tensor": Right(lambda: _tensor().T.contiguous().T, lambda: BASE),
    "a parameter": Right(lambda: torch.nn.Parameter(_tensor(torch.float64)), lambda: BASE),
    "int8": Right(lambda: WHOLE.astype(np.int8), lambda: WHOLE),
    "int16 big endian": Right(lambda: WHOLE.astype(">i2"), lambda: WHOLE),
    "int32": Right(lambda: WHOLE.astype(np.int32), lambda: WHOLE),
    "int64": Right(lambda: WHOLE.astype(np.int64), lambda: WHOLE),
    "uint8": Right(lambda: (WHOLE + 128).astype(np.uint8), lambda: WHOLE, moved="shift"),
    "uint16": Right(lambda: (WHOLE + 1000).astype(np.uint16), lambda: WHOLE, moved="shift"),
    "uint32 at 2**31": Right(
        lambda: (WHOLE + 2**31).astype(np.uint32), lambda: WHOLE, moved="shift"
    ),
    "uint64": Right(lambda: (WHOLE + 1000).astype(np.uint64), lambda: WHOLE, moved="shift"),
    "int32 at 2**24": Right(lambda: (WHOLE + 2**24).astype(np.int32), lambda: WHOLE, moved="shift"),
    "int64 at 2**40": Right(lambda: (WHOLE + 2**40).astype(np.int64), lambda: WHOLE, moved="shift"),
    "int64 tensor at 2**40": Right(
        lambda: torch.from_numpy((WHOLE + 2**40).astype(np.int64)), lambda: WHOLE, moved="shift"
    ),
    "float64 at 1e8": Right(lambda: BASE + 1e8, lambda: BASE, 1e-5, moved="shift"),
    "float64 at 1e-200": Right(lambda: BASE * 2.0**-664, lambda: BASE, moved="scale"),
    "float64 at 1e200": Right(lambda: BASE * 2.0**664, lambda: BASE, moved="scale"),
    "float64 at 1e-300": Right(lambda: BASE * 2.0**-990, lambda: BASE, moved="scale"),
    "float64 at 1e300": Right(lambda: BASE * 2.0**990, lambda: BASE, moved="scale"),
    "float32 at 1e-30": Right(
        lambda: (BASE * 2.0**-100).astype(np.float32), lambda: BASE, moved="scale"
    ),
    "float32 at 1e30": Right(
        lambda: (BASE * 2.0**100).astype(np.float32), lambda: BASE, moved="scale"
    ),
    "float32 tensor at 1e-30": Right(lambda: _tensor() * 2.0**-100, lambda: BASE, moved="scale"),
    "float32 tensor at 1e30": Right(lambda: _tensor() * 2.0**100, lambda: BASE, moved="scale"),
    "-0.0": Right(lambda: np.where(BASE == 0, -0.0, BASE), lambda: BASE),
    "a column of zeros": Right(
        lambda: np.concatenate([BASE, np.zeros((N, 1))], axis=1), lambda: BASE, moved="width"
    ),
}
