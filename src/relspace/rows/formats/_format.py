"""What each file format holds: named entries whose shapes are known before they are loaded."""

from __future__ import annotations

import csv
import json
import zipfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from relspace._core.arrays import readable
from relspace._core.labelled_tables import ID_COLUMNS
from relspace._core.validation import ids_of_text, say_count
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
)
from relspace.rows.id_files import ids_file_of, read_ids
from relspace.rows.parquet import ParquetRows

# The entry that a file without keys (.npy, .csv, .parquet, one tensor in a .pt) holds.
ONLY = ""
# So deep virtual datasets of virtual datasets are followed.
_NESTED_AT_MOST = 8
# The entry that item ids are read from unless another one is named.
IDS = "ids"

# Types of tensors that safetensors files hold, as these name them, that are read as they stand.
_READ_FROM_SAFETENSORS = {
    *("F16", "BF16", "F32", "F64"),
    *("U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"),
}


@dataclass(frozen=True)
class Entry:
    """One array of a file: its shape, how to load it, and why it can't be features, if so.

    ``rows`` reads a part of it, where the way to do so was found out on opening. ``feature_names``
    are those of the columns of a table. An alias is
    another name of an entry: it is found, and never chosen by itself. Where an entry may be a
    matrix and it can't be said, its shape is None: then none is chosen without a key.
    """

    shape: tuple[int, ...] | None
    load: Callable[[], NDArray[Any] | Tensor | Sequence[object]]
    obstacle: str | None = None
    rows: ParquetRows | None = None
    feature_names: tuple[str, ...] | None = None
    is_alias: bool = False

    @property
    def is_other(self) -> bool:
        """Whether it holds something else than numbers, such as text, and was not meant as some."""
        return self.obstacle == _NO_NUMBERS


Entries = Mapping[str, Entry]


@dataclass(frozen=True)
class FileFormat:
    """How files with a suffix are opened, and whether their ids are a column of a table."""

    open: Callable[[Path, str | None], AbstractContextManager[Entries]]
    is_table: bool = False


_NO_NUMBERS = "holds no integers or floats of 8 to 64 bits, which features must be"
_PICKLED_ARRAY = (
    "is an array of Python objects, which only unpickling can read, and unpickling can run any "
    "code: save it again as numbers or text, array.astype(float) or array.astype(str)"
)


def _obstacle(dtype: np.dtype[Any]) -> str | None:
    if dtype.hasobject:
        return _PICKLED_ARRAY
    is_real = dtype.kind in "iuf" and dtype.itemsize <= 8
    return None if is_real else _NO_NUMBERS


def _native(values: NDArray[Any]) -> NDArray[Any]:
    # torch takes no array in the other byte order.
    if values.dtype.isnative:
        return values
    return values.astype(values.dtype.newbyteorder("="))


def _npy_header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(stream)
    return shape, dtype


@contextmanager
def _open_npy(path: Path, id_column: str | None) -> Iterator[Entries]:
    with path.open("rb") as stream:
        shape, dtype = _npy_header(stream)
    entries = {
        ONLY: Entry(
            shape, lambda: _native(np.lib.format.open_memmap(path, mode="c")), _obstacle(dtype)
        )
    }
    if shape and ids_file_of(path).is_file():
        entries[IDS] = Entry(shape[:1], lambda: read_ids(path, shape[0]) or (), _NO_NUMBERS)
    yield entries


@contextmanager
def _open_npz(path: Path, id_column: str | None) -> Iterator[Entries]:
    # zipfile, not numpy.load, because the headers tell the shapes without loading the arrays.
    with zipfile.ZipFile(path) as archive:

        def entry(member: zipfile.ZipInfo) -> Entry:
            with archive.open(member) as stream:
                shape, dtype = _npy_header(stream)
            # A header may claim more than the file has; nothing may be allocated for it then.
            if not dtype.hasobject and dtype.itemsize * prod(shape) > member.file_size:
                raise ValueError(f"{member.filename} is shorter than its header says")

            def load() -> NDArray[Any]:
                if dtype.hasobject:
                    raise FileFormatError(f"{path}::{_member_key(member)} {_PICKLED_ARRAY}")
                with archive.open(member) as stream:
                    values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
                return _native(values)

            return Entry(shape, load, _obstacle(dtype))

        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        _refuse_twice(path, "entries", [_member_key(info) for info in members])
        yield {_member_key(info): entry(info) for info in members}


