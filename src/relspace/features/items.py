"""Items of an extraction, images or texts, and their identity."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relspace._core.arguments import name_some
from relspace._core.items import ItemId, as_ids
from relspace._core.pairing import ItemContents
from relspace._core.progress import Listener, silent
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError, RelspaceWarning
from relspace.features.image_files import is_image_file
from relspace.features.images import ImageCollection, open_images
from relspace.features.loader import thread_count
from relspace.rows.identity import Identity, combine, hash_ids, hash_texts, identify_file

# Digests of 128 bits, as hexadecimal digits.
_DIGITS = 32
# Parts of a file's identity that are compared when it is loaded.
_STAMP = ("size", "mtime_ns")


class BlankLinesWarning(RelspaceWarning):
    """Blank lines of a text file are not items, so that items and lines have other numbers."""


@dataclass(frozen=True)
class Items:
    """Images or texts, which are loaded one by one.

    ``load(position)`` returns an item, and ``identify(position)`` its identity, if it can be
    identified. ``names`` are the items' names in messages: ids, rows, or lines of a file. ``of`` is
    the kind of content that is hashed (:class:`relspace._core.pairing.ItemContents`), and ``lines``
    are the line numbers of texts in a file, from 1.
    """

    ids: tuple[ItemId, ...] | None
    load: Callable[[int], Any]
    names: tuple[str, ...]
    of: str
    identify: Callable[[int], Identity] | None
    lines: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class IdentifiedItems:
    """Items with the identity of all, in their order, and the digest of each.

    Both are unknown if one of the items can't be identified. Loading an image file that has changed
    since then is an error.
    """

    items: Items
    identity: Identity
    contents: ItemContents | None

    def ids_digest(self) -> str:
        """Return the digest of the ids; empty if there are none."""
        return hash_ids(self.items.ids)[:_DIGITS]


def open_items(modality: str, items: object, ids: Sequence[ItemId] | None) -> Items:
    """Open images or texts (``modality``)."""
    return _open_texts(items, ids) if modality == "text" else _open_images(items, ids)


def identify_items(
    items: Items, *, n_threads: int | None = None, tell: Listener = silent
) -> IdentifiedItems:
    """Hash the content of all items; files are hashed by several threads."""
    if items.identify is None:
        reason = "images that are loaded by a function of your own"
        return IdentifiedItems(items, Identity.unidentified(reason), None)
    found: list[Identity] = []
    for one in _identified(items, n_threads):
        if not one.is_known:
            reason = f"{items.names[len(found)]}: {one.detail.get('reason')}"
            return IdentifiedItems(items, Identity.unidentified(reason), None)
        found.append(one)
        tell(len(found), len(items), f"Identifying {items.of}")
    digests = tuple(one.digest[:_DIGITS] for one in found)
    whole = combine(found, of=items.of, shape=[len(items)])
    if isinstance(items.load, _FileLoader):
        stamps = np.array([[one.detail[key] for key in _STAMP] for one in found], dtype=np.int64)
        items = replace(items, load=replace(items.load, stamps=stamps, digests=digests))
    return IdentifiedItems(items, whole, ItemContents(items.of, digests))


def _identified(items: Items, n_threads: int | None) -> Iterator[Identity]:
    assert items.identify is not None
    if not isinstance(items.load, _FileLoader):
        yield from map(items.identify, range(len(items)))
        return
    with ThreadPoolExecutor(
        thread_count(n_threads), thread_name_prefix="relspace-identify"
    ) as pool:
        yield from pool.map(items.identify, range(len(items)))


def _open_images(images: object, ids: Sequence[ItemId] | None) -> Items:
    found = open_images(images, ids=ids)
    names = found.ids if found.named else tuple(f"row {name}" for name in found.ids)
    own_ids = (found.item_ids or found.ids) if found.named else None
    if found.files is not None:
        files = found.files
        load = _FileLoader(found, files)
        return Items(own_ids, load, names, "image files", lambda i: _identify_file(files[i]))
    return Items(own_ids, found.load, names, "images", found.identify)


@dataclass(frozen=True)
class _FileLoader:
    """Loads image files, and refuses those that were changed since they were identified."""

    collection: ImageCollection
    files: tuple[Path, ...]
    stamps: NDArray[np.int64] | None = None
    digests: tuple[str, ...] = ()

    def __call__(self, position: int) -> Any:
        if self.stamps is not None and self._is_changed(position, self.stamps[position]):
            raise InvalidInputError(
                f"{self.files[position]} was changed while features were extracted: run again."
            )
        return self.collection.load(position)

    def _is_changed(self, position: int, stamp: NDArray[np.int64]) -> bool:
        try:
            now = self.files[position].stat()
        except OSError:
            # Reading it raises a better error.
            return False
        if [now.st_size, now.st_mtime_ns] == stamp.tolist():
            return False
        # The file may have been touched only.
        return _identify_file(self.files[position]).digest[:_DIGITS] != self.digests[position]


def _identify_file(file: Path) -> Identity:
    try:
        return identify_file(file)
    except OSError as error:
        return Identity.unidentified(str(error))


def _open_texts(items: object, ids: Sequence[ItemId] | None) -> Items:
    lines: tuple[int, ...] | None = None
    if isinstance(items, str | Path):
        texts, lines = _read_lines(Path(items))
        names = tuple(f"line {line}" for line in lines)
    elif isinstance(items, Sequence) and all(isinstance(one, str) for one in items):
        texts = list(items)
        names = tuple(f"row {row}" for row in range(len(texts)))
        blank = [row for row, text in enumerate(texts) if not text.strip()]
        if blank:
            raise InvalidInputError(
                f"{len(blank)} of {len(texts)} texts are blank, in rows {name_some(blank)}: a "
                "model sees nothing in them; leave them out."
            )
    else:
        raise InvalidTypeError(
            f"texts are of type {type(items).__name__}; a text model takes a list of strings, or "
            "a text file with one text in each line."
        )
    if not texts:
        raise InvalidInputError("there are no texts.")
    if all(map(is_image_file, texts)):
        raise InvalidInputError(
            f"the texts are the names of image files, {name_some(texts)}; images are for models of "
            "images."
        )
    own_ids = None if ids is None else as_ids(ids, "texts", len(texts))
    names = names if own_ids is None else tuple(map(str, own_ids))
    return Items(
        own_ids, texts.__getitem__, names, "texts", lambda i: hash_texts([texts[i]]), lines
    )


def _read_lines(path: Path) -> tuple[list[str], tuple[int, ...]]:
    """The lines of a text file that are not blank, and their numbers from 1."""
    if path.is_dir():
        raise InvalidInputError(
            f"{path} is a folder; a text model takes a list of strings, or a text file with one "
            "text in each line."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no text file {path}; texts are a list of strings, or a file with one in "
            "each line."
        )
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{path} is no text in UTF-8 (byte {error.start}: {error.reason}): save it as UTF-8."
        ) from error
    # Only \n, \r\n and \r end a line; str.splitlines would cut at form feeds and others too.
    every = [line.removesuffix("\n") for line in io.StringIO(content, newline=None)]
    numbered = [(text, number) for number, text in enumerate(every, start=1) if text.strip()]
    texts, lines = [text for text, _ in numbered], tuple(number for _, number in numbered)
    n_blank = lines[-1] - len(lines) if lines else 0
    if n_blank:
        blank = sorted({*range(1, lines[-1])} - {*lines})
        warnings.warn(
            BlankLinesWarning(
                f"{n_blank} of {lines[-1]} lines of {path} are blank and are no items: lines "
                f"{name_some(blank)}. Features keep the numbers of their lines (FeatureSet.lines)."
            ),
            stacklevel=5,
        )
    return texts, lines
