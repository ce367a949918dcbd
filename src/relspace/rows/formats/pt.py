"""``.pt`` and ``.pth`` files of torch: a tensor, or a dictionary of tensors."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from relspace._core.arrays import readable
from relspace.errors import FileFormatError, InvalidTypeError
from relspace.rows.formats._format import ONLY, Entries, Entry, FileFormat, Request


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    is_zip = zipfile.is_zipfile(path)
    try:
        # Files from before torch 1.6 are not archives and can't be mapped into memory.
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except UnpicklingError as error:
        if not is_zip:
            raise
        raise FileFormatError(
            f"{path} holds Python objects that only unpickling can read, and unpickling can run "
            "any code: save it again as a tensor or a dictionary of tensors, e.g. "
            'torch.save({"features": tensor, "ids": ids}, path)'
        ) from error
    if isinstance(content, Tensor):
        yield {ONLY: _tensor(content)}
    elif isinstance(content, Mapping):
        entries = {}
        for key, value in content.items():
            if isinstance(value, Tensor):
                entries[str(key)] = _tensor(value)
            elif isinstance(value, list | tuple):
                entries[str(key)] = Entry.of_list(value)
        yield entries
    else:
        raise FileFormatError(
            f"{path} holds a {type(content).__name__}: save a tensor or a dictionary of tensors"
        )


def _tensor(tensor: Tensor) -> Entry:
    # A nested tensor has no shape.
    shape = (len(tensor.unbind()),) if tensor.is_nested else tuple(tensor.shape)
    try:
        readable(tensor.detach()[:0] if tensor.layout is torch.strided and shape else tensor, "")
    except InvalidTypeError as error:
        return Entry(shape, tensor.detach, str(error).strip().rstrip("."))
    return Entry(shape, lambda: readable(tensor.detach(), "the tensor"))


FORMAT = FileFormat(suffixes=(".pt", ".pth"), open=_open, has_layers=True)