def _refuse_twice(path: Path, what: str, names: Sequence[str]) -> None:
    twice = [f"{name!r}" for name, count in Counter(names).items() if count > 1]
    if twice:
        raise FileFormatError(
            f"{path} has several {what} of one name, {shorten(twice)}, which can't be told apart: "
            "give each its own name."
        )


def _member_key(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _tensor_entry(tensor: Tensor) -> Entry:
    # A nested tensor has no shape.
    shape = (len(tensor.unbind()),) if tensor.is_nested else tuple(tensor.shape)
    try:
        readable(tensor.detach()[:0] if tensor.layout is torch.strided and shape else tensor, "")
    except InvalidTypeError as error:
        return Entry(shape, tensor.detach, str(error).strip().rstrip("."))
    return Entry(shape, lambda: readable(tensor.detach(), "the tensor"))


def _list_entry(values: Sequence[object]) -> Entry:
    return Entry((len(values),), lambda: values, _NO_NUMBERS)


@contextmanager
def _open_pt(path: Path, id_column: str | None) -> Iterator[Entries]:
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
        yield {ONLY: _tensor_entry(content)}
    elif isinstance(content, Mapping):
        entries = {}
        for key, value in content.items():
            if isinstance(value, Tensor):
                entries[str(key)] = _tensor_entry(value)
            elif isinstance(value, list | tuple):
                entries[str(key)] = _list_entry(value)
        yield entries
    else:
        raise FileFormatError(
            f"{path} holds a {type(content).__name__}: save a tensor or a dictionary of tensors"
        )


@contextmanager
def _open_safetensors(path: Path, id_column: str | None) -> Iterator[Entries]:
    with safe_open(path, framework="pt") as file:
        entries = {}
        for key in file.keys():  # noqa: SIM118 - the file handle is no mapping
            part = file.get_slice(key)
            kind = part.get_dtype()
            obstacle = None if kind in _READ_FROM_SAFETENSORS else _obstacle_of_tensor(kind)
            entries[key] = Entry(tuple(part.get_shape()), _tensor_loader(file, key), obstacle)
        # Tensors hold no text, so text ids travel as a JSON list in the metadata.
        metadata = file.metadata() or {}
        if IDS in metadata and IDS not in entries:
            ids = json.loads(metadata[IDS])
            if not isinstance(ids, list):
                raise FileFormatError(f'{path}: the metadata entry "{IDS}" must be a JSON list')
            entries[IDS] = _list_entry(ids)
        yield entries


def _tensor_loader(file: Any, key: str) -> Callable[[], Tensor]:
    return lambda: readable(file.get_tensor(key), key)


def _obstacle_of_tensor(kind: str) -> str:
    if kind.startswith(("F8", "F6", "F4")):
        return (
            f"holds values of type {kind}, floats of few bits, which are numbers only together "
            "with their scale: convert them by tensor.to(torch.float32), multiply them by their "
            "scale if any, and save them again"
        )
    if kind == "BOOL":
        return "holds values of type BOOL: save 0 and 1 as numbers, tensor.float()"
    return f"holds values of type {kind}, which are no real numbers"


def _missing(package: str, suffix: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"reading {suffix} files needs {package}, which is not installed: "
        'pip install "relspace[files]"'
    )


@contextmanager
def _open_hdf5(path: Path, id_column: str | None) -> Iterator[Entries]:
    try:
        import h5py
    except ImportError as error:
        raise _missing("h5py", path.suffix) from error
    with h5py.File(path, "r") as file:
        yield dict(_entries_of_group(file, path, "", {_address(file)}, (), False))


def _entries_of_group(
    group: Any, path: Path, prefix: str, seen: set[int], above: tuple[int, ...], is_alias: bool
) -> Iterator[tuple[str, Entry]]:
    """The datasets of a group and of those in it, each once, and links to them by their names.

    Links can lead back to where they lie: ``seen`` holds the addresses of what was found, and
    ``above`` those of the groups that lead here.
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
                yield called, _dataset_entry(node, path, is_alias=True)
            elif isinstance(node, h5py.Group) and address not in above and not is_alias:
                yield from _entries_of_group(node, path, called + "/", {address}, above, True)
        elif address not in seen:
            seen.add(address)
            if isinstance(node, h5py.Dataset):
                yield called, _dataset_entry(node, path, is_alias=is_alias)
            elif isinstance(node, h5py.Group):
                yield from _entries_of_group(node, path, called + "/", seen, above, is_alias)


def _address(node: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(node.id).addr)


def _unreadable(obstacle: str) -> Entry:
    return Entry(None, lambda: (), obstacle)


def _dataset_entry(node: Any, path: Path, is_alias: bool) -> Entry:
    import h5py

    is_text = h5py.check_string_dtype(node.dtype) is not None
    load = node.asstr().__getitem__ if is_text else node.__getitem__
    obstacle = _obstacle(node.dtype)
    if node.shape is None:
        obstacle = "is empty: it has no values"
    elif node.external:
        names = shorten([str(part[0]) for part in node.external])
        obstacle = f"keeps its values in other files ({names}): make it one file, as by h5repack"
    elif node.is_virtual:
        obstacle = _missing_source(node, path) or obstacle
    return Entry(node.shape or (), lambda: _native(load(())), obstacle, is_alias=is_alias)


def _missing_source(node: Any, path: Path, depth: int = 0) -> str | None:
    """What a virtual dataset lacks, which HDF5 reads as zeros; None if everything is there."""
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


def _is_number(cell: str) -> bool:
    """Whether a cell is a number as other programs write it; Python's float() takes more."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _split_columns(
    path: Path, names: Sequence[str], id_column: str | None
) -> tuple[int | None, list[int]]:
    """Tell which column of a table holds the ids and which hold features."""
    reserved = [i for i, name in enumerate(names) if name.casefold() in ID_COLUMNS]
    found = reserved
    if id_column is not None:
        found = [i for i, name in enumerate(names) if name == id_column]
        if not found:
            raise InvalidInputError(
                f"{path} has no column {id_column!r} to read ids from; its columns are "
                f"{shorten([repr(name) for name in names])}"
            )
    if len(found) > 1:
        listed = ", ".join(repr(names[i]) for i in found)
        raise InvalidInputError(
            f"{path} has {len(found)} columns that could hold the ids ({listed}): "
            "name one as the id column, or rename the others"
        )
    columns = [i for i in range(len(names)) if i not in {*reserved, *found}]
    if not columns:
        raise FileFormatError(f"{path} has no columns of features beside its ids")
    for i in columns:
        # pandas writes the index of its frames like this; as a feature it would be noise.
        if names[i] in ("", "__index_level_0__"):
            raise FileFormatError(
                f"{path}: column {i + 1} is a data frame's index, not a feature: name it as the "
                f"id column ({names[i]!r}), or write the file without index"
            )
    return (found[0] if found else None), columns


