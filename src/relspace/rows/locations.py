"""Locations of files: paths and URLs, errors that name them, and what an output may overwrite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from relspace._core.files import check_writable
from relspace.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    MissingDependencyError,
    RelspaceError,
    reason_of,
)

#: Local files and folders, and URLs.
Locations = tuple[str | Path, ...]


@runtime_checkable
class Located(Protocol):
    """A source of rows or of items, which knows its files; tasks of Dask may hold one."""

    def locations(self) -> Locations:
        """The files, folders and URLs that it reads."""


def is_url(path: str | Path) -> bool:
    """Whether a location is a URL for fsspec, not a path."""
    return isinstance(path, str) and "://" in path


def located(path: str | Path) -> str | Path:
    """Return a URL as text, and a path or a ``file://`` URL as a Path."""
    if isinstance(path, str) and path.startswith("file://"):
        return Path(path.removeprefix("file://"))
    return path if is_url(path) else Path(path)


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, with an empty cache, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise missing_file_system(url, error) from error
    system.invalidate_cache()
    return system, path


def missing_file_system(path: str | Path, error: ImportError) -> MissingDependencyError:
    """Return the error for a URL whose file system needs a package that is not installed."""
    return MissingDependencyError(
        f"{path} lies where fsspec needs a package to reach it ({str(error).rstrip('.')}): pip "
        "install s3fs for s3://, gcsfs for gs://, aiohttp for http:// and https://."
    )


@contextmanager
def reading(path: str | Path, kind: str | None = None) -> Iterator[None]:
    """Turn the errors of a parser, which may be of any type, into a FileFormatError with the path.

    ``kind`` is the format that errors name, by default the suffix.
    """
    try:
        yield
    except RelspaceError as error:
        if Path(path).name in error.message:
            raise
        raise error.about(str(path)) from error
    except MemoryError:
        raise
    except ImportError as error:
        raise missing_file_system(path, error) from error
    except Exception as error:
        if isinstance(error, FileNotFoundError) and kind == "Zarr":
            raise FileFormatError(f"there is no Zarr array or group at {path}.") from error
        raise FileFormatError(
            f"{path} can't be read as {kind or Path(path).suffix}; it may be cut off, corrupt or "
            f"another format ({reason_of(error)})."
        ) from error


def locations_of_array(array: object) -> Locations:
    """Return the files of a memory map, an HDF5 or Zarr array, or the sources of a Dask array."""
    library = type(array).__module__.partition(".")[0]
    if library == "numpy":
        return tuple(_mapped_files(array))
    if library == "h5py":
        return tuple(_files_of_hdf5(array))
    if library == "zarr":
        return tuple(_store_of_zarr(array))
    if library == "dask":
        return tuple(one for leaf in _leaves_of_dask(array) for one in _locations_of_leaf(leaf))
    return ()


def refuse_inputs(path: str | Path, inputs: Iterable[str | Path], *, called: str = "out") -> None:
    """Refuse an output that is one of the inputs, contains one, or lies in one.

    ``called`` is the name of the output in errors.
    """
    for one in inputs:
        relation = _relation(path, one)
        if relation is not None:
            which = "one of the inputs" if relation == "is" else f"{str(one)!r}, one of the inputs"
            raise InvalidInputError(
                f"{called} is {str(path)!r}, which {relation} {which}.",
                ways_out=["name another output"],
            )


def check_new_file(
    path: object,
    *,
    what: str,
    endings: Sequence[str],
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    called: str = "out",
) -> Path:
    """Refuse, before any work, a file that can't be written, has another ending, or is an input.

    ``what`` it holds ("a space") and what it is ``called`` (an argument or option) is for errors.
    """
    wanted = f"{what} is a file that ends in {' or '.join(endings)}"
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise InvalidTypeError(f"{called} is {path!r}; {wanted}.")
    found, file = f"{called} is {str(path)!r}", Path(path)
    if file.suffix.lower() not in endings:
        raise InvalidInputError(f"{found}; {wanted}.")
    try:
        is_folder, exists = file.is_dir(), file.exists()
    except OSError as error:
        raise InvalidInputError(f"{found}, which can't be written ({error.strerror}).") from error
    if is_folder:
        raise InvalidInputError(f"{found}, a folder; name a file for {what}.")
    refuse_inputs(path, inputs, called=called)
    try:
        check_writable(file)
    except OSError as error:
        raise InvalidInputError(f"{found}, which {error.strerror}.") from error
    if exists and not overwrite:
        raise InvalidInputError(
            f"{found}, which exists.",
            ways_out=["overwrite it with {overwrite=True}", "name another file"],
        )
    return file


