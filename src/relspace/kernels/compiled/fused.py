"""Compiled loops: one pass through the cache for what torch does in several."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

_Address, _Count = ctypes.c_void_p, ctypes.c_ssize_t
_Float, _Double = ctypes.c_float, ctypes.c_double
_NO_TEAM = (None, None)


def _load() -> ctypes.CDLL | None:
    """Load what was compiled when the package was installed; None where there was no compiler.

    With ``RELSPACE_COMPILED=0`` in the environment nothing is loaded, and torch does all the work.
    """
    if os.environ.get("RELSPACE_COMPILED") == "0":
        return None
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
    library.describe_rows.argtypes = [
        *(_Address, _Count, _Count, _Count),
        *(_Address, _Address, _Float),
        *(_Address, _Address, _Address, ctypes.c_int),
    ]
    library.describe_rows.restype = None
    library.place_rows.argtypes = [
        *(_Address, _Count, _Count, _Count),
        *(_Address, _Float, _Address, _Address),
    ]
    library.place_rows.restype = None
    library.affinities_of_set.argtypes = [ctypes.POINTER(WholeSet)]
    library.affinities_of_set.restype = None
    return library


def _find_team() -> tuple[int | None, int | None]:
    """Addresses of what calls a function in all threads of torch's OpenMP, and of their barrier.

    A second set of threads would compete with those, which go on spinning for a while after an
    operation. Where torch has another kind of threads, there are no such functions.
    """
    if sys.platform != "linux":
        return _NO_TEAM
    program = ctypes.CDLL(None)
    if not (hasattr(program, "GOMP_parallel") and hasattr(program, "GOMP_barrier")):
        return _NO_TEAM
    return (
        ctypes.cast(program.GOMP_parallel, _Address).value,
        ctypes.cast(program.GOMP_barrier, _Address).value,
    )


class WholeSet(ctypes.Structure):
    """A set whose affinities with itself are asked for; `strips.c` says what each field is."""

    #: What the addresses are of, kept as long as they are.
    memory: tuple[torch.Tensor, ...]

    _fields_ = (
        ("rows", _Address),
        ("n", _Count),
        ("width", _Count),
        ("stride", _Count),
        ("sigma", _Double),
        ("density", _Double),
        ("last_step", _Double),
        ("rounding", _Double),
        ("matrix", _Address),
        ("origin", _Address),
        ("half_norms", _Address),
        ("panels", _Address),
        ("sums", _Address),
        ("level", _Count),
        ("team", _Address),
        ("wait", _Address),
        ("unit", _Double),
        ("log_variance", _Double),
        ("reached", _Double),
        ("iterations", _Count),
        ("done", _Count),
        ("affinities", _Address),
        ("taken", _Address),
    )


_library = _load()
_team = _find_team()
_level = 0 if _library is None else int(_library.level_of_processor())
# Older processors of this kind have no vectors that multiply and add.
_has_product = _level > 0 or platform.machine().lower() not in ("x86_64", "amd64")
# Of more, torch's threads are faster at the product than one thread at everything.
_ITEMS_FOR_ONE_THREAD = 640


def is_compiled() -> bool:
    """Whether compiled loops are there, and not switched off by ``RELSPACE_COMPILED=0``."""
    return _library is not None


def suits(tile: torch.Tensor) -> bool:
    """Whether the compiled loops can be used for tiles like this one."""
    return (
        _library is not None
        and tile.dtype == torch.float32
        and tile.device.type == "cpu"
        and tile.stride(-1) == 1
    )


def suits_whole_set(X: torch.Tensor) -> bool:
    """Whether all can be done in one compiled call, faster than by torch's products and tiles."""
    shared = _team != _NO_TEAM or len(X) <= _ITEMS_FOR_ONE_THREAD
    return suits(X) and _has_product and shared


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


def place_rows(
    rows: torch.Tensor,
    origin: torch.Tensor,
    unit: float,
    *,
    points: torch.Tensor,
    half_norms: torch.Tensor,
) -> None:
    """Write rows as seen from an origin, in a unit, and half their squared norms there.

    Parameters
    ----------
    rows : tensor of shape (n, d)
        The rows.
    origin : contiguous tensor of shape (d,)
        What is subtracted.
    unit : float
        What is then divided by.
    points : contiguous tensor of shape (n, d)
        Where the result goes.
    half_norms : contiguous tensor of shape (n,)
        Where half its squared norms go.
    """
    assert _library is not None
    _library.place_rows(
        *(rows.data_ptr(), rows.shape[0], rows.shape[1], rows.stride(0)),
        *(origin.data_ptr(), 1 / unit, points.data_ptr(), half_norms.data_ptr()),
    )


def describe_rows(
    rows: torch.Tensor,
    halves: tuple[torch.Tensor, torch.Tensor] | None = None,
    factor: float = 0.0,
    *,
    mean: torch.Tensor | None = None,
    per_column: torch.Tensor | None = None,
    own: torch.Tensor | None = None,
    last: bool = False,
) -> None:
    """Turn rows, in place, into what they are described by, in one pass through the cache.

    Parameters
    ----------
    rows : tensor of shape (n, m)
        Scalar products of points and landmarks, or what came of them.
    halves : pair of contiguous tensors of shape (n,) and (m,), optional
        Half the squared norms of both; rows become 2^(factor * (product - halves)).
    factor : float
        What exponents are multiplied by.
    mean : contiguous tensor of shape (m,), optional
        What is then subtracted from every row.
    per_column : contiguous tensor of shape (m,), optional
        With a mean, what columns are multiplied by after.
    own : contiguous LongTensor of shape (n,), optional
        A column of each row that is 0 and does not count, negative where there is none.
    last : bool
        Whether rows get mean 0 and norm 1 in the end.
    """
    assert _library is not None
    half_x, half_y = halves or (None, None)
    _library.describe_rows(
        *(rows.data_ptr(), rows.shape[0], rows.shape[1], rows.stride(0)),
        *(_address(half_x), _address(half_y), factor),
        *(_address(mean), _address(per_column), _address(own), last),
    )


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def affinities_of_set(whole: WholeSet) -> bool:
    """Compute the affinities of a set with itself, in the threads that torch's operations share.

    Parameters
    ----------
    whole : WholeSet
        The set, where results go, and room for the work.

    Returns
    -------
    bool
        Whether they were computed: not where the set has no size, is not finite, or where float32
        may be too coarse.
    """
    assert _library is not None
    whole.level = _level
    whole.team, whole.wait = _team
    _library.affinities_of_set(whole)
    return bool(whole.done)