def _table(
    ids: Sequence[object] | None, features: NDArray[Any], names: tuple[str, ...] | None
) -> Entries:
    entries = {ONLY: Entry(features.shape, lambda: features, feature_names=names)}
    if ids is not None:
        entries[IDS] = _list_entry(ids)
    return entries


@contextmanager
def _open_csv(path: Path, id_column: str | None, *, delimiter: str = ",") -> Iterator[Entries]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = reader = csv.reader(stream, delimiter=delimiter)
        first = next((row for row in rows if row), None)
        if first is None:
            raise FileFormatError(f"{path} is empty: it has no lines with values")
        if len(first) > 1 and first == [str(i) for i in range(len(first))]:
            raise FileFormatError(
                f"{path}: the first line is 0, 1, 2, ..., which could be data or the numbers of "
                "the columns: give the columns names"
            )
        names = first
        is_named = not all(_is_number(cell) for cell in first)
        if not is_named:
            names = [f"column {i + 1}" for i in range(len(first))]
            rows = chain([first], rows)  # type: ignore[assignment]
        id_index, columns = _split_columns(path, names, id_column)
        ids: list[str] = []
        values = array("d")
        n_rows = 0
        for row in rows:
            if not row:
                continue
            n_rows += 1
            if len(row) != len(names):
                raise FileFormatError(
                    f"{path}, line {reader.line_num}: {say_count(len(row), 'cell')} where "
                    f"{len(names)} are expected; cells are separated by "
                    + ("commas" if delimiter == "," else "tabs")
                )
            cells = [row[i] for i in columns]
            try:
                # float() takes digits of any script, and underscores between them.
                if not (joined := "".join(cells)).isascii() or "_" in joined:
                    raise ValueError("no number of ASCII digits")
                values.extend(map(float, cells))
            except ValueError as error:
                wrong = [i for i in columns if not _is_number(row[i])]
                raise FileFormatError(
                    f"{path}, line {reader.line_num}: {row[wrong[0]][:40]!r} is no number, in "
                    f"{shorten([repr(names[i]) for i in wrong])}: leave columns without numbers "
                    "out, or name the one that holds the ids as the id column"
                ) from error
            if id_index is not None:
                ids.append(row[id_index])
    features = np.frombuffer(values, dtype=np.float64).reshape(n_rows, len(columns))
    yield _table(
        None if id_index is None else ids_of_text(ids),
        features,
        tuple(names[i] for i in columns) if is_named else None,
    )