def refuse_shared(outputs: Mapping[str, str | Path]) -> None:
    """Refuse outputs, by name, of which one is the same as another, contains it or lies in it."""
    names = list(outputs)
    for number, name in enumerate(names):
        for other in names[:number]:
            if (relation := _relation(outputs[name], outputs[other])) is not None:
                raise InvalidInputError(
                    f"the output of {name!r}, {str(outputs[name])!r}, {relation} that of "
                    f"{other!r}, {str(outputs[other])!r}.",
                    ways_out=["give each an output of its own"],
                )


def _relation(path: str | Path, other: str | Path) -> str | None:
    """How two locations overlap: "is", "holds", "lies in", or None where they don't."""
    first, second = located(path), located(other)
    if isinstance(first, Path) and isinstance(second, Path):
        if first.exists() and second.exists() and first.samefile(second):
            return "is"
        parts, others = first.resolve().parts, second.resolve().parts
    elif isinstance(first, str) and isinstance(second, str):
        parts, others = _parts_of_url(first), _parts_of_url(second)
    else:
        return None
    if parts == others:
        return "is"
    if others[: len(parts)] == parts:
        return "holds"
    return "lies in" if parts[: len(others)] == others else None


def _parts_of_url(url: str) -> tuple[str, ...]:
    scheme, _, rest = url.partition("://")
    return (scheme, *(part for part in rest.split("/") if part))


def _mapped_files(array: object) -> Iterator[Path]:
    import numpy as np

    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            yield Path(array.filename)
            return
        array = array.base


def _files_of_hdf5(dataset: Any) -> Iterator[Path]:
    path = Path(dataset.file.filename)
    yield path
    elsewhere = [one.file_name for one in dataset.virtual_sources()] if dataset.is_virtual else []
    elsewhere += [one[0] for one in dataset.external or ()]
    # "." is the file itself; other names are relative to its folder.
    yield from (path.parent / one for one in dict.fromkeys(elsewhere) if one != ".")


def _store_of_zarr(array: Any) -> Iterator[str | Path]:
    from zarr.storage import FsspecStore, LocalStore, ZipStore

    store = array.store
    if isinstance(store, LocalStore):
        yield store.root
    elif isinstance(store, ZipStore):
        yield Path(store.path)
    elif isinstance(store, FsspecStore):
        protocols = store.fs.protocol
        names = (protocols,) if isinstance(protocols, str) else protocols
        local = "file" in names or "local" in names
        yield Path(store.path) if local else f"{names[0]}://{store.path.lstrip('/')}"


def _leaves_of_dask(array: Any) -> Iterator[object]:
    """The objects in the tasks of a Dask array, without running them."""
    from dask._task_spec import DataNode, Task
    from dask.blockwise import Blockwise
    from dask.highlevelgraph import MaterializedLayer

    for layer in array.__dask_graph__().layers.values():
        held: list[object] = []
        if isinstance(layer, Blockwise):
            held = [one for one, index in layer.indices if index is None]
        elif isinstance(layer, MaterializedLayer):
            held = list(layer.mapping.values())
        for node in held:
            parts = node.args if isinstance(node, Task) else (node,)
            yield from (one.value if isinstance(one, DataNode) else one for one in parts)


def _locations_of_leaf(leaf: object) -> Locations:
    if isinstance(leaf, Located):
        return leaf.locations()
    # Objects of Dask are references to other tasks.
    return () if type(leaf).__module__.startswith("dask") else locations_of_array(leaf)
