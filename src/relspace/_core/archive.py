"""Tensors and JSON in one safetensors file, written atomically and never unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from relspace._core.arguments import check_path
from relspace._core.arrays import FLOATS, all_finite
from relspace._core.files import write_whole
from relspace.errors import FileFormatError

_KEY = "relspace"

#: In the metadata, the checksum of all else.
_CHECKSUM = "sha256"


def write_archive(
    path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
) -> Path:
    """Write tensors, bit by bit, and metadata, as JSON, into one safetensors file of a ``kind``.

    The file appears under its name only when it is complete (:func:`write_whole`).
    """
    from safetensors.torch import save

    held, seen = {}, set()
    for name, one in tensors.items():
        held[name] = one.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory, as the grid of two sets does.
        if (address := held[name].untyped_storage().data_ptr()) in seen:
            held[name] = held[name].clone()
        seen.add(address)
    # The checksum is of what a reader gets: JSON turns tuples into lists and keys into text.
    plain = json.loads(json.dumps({"kind": kind, **metadata}, allow_nan=False))
    header = {_KEY: json.dumps({**plain, _CHECKSUM: _checksum(held, plain)}, allow_nan=False)}
    content = save(held, header)
    return write_whole(Path(path), content)


def read_archive(
    path: str | Path, *kinds: str, may_be_infinite: Collection[str] = ()
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors and metadata of a file of :func:`write_archive` that holds one of ``kinds``.

    Damaged or changed files, other kinds, and numbers that are not finite raise FileFormatError,
    except infinity in tensors whose last part of the name is in ``may_be_infinite``. Files of
    versions that wrote no checksum are read without one.
    """
    from safetensors import SafetensorError, safe_open

    check_path(path)
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}.")
    try:
        with safe_open(source, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{source} can't be read as a safetensors file ({error}); it may be cut short: make it "
            "again."
        ) from error
    if _KEY not in header:
        raise FileFormatError(f"{source} was not written by relspace: its header has no {_KEY!r}.")
    metadata = _metadata(source, header[_KEY])
    if metadata.get("kind") not in kinds:
        raise FileFormatError(f"{source} holds a {metadata.get('kind')}, not a {kinds[0]}.")
    if _CHECKSUM in metadata and metadata.pop(_CHECKSUM) != _checksum(tensors, metadata):
        raise FileFormatError(
            f"{source} is damaged, or was changed after it was written: what it holds doesn't "
            "match its checksum. Make it again."
        )
    for name, tensor in tensors.items():
        _refuse_non_finite(source, name, tensor, name.rpartition(".")[2] in may_be_infinite)
    return tensors, metadata


def archive_kind(path: str | Path) -> str | None:
    """The kind that a file of :func:`write_archive` says it holds; None of any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="pt") as file:
            header = file.metadata() or {}
        kind = _metadata(Path(path), header[_KEY]).get("kind")
    except (SafetensorError, OSError, KeyError, FileFormatError):
        return None
    return kind if isinstance(kind, str) else None


def check_tensors(
    tensors: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    optional: Collection[str] = (),
) -> None:
    """Refuse tensors of a file that lack one of ``shapes``, have another shape, or are no floats.

    Those in ``optional`` may be missing.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            if name in optional:
                continue
            raise FileFormatError(f"it lacks the tensor {name!r}.")
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise FileFormatError(
                f"its tensor {name!r} has shape {tuple(tensor.shape)}; by the rest of the file it "
                f"must be {shape}."
            )
        if not tensor.is_floating_point():
            raise FileFormatError(f"its tensor {name!r} holds {tensor.dtype}, not floats.")


def _metadata(source: Path, text: str) -> dict[str, Any]:
    """The metadata of a file as plain values."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number")

    try:
        metadata = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{source} is damaged: its metadata is no valid JSON ({error})."
        ) from error
    if not isinstance(metadata, dict):
        raise FileFormatError(f"{source} is damaged: its metadata is no JSON object.")
    return metadata


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """The SHA-256 of the metadata and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refuse_non_finite(source: Path, name: str, tensor: torch.Tensor, infinite: bool) -> None:
    if not tensor.is_floating_point():
        return
    if tensor.dtype not in FLOATS:
        raise FileFormatError(f"{source} is damaged: its tensor {name!r} holds {tensor.dtype}.")
    if all_finite(tensor):
        return
    bad = torch.isnan(tensor) if infinite else ~torch.isfinite(tensor)
    if bool(bad.any()):
        raise FileFormatError(
            f"{source} is damaged: its tensor {name!r} holds {int(bad.sum())} NaN or infinite "
            "values."
        )
