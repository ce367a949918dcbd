"""Compiled loops over tiles: one pass through the cache for what torch does in several."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

#: Of a matrix that threads share, what one takes at a time.
ROWS_OF_STRIP = 16

_Address, _Count, _Float = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float


def _load() -> ctypes.CDLL | None:
    """Load what was compiled when the package was installed; None where there was no compiler."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name("_fused" + suffix)
        if path.exists():
            library = ctypes.CDLL(str(path))
            break
    else:
        return None
    library.sum_moments.argtypes = [_Address, _Count, _Count, _Count, _Float, _Count, _Address]
    library.sum_moments.restype = None
    library.subtract_norms.argtypes = [
        _Address,
        _Count,
        _Count,
        _Address,
        _Address,
        _Address,
        _Count,
        ctypes.c_int,
    ]
    library.subtract_norms.restype = None
    library.exponentiate.argtypes = [
        _Address,
        _Count,
        _Count,
        _Count,
        _Float,
        _Address,
        _Count,
        _Address,
        _Count,
    ]
    library.exponentiate.restype = ctypes.c_double
    library.locate.argtypes = [_Address, _Count, _Count, _Count, _Address]
    library.locate.restype = ctypes.c_double
    for name, work in _SHARED_WORK.items():
        getattr(library, name).argtypes = [ctypes.POINTER(work)]
        getattr(library, name).restype = None
    return library


def _find_team() -> Callable[..., None] | None:
    """The function of torch's OpenMP that calls another in all its threads, where there is one."""
    if sys.platform != "linux":
        return None
    team = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if team is not None:
        team.argtypes = [_Address, _Address, ctypes.c_uint, ctypes.c_uint]
        team.restype = None
    return team


class Placing(ctypes.Structure):
    """Rows to be brought to an origin and a size."""

    _fields_ = (
        ("rows", _Address),
        ("origin", _Address),
        ("n_rows", _Count),
        ("n_columns", _Count),
        ("stride", _Count),
        ("scale", _Float),
        ("points", _Address),
        ("half_norms", _Address),
        ("next", _Count),
    )


class Strips(ctypes.Structure):
    """A square matrix whose entries above the diagonal are worked on, 16 rows at a time."""

    _fields_ = (
        ("matrix", _Address),
        ("half_norms", _Address),
        ("n", _Count),
        ("first", _Count),
        ("end", _Count),
        ("factor", _Float),
        ("fresh", ctypes.c_int),
        ("sums", _Address),
        ("next", _Count),
    )


_SHARED_WORK: dict[str, type[ctypes.Structure]] = {
    "place_rows": Placing,
    "sum_strips": Strips,
    "exponentiate_strips": Strips,
}
_library = _load()
_team = _find_team()
_addresses = {
    name: ctypes.cast(getattr(_library, name), _Address)
    for name in (_SHARED_WORK if _library is not None else ())
}


def is_compiled() -> bool:
    """Whether the package was installed where a C compiler was at hand."""
    return _library is not None


def suits(tile: torch.Tensor) -> bool:
    """Whether the compiled loops can be used for tiles like this one."""
    return (
        _library is not None
        and tile.dtype == torch.float32
        and tile.device.type == "cpu"
        and tile.stride(-1) == 1
    )


def sum_moments(
    tile: torch.Tensor, factor: float, *, without_diagonal: bool
) -> tuple[float, float, float, float]:
    """Sum 2^e e^k for k = 0 to 3 over e = factor * tile.

    Parameters
    ----------
    tile : tensor of shape (n, m) or (n_groups, n, m)
        Values of at most 0.
    factor : float
        What they are multiplied by.
    without_diagonal : bool
        Whether the diagonal, of each group, is left out.
    """
    assert _library is not None
    sums = (ctypes.c_double * 4)()
    period = tile.shape[-2] if without_diagonal else 0
    rows = tile if tile.ndim == 2 else tile.reshape(-1, tile.shape[-1])
    _library.sum_moments(
        rows.data_ptr(), rows.shape[0], rows.shape[1], rows.stride(0), factor, period, sums
    )
    return sums[0], sums[1], sums[2], sums[3]


def subtract_norms(
    products: torch.Tensor,
    half_x: torch.Tensor,
    half_y: torch.Tensor,
    *,
    to: torch.Tensor,
    on_diagonal: bool,
) -> None:
    """Write products less half the squared norms, at most 0; symmetric with zeros on a diagonal.

    Parameters
    ----------
    products : contiguous tensor of shape (n, m)
        Scalar products x.y.
    half_x, half_y : contiguous tensors of shape (n,) and (m,)
        Half the squared norms.
    to : tensor of shape (n, m)
        Where the result goes: other memory, whose rows may lie apart.
    on_diagonal : bool
        Whether x and y are the same points.
    """
    assert _library is not None
    _library.subtract_norms(
        products.data_ptr(),
        products.shape[0],
        products.shape[1],
        half_x.data_ptr(),
        half_y.data_ptr(),
        to.data_ptr(),
        to.stride(0),
        on_diagonal,
    )


def exponentiate(
    tile: torch.Tensor, factor: float, *, to: torch.Tensor, mirrored: torch.Tensor | None
) -> float:
    """Write 2^(factor * tile) to one place, its mirror image to another, and return the sum.

    Parameters
    ----------
    tile : tensor of shape (n, m)
        Values of at most 0.
    factor : float
        What they are multiplied by.
    to : tensor of shape (n, m)
        Where the result goes, which may be the tile itself.
    mirrored : tensor of shape (m, n) or None
        Where its transpose goes.
    """
    assert _library is not None
    total: float = _library.exponentiate(
        tile.data_ptr(),
        tile.shape[0],
        tile.shape[1],
        tile.stride(0),
        factor,
        to.data_ptr(),
        to.stride(0),
        None if mirrored is None else mirrored.data_ptr(),
        0 if mirrored is None else mirrored.stride(0),
    )
    return total


def locate(rows: torch.Tensor, origin: torch.Tensor) -> float:
    """Write the coordinate-wise median of at most 33 rows; return their median distance from it.

    Parameters
    ----------
    rows : tensor of shape (n, d)
        The rows, each contiguous.
    origin : contiguous tensor of shape (d,)
        Where the median goes.
    """
    assert _library is not None
    distance: float = _library.locate(
        rows.data_ptr(), rows.shape[0], rows.shape[1], rows.stride(0), origin.data_ptr()
    )
    return distance


def share(name: str, work: Placing | Strips) -> None:
    """Do work in the threads that torch's own operations share, without waking others.

    A second set of threads would compete with those, which go on spinning for a while after an
    operation. Where torch has another kind of threads, this one does all.

    Parameters
    ----------
    name : str
        ``"place_rows"``, ``"sum_strips"`` or ``"exponentiate_strips"``.
    work : Placing or Strips
        What it is about.
    """
    work.next = 0
    if _team is None:
        getattr(_library, name)(work)
    else:
        _team(_addresses[name], ctypes.addressof(work), 0, 0)