@contextmanager
def _open_parquet(path: Path, id_column: str | None) -> Iterator[Entries]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _missing("pyarrow", path.suffix) from error
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = schema.names
        _refuse_twice(path, "columns", names)
        id_index, columns = _split_columns(path, names, id_column)
        wrong = [
            f"{names[i]!r} ({kind})"
            for i, kind in ((i, schema.types[i]) for i in columns)
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind))
        ]
        if wrong:
            raise FileFormatError(
                f"{path} has columns that hold no numbers: {shorten(wrong)}: leave them "
                "out, or name the one that holds the ids as the id column"
            )
        ids = None
        if id_index is not None:
            ids = file.read(columns=[names[id_index]]).column(0).to_pylist()
    rows = ParquetRows(path, [names[i] for i in columns])
    entries = {
        ONLY: Entry(
            rows.shape,
            lambda: rows.read_array(0, rows.shape[0]),
            rows=rows,
            feature_names=rows.feature_names,
        )
    }
    yield entries | ({} if ids is None else {IDS: _list_entry(ids)})


def shorten(names: Sequence[str], limit: int = 8) -> str:
    """Join the first names of a list and say how many are left."""
    n_left = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {n_left} more" if n_left > 0 else "")


FORMATS: Mapping[str, FileFormat] = {
    ".npy": FileFormat(_open_npy),
    ".npz": FileFormat(_open_npz),
    ".pt": FileFormat(_open_pt),
    ".pth": FileFormat(_open_pt),
    ".safetensors": FileFormat(_open_safetensors),
    ".h5": FileFormat(_open_hdf5),
    ".hdf5": FileFormat(_open_hdf5),
    ".csv": FileFormat(_open_csv, is_table=True),
    ".tsv": FileFormat(partial(_open_csv, delimiter="\t"), is_table=True),
    ".parquet": FileFormat(_open_parquet, is_table=True),
}
