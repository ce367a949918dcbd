"""The compiled library, loaded through ctypes; None where there is none."""

from __future__ import annotations

import ctypes
import platform
import sys
import warnings

import torch

from relspace._core.installation import find_compiled
from relspace.errors import RelspaceWarning

_Address, _Count = ctypes.c_void_p, ctypes.c_ssize_t
_Float, _Double, _Flag = ctypes.c_float, ctypes.c_double, ctypes.c_int


class WholeSet(ctypes.Structure):
    """A set whose affinities with itself are computed; ``placing.h`` describes the fields."""

    #: The tensors that the addresses point into, kept alive with them.
    memory: tuple[torch.Tensor, ...]

    _fields_ = (
        *(("rows", _Address), ("n", _Count), ("width", _Count), ("stride", _Count)),
        *(("sigma", _Double), ("density", _Double)),
        *(("last_step", _Double), ("rounding", _Double)),
        *(("matrix", _Address), ("origin", _Address), ("half_norms", _Address)),
        *(("panels", _Address), ("sums", _Address)),
        *(("level", _Count), ("n_threads", _Count), ("team", _Address), ("wait", _Address)),
        *(("unit", _Double), ("log_variance", _Double)),
        *(("iterations", _Count), ("done", _Count), ("taken", _Address)),
    )


class Library:
    """The functions in C, which the sources describe, and features of the processor."""

    def __init__(self, compiled: ctypes.CDLL) -> None:
        matrix = (_Address, _Count, _Count, _Count)
        self.sum_moments = compiled.sum_moments
        self.sum_moments.argtypes = [*matrix, _Float, _Count, _Address]
        self.subtract_norms = compiled.subtract_norms
        self.subtract_norms.argtypes = [
            *(_Address, _Count, _Count, _Address, _Address, _Address, _Count, _Flag)
        ]
        self.exponentiate = compiled.exponentiate
        self.exponentiate.argtypes = [*matrix, _Float, _Address, _Count, _Address, _Count]
        self.describe_rows = compiled.describe_rows
        self.describe_rows.argtypes = [
            *(*matrix, _Address, _Address, _Float, _Address, _Address, _Address, _Flag)
        ]
        self.place_rows = compiled.place_rows
        self.place_rows.argtypes = [*matrix, _Address, _Float, _Address, _Address]
        self.affinities_of_set = compiled.affinities_of_set
        self.affinities_of_set.argtypes = [ctypes.POINTER(WholeSet)]
        for function in (
            *(self.sum_moments, self.subtract_norms, self.exponentiate, self.describe_rows),
            *(self.place_rows, self.affinities_of_set),
        ):
            function.restype = None
        #: Addresses of what calls a function in all threads, and of their barrier; or None.
        self.team = _find_team()
        #: The level of x86-64 that is used: 0, 3 or 4.
        self.level = int(compiled.level_of_processor())
        #: Whether products are fast: older x86-64 processors have no fused multiply-add.
        self.multiplies = self.level > 0 or platform.machine().lower() not in ("x86_64", "amd64")


def _find_team() -> tuple[int, int] | None:
    """Addresses of what calls a function in all threads of torch's OpenMP, and of their barrier.

    Threads of our own would compete with torch's, which spin for a while after an operation. Where
    torch has another kind of threads, there are no such functions.
    """
    if sys.platform != "linux":
        return None
    program = ctypes.CDLL(None)
    try:
        functions = program.GOMP_parallel, program.GOMP_barrier
    except AttributeError:
        return None
    parallel, barrier = (ctypes.cast(function, _Address).value for function in functions)
    return None if parallel is None or barrier is None else (parallel, barrier)


def _load() -> Library | None:
    compiled, state = find_compiled()
    if compiled is not None:
        return Library(compiled)
    if "another version" in state:
        # Calling it would write past the end of structures.
        warnings.warn(
            RelspaceWarning(
                f"{state}. Results are the same, but take longer",
                ways_out=["install relspace again to build them"],
            ),
            stacklevel=2,
        )
    return None


#: None where no compiler was at hand at installation, or with ``RELSPACE_COMPILED=0``.
LIBRARY = _load()
