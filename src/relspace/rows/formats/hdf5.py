"""HDF5 files, whose datasets are entries by their paths, links followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch

from relspace._core.items import ItemId
from relspace.rows.formats._format import (
    Entries,
    Entry,
    FileFormat,
    Request,
    missing_package,
    native,
    obstacle_of,
    shorten,
)
from relspace.rows.formats.memory import ArrayRows
from relspace.rows.identity import Identity
from relspace.rows.locations import Locations, reading
from relspace.rows.source import RowSource

# Depth up to which virtual datasets of virtual datasets are checked.
_NESTED_AT_MOST = 8


class Hdf5Rows(RowSource):
    """Rows of a dataset in an HDF5 file."""

    lies_in = "files"
    is_array = True

    def __init__(self, path: str | Path, key: str, ids: tuple[ItemId, ...] | None = None) -> None:
        import h5py

        self.path, self.key = Path(path), key
        with reading(path):
            self._file = h5py.File(path, "r")
            self._rows = ArrayRows(self._file[key], ids)
            # A chunk is decompressed as a whole.
            self.chunk_rows = (self._file[key].chunks or (1,))[0]
        self.shape, self.dtype, self.ids = self._rows.shape, self._rows.dtype, ids

    def __reduce__(self) -> tuple[Any, ...]:
        return Hdf5Rows, (self.path, self.key, self.ids)

    def read(self, start: int, stop: int) -> torch.Tensor:
        with reading(self.path):
            return self._rows.read(start, stop)

    def identity(self) -> Identity:
        return self._rows.identity()

    def locations(self) -> Locations:
        return (self.path, *self._rows.locations())


@contextmanager
def _open(path: Path, request: Request) -> Iterator[Entries]:
    try:
        import h5py
    except ImportError as error:
        raise missing_package("h5py", path.suffix) from error
    with h5py.File(path, "r") as file:
        yield dict(_entries_of_group(file, path, "", {_address(file)}, (), False))


def _entries_of_group(
    group: Any, path: Path, prefix: str, seen: set[int], above: tuple[int, ...], is_alias: bool
) -> Iterator[tuple[str, Entry]]:
    """The datasets in a group and its subgroups, each once, and links to them as aliases.

    Links may be circular: ``seen`` holds the addresses of the objects that were found, and
    ``above`` those of the groups that contain this one.
    """
    import h5py

    above = (*above, _address(group))
    for name in group:
        link, called = group.get(name, getlink=True), prefix + name
        if isinstance(link, h5py.ExternalLink):
            there = f"{link.filename}::{link.path.lstrip('/')}"
            yield called, _unreadable(f"is a link into another file: open {there} instead")
            continue
        is_soft = isinstance(link, h5py.SoftLink)
        try:
            node = group[name]
        except (KeyError, OSError, RuntimeError):
            target = f" to {link.path}" if is_soft else ""
            yield called, _unreadable(f"is a link{target} that leads nowhere")
            continue
        address = _address(node)
        if is_soft:
            if isinstance(node, h5py.Dataset):
                yield called, _dataset_entry(node, path, called, is_alias=True)
            elif isinstance(node, h5py.Group) and address not in above and not is_alias:
                yield from _entries_of_group(node, path, called + "/", {address}, above, True)
        elif address not in seen:
            seen.add(address)
            if isinstance(node, h5py.Dataset):
                yield called, _dataset_entry(node, path, called, is_alias=is_alias)
            elif isinstance(node, h5py.Group):
                yield from _entries_of_group(node, path, called + "/", seen, above, is_alias)


def _address(node: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(node.id).addr)


def _unreadable(obstacle: str) -> Entry:
    return Entry(None, lambda: (), obstacle)


def _dataset_entry(node: Any, path: Path, name: str, is_alias: bool) -> Entry:
    import h5py

    is_text = h5py.check_string_dtype(node.dtype) is not None
    load = node.asstr().__getitem__ if is_text else node.__getitem__
    obstacle = obstacle_of(node.dtype)
    if node.shape is None:
        obstacle = "is empty: it has no values"
    elif node.external:
        names = shorten([str(part[0]) for part in node.external])
        obstacle = f"keeps its values in other files ({names}): make it one file, as by h5repack"
    elif node.is_virtual:
        obstacle = _missing_source(node, path) or obstacle
    return Entry(
        node.shape or (),
        lambda: native(load(())),
        obstacle,
        rows=lambda ids: Hdf5Rows(path, name, ids),
        is_alias=is_alias,
    )


def _missing_source(node: Any, path: Path, depth: int = 0) -> str | None:
    """Say which source of a virtual dataset is missing, which HDF5 reads as zeros; None if none."""
    import h5py

    n_mapped = 0
    for source in node.virtual_sources():
        n_mapped += source.vspace.get_select_npoints()
        there = path if source.file_name == "." else path.parent / source.file_name
        where = f"{source.file_name}::{source.dset_name.lstrip('/')}"
        lacks = (
            f"is a virtual dataset, and of its sources {where} is not there, whose values HDF5 "
            "would read as zeros: put it back, or write the values into one file"
        )
        if not there.is_file() or depth > _NESTED_AT_MOST:
            return lacks
        with h5py.File(there, "r") as file:
            held = file.get(source.dset_name)
            if not isinstance(held, h5py.Dataset):
                return lacks
            extent = source.src_space.get_simple_extent_dims()
            # A source that is mapped whole is stored without its extent.
            needed = extent or (source.vspace.get_select_npoints(),)
            own = held.shape if extent else (held.size,)
            if len(own) != len(needed) or any(a < b for a, b in zip(own, needed, strict=True)):
                return lacks.replace("is not there", f"has only the shape {held.shape}")
            if held.is_virtual and (inner := _missing_source(held, there, depth + 1)):
                return inner
    if n_mapped < prod(node.shape):
        return "is a virtual dataset that has no source for a part of its values"
    return None


FORMAT = FileFormat(
    suffixes=(".h5", ".hdf5"), open=_open, in_parts=True, has_layers=True, keeps_order=False
)
