"""Checks of saved aligners and sets of spaces: that their records and tensors fit together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch

from relspace._core.archive import check_tensors
from relspace._core.arguments import (
    check_choice,
    check_count,
    check_fraction,
    check_number,
    check_positive,
)
from relspace.errors import FileFormatError
from relspace.kernels.normalization import NORMALIZATIONS
from relspace.kernels.relative import STANDARDIZATIONS

#: An exponent beyond these takes every float64 to 0 or to infinity.
_MAX_EXPONENT = 2200

#: More rows than these can't be numbered.
_MAX_ROWS = 2**62


def check_stored_aligner(
    tensors: Mapping[str, torch.Tensor],
    record: Mapping[str, Any],
    beside: Mapping[str, tuple[int, ...]] | None = None,
    ignored: Collection[str] = (),
) -> None:
    """Check the tensors and the record of a saved aligner.

    ``beside`` are shapes of optional tensors, with -1 for the number of landmarks, and ``ignored``
    tensors that are checked elsewhere.
    """
    normalize = check_choice(record["normalize"], "normalize", NORMALIZATIONS)
    standardize = check_choice(record["standardize"], "standardize", STANDARDIZATIONS)
    check_fraction(record["density"], "density")
    exponent = record.get("exponent", 0)
    if isinstance(exponent, bool) or not isinstance(exponent, int):
        raise FileFormatError(f"exponent is {exponent!r}; it must be a whole number.")
    if abs(exponent) > _MAX_EXPONENT:
        raise FileFormatError(f"exponent is {exponent}, beyond {_MAX_EXPONENT} either way.")
    _check_bandwidth(record["bandwidth"])
    shapes = _shapes(tensors, normalize.removesuffix("+unit"), standardize)
    m = shapes["landmarks"][0]
    more = {
        name: tuple(m if size == -1 else size for size in shape)
        for name, shape in (beside or {}).items()
    }
    shapes |= more
    check_tensors(tensors, shapes, optional=("rest", *more))
    if surplus := sorted(set(tensors) - set(shapes) - set(ignored)):
        raise FileFormatError(
            f"it holds {', '.join(map(repr, surplus))}, which normalize={normalize!r} and "
            f"standardize={standardize!r} do not have."
        )
    for name in ("scale", "profile_deviation"):
        if name in tensors and not bool((tensors[name] > 0).all()):
            raise FileFormatError(f"its tensor {name!r} holds values that are not above 0.")
    kinds = {str(tensors[name].dtype) for name in shapes if name in tensors}
    if len(kinds) > 1:
        raise FileFormatError(f"its tensors are of different float types: {sorted(kinds)}.")
    _check_feature_names(record.get("feature_names"), _width(tensors))


def check_stored_set(tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
    """Check the tensors and the record of a saved set of a space."""
    _check_bool(record["is_array"], "is_array")
    n_rows = check_count(record["n_rows"], "n_rows", at_most=_MAX_ROWS)
    if not isinstance(record["name"], str):
        raise FileFormatError(f"the name of a set is {record['name']!r}; it must be text.")
    beside: dict[str, tuple[int, ...]] = {"relative": (n_rows, -1)}
    has_features = record.get("has_features", False)
    _check_bool(has_features, "has_features")
    if has_features and "features" not in tensors:
        raise FileFormatError("it lacks the tensor 'features'.")
    if has_features and "landmarks" in tensors:
        beside["features"] = (-1, _width(tensors))
    if record["standardize"] == "columns":
        beside["mixing"] = (-1, -1)
    check_stored_aligner(tensors, record, beside, ignored=("boxes", "image_sizes"))


def float_type(name: object) -> torch.dtype:
    """The float type that a record names."""
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise FileFormatError(f"dtype is {name!r}; it must be a float type such as 'float32'.")
    return found


def _width(tensors: Mapping[str, torch.Tensor]) -> int:
    """How many features the set has."""
    return int(tensors["axes"].shape[0] if "axes" in tensors else tensors["landmarks"].shape[1])


def _shapes(
    tensors: Mapping[str, torch.Tensor], step: str, standardize: str
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that such an aligner has."""
    for name in ("landmarks", *(("axes",) if step.endswith("whiten") else ())):
        if name not in tensors:
            raise FileFormatError(f"it lacks the tensor {name!r}.")
        if tensors[name].ndim != 2 or not tensors[name].numel():
            raise FileFormatError(f"its tensor {name!r} is no matrix.")
    m, k = tensors["landmarks"].shape
    width = _width(tensors)
    shapes: dict[str, tuple[int, ...]] = {
        "landmarks": (m, k),
        "profile_mean": (m,),
        "profile_deviation": (m,),
    }
    if standardize.endswith("whiten"):
        shapes["profile_whitening"] = (m, m)
    if step not in ("none", "unit"):
        shapes |= {"center": (width,), "rest": (width,)}
    if step == "zscore":
        shapes["scale"] = (width,)
    if step.endswith("whiten"):
        shapes["axes"] = (width, k)
    return shapes


def _check_bandwidth(record: Mapping[str, Any]) -> None:
    check_positive(record["sigma"], "sigma")
    check_fraction(record["target"], "target")
    for name in ("density", "standard_error"):
        value = check_number(record[name], name)
        if not (value >= 0 and math.isfinite(value)):
            raise FileFormatError(f"{name} is {value}; it must be a finite number of at least 0.")
    for name in ("n_pairs", "n_items", "iterations"):
        check_count(record[name], name, at_least=0)
    _check_bool(record["converged"], "converged")
    _check_bool(record.get("sampled", False), "sampled")


def _check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise FileFormatError(f"{name} is {value!r}; it must be true or false.")


def _check_feature_names(names: object, width: int) -> None:
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileFormatError("feature_names must be a list of text.")
    if len(names) != width or len(set(names)) < len(names):
        raise FileFormatError(
            f"there are {len(names)} feature_names, {len(set(names))} of them different, of "
            f"{width} features."
        )
