"""One file of tensors and JSON: safetensors, written whole or not at all, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from relspace._core.files import write_whole
from relspace._core.validation import check_path
from relspace.errors import FileFormatError

_KEY = "relspace"


def write_archive(
    path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]
) -> Path:
    """Write tensors and their metadata into one safetensors file.

    The file appears under its name only when it is complete (:func:`write_whole`).

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        What it holds; :func:`read_archive` asks for the same.
    tensors : mapping of str to tensor
        What is stored bit by bit.
    metadata : mapping
        Plain values, stored as JSON in the file's header.
    """
    from safetensors.torch import save

    header = {_KEY: json.dumps({"kind": kind, **metadata}, allow_nan=False)}
    content = save({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, header)
    return write_whole(Path(path), content)


def read_archive(path: str | Path, *kinds: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of :func:`write_archive`.

    Parameters
    ----------
    path : str or Path
        The file.
    *kinds : str
        What it may hold.

    Returns
    -------
    tensors : dict of str to tensor
        The tensors.
    metadata : dict
        The metadata, with what it holds as ``kind``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is damaged, or holds something else.
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
    metadata = json.loads(header[_KEY])
    if metadata.get("kind") not in kinds:
        raise FileFormatError(f"{source} holds a {metadata.get('kind')}, not a {kinds[0]}.")
    return tensors, metadata
