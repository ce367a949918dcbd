"""Objects that are saved in one safetensors file, and loaded to the bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch

from relspace._core.archive import read_archive, write_archive
from relspace._core.arguments import check_count, check_path
from relspace.errors import FileFormatError, InvalidInputError
from relspace.rows.locations import located, reading, refuse_inputs

_S = TypeVar("_S", bound="Saved")

#: Version of the files of :class:`Saved`; those without one are of version 1.
FORMAT_VERSION = 1


class Saved(ABC):
    """Base of objects that are saved in one safetensors file with a checksum."""

    #: The kind of object, which the file names.
    _kind: ClassVar[str]
    #: Tensors, by the last part of their names, that may hold infinity.
    _may_be_infinite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The content of the file: tensors, and plain values beside them."""

    @classmethod
    @abstractmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        """Check the content of a file, and restore the object."""

    def _read_from(self) -> Iterable[str | Path]:
        """Files that results are read from, which the saved file must not overwrite."""
        return ()

    def save(self, path: str | Path) -> Path:
        """Write it into one safetensors file, completely or not at all.

        Results that were written by ``out`` are not part of it.

        Parameters
        ----------
        path : str or Path
            The file; one that exists is replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InvalidInputError
            If the file is one that results are read from.
        """
        tensors, metadata = self._stored()
        refuse_inputs(path, self._read_from(), called="path")
        return write_archive(
            path, self._kind, tensors, {"format_version": FORMAT_VERSION, **metadata}
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load what :meth:`save` wrote, to the bit, on the CPU.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FileFormatError
            If it is damaged, holds something else, or comes from a later version.
        """
        return load_saved(path, cls)


def load_saved(path: str | Path, *classes: type[_S]) -> _S:
    """Read a file that one of these classes saved."""
    check_path(path)
    file = located(path)
    if not isinstance(file, Path):
        raise InvalidInputError(f"{path} is a URL; what was saved is read from a local file.")
    of_kind = {one._kind: one for one in classes}
    infinite = {name for one in classes for name in one._may_be_infinite}
    tensors, metadata = read_archive(file, *of_kind, may_be_infinite=infinite)
    with reading(path, f"a saved {classes[0].__name__}"):
        version = check_count(metadata.get("format_version", 1), "format_version")
        if version > FORMAT_VERSION:
            raise FileFormatError(
                f"{path} has format version {version}; this relspace reads up to "
                f"{FORMAT_VERSION}: install a newer one."
            )
        return of_kind[metadata["kind"]]._restored(tensors, metadata)
