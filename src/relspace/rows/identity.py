"""Identity of data by its content: hashes of arrays, files, folders, URLs and texts.

Earlier results are reused only if their input is known to be the same. Identity therefore fails
closed: data that can't be identified equals nothing, not even itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.items import ItemId
from relspace.errors import FileFormatError, InvalidTypeError
from relspace.rows.locations import file_system

if TYPE_CHECKING:
    from relspace.rows.source import RowSource

#: What an identity is derived from: values, files, objects at a URL, or nothing.
Kind = Literal["content", "file", "url", "unidentified"]

#: Files up to this size are hashed whole; larger ones by size, time and parts of their content.
WHOLE_FILE_BYTES = 2**30
#: Objects at a URL without an etag are downloaded and hashed up to this size.
WHOLE_OBJECT_BYTES = 2**26
_BLOCK_BYTES = 2**22
_PARTS_OF_A_FILE = 64
_BYTES_OF_A_PART = 2**20
_THREADS_AT_MOST = 4
# Keys under which file systems give a version that changes with an object's content.
_VERSIONS = ("etag", "e_tag", "md5", "md5hash", "content_md5", "content-md5", "crc32c")
_VERSIONS_BESIDE = ("generation", "versionid", "version_id")
_Block = memoryview | Callable[[], bytes]
_NAMES = {
    "kind": "kind of storage",
    "shape": "shape",
    "dtype": "dtype",
    "entry": "entry",
    "n_files": "number of files",
    "size": "size",
    "mtime_ns": "modification time",
    "version": "version at the URL",
}


@dataclass(frozen=True)
class Identity:
    """The identity of data.

    Attributes
    ----------
    kind : {"content", "file", "url", "unidentified"}
        The data that it is derived from.
    digest : str
        Equal for equal data; empty for data that can't be identified.
    detail : mapping
        Plain values, such as ``shape``, ``size`` or ``mtime_ns``, by which errors say what changed;
        for data that can't be identified, the ``reason``.

    Examples
    --------
    >>> import numpy as np
    >>> before, now = hash_array(np.zeros(3)), hash_array(np.array([0.0, 0.0, 1.0]))
    >>> before.same_as(now), what_changed(before, now)
    (False, ['values'])
    """

    kind: Kind
    digest: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def unidentified(cls, reason: str) -> Identity:
        """Return the identity of data that can't be identified, and why."""
        return cls("unidentified", "", {"reason": reason})

    @property
    def is_known(self) -> bool:
        """Whether the data is identified."""
        return self.kind != "unidentified"

    def same_as(self, other: Identity) -> bool:
        """Whether both are known to be the same data."""
        return self.is_known and (self.kind, self.digest) == (other.kind, other.digest)

    def is_known_to_differ_from(self, other: Identity) -> bool:
        """Whether both are known to be different data."""
        return self.is_known and self.kind == other.kind and self.digest != other.digest

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "digest": self.digest, "detail": dict(self.detail)}

    @classmethod
    def of(cls, record: object) -> Identity:
        """Return the identity of a record; unidentified if it is no valid record."""
        if (
            isinstance(record, Mapping)
            and record.get("kind") in ("content", "file", "url")
            and isinstance(record.get("digest"), str)
            and record["digest"]
            and isinstance(record.get("detail"), Mapping)
        ):
            return cls(record["kind"], record["digest"], dict(record["detail"]))
        if isinstance(record, Mapping) and record.get("kind") == "unidentified":
            return cls("unidentified", "", dict(record.get("detail") or {}))
        return cls.unidentified("it was written without an identity")

    def with_detail(self, **detail: Any) -> Identity:
        """Return it with more detail, which is part of the identity."""
        if not self.is_known:
            return Identity(self.kind, "", {**self.detail, **detail})
        digest = _digest_of([self.digest, json.dumps(detail, sort_keys=True)])
        return Identity(self.kind, digest, {**self.detail, **detail})


def what_changed(before: Identity, now: Identity) -> list[str]:
    """Name what differs between two identities, such as ``["size"]``; empty if nothing does."""
    for one in (before, now):
        if not one.is_known:
            return [f"unknown, for it can't be identified: {one.detail.get('reason')}"]
    if before.same_as(now):
        return []
    found = {"kind": before.kind, **before.detail}
    asked = {"kind": now.kind, **now.detail}
    names = [name for name in _NAMES if found.get(name) != asked.get(name)]
    # Modification times are compared only where not all of the content was hashed.
    whole = "parts" not in (before.detail.get("hashed"), now.detail.get("hashed"))
    if whole and "mtime_ns" in names:
        names.remove("mtime_ns")
    if parts := _changed_parts(before.detail.get("parts"), now.detail.get("parts")):
        return [*[_NAMES[name] for name in names if name in ("kind", "shape", "dtype")], parts]
    return [_NAMES[name] for name in names] or ["values"]


def combine(identities: Sequence[Identity], **detail: Any) -> Identity:
    """Return the identity of several parts in their order; unknown if that of a part is.

    ``detail`` are plain values that are part of the identity.
    """
    for number, one in enumerate(identities):
        if not one.is_known:
            return Identity.unidentified(f"part {number}: {one.detail.get('reason')}")
    kinds = {one.kind for one in identities}
    kind: Kind = next((one for one in ("url", "file") if one in kinds), "content")
    digest = _digest_of([f"{one.kind}:{one.digest}" for one in identities])
    # To say which part changed, unless there are very many.
    parts = [one.digest[:16] for one in identities] if len(identities) <= 1024 else None
    return Identity(kind, digest, {"parts": parts}).with_detail(**detail)


def hash_array(array: NDArray[Any] | torch.Tensor) -> Identity:
    """Hash the shape, type and values of an array or a dense tensor, in any memory layout.

    An array and a tensor of the same type and values have the same identity.
    """
    if isinstance(array, torch.Tensor) and (array.layout != torch.strided or array.is_quantized):
        raise InvalidTypeError(
            f"a tensor of layout {array.layout} and type {array.dtype} can't be hashed; give a "
            "dense one."
        )
    n_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    step = max(1, 8 * _BLOCK_BYTES // n_bytes)
    n = len(array) if array.ndim else 1
    flat = array if array.ndim else array.reshape(1)
    pieces = (flat[start : start + step] for start in range(0, n, step))
    return _hash_values(tuple(array.shape), _name_of(array.dtype), pieces)


def hash_rows(source: RowSource) -> Identity:
    """Hash all rows of a source in blocks; the result is that of :func:`hash_array`."""
    n, width = source.shape
    chunk = source.chunk_rows
    step = max(1, 8 * _BLOCK_BYTES // (width * source.dtype.itemsize))
    step = max(chunk, step - step % chunk)
    pieces = (source.read(start, min(n, start + step)) for start in range(0, n, step))
    return _hash_values((n, width), _name_of(source.dtype), pieces)


def hash_texts(texts: Sequence[str]) -> Identity:
    """Hash texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return Identity("content", digest.hexdigest(), {"shape": [len(texts)], "dtype": "texts"})


def hash_ids(ids: Sequence[ItemId] | None) -> str:
    """Return a digest of ids in their order; 1 and "1" are different ones."""
    if ids is None:
        return ""
    return _digest_of([f"{'s' if isinstance(one, str) else 'i'}{one}" for one in ids])


def identify_file(path: str | Path, entry: object = None) -> Identity:
    """Return the identity of a file; ``entry`` is the part of it that is read, such as a dataset.

    Of a file up to :data:`WHOLE_FILE_BYTES` (1 GiB) the whole content is hashed. Of a larger one
    name, size, modification time and 64 MiB of the content, spread over the file, are: it is
    another file when it was copied or touched.
    """
    file = Path(path)
    before = file.stat()
    size, mtime_ns = before.st_size, before.st_mtime_ns
    whole = size <= WHOLE_FILE_BYTES
    digest = _hash_bytes(_file_blocks(file, _spans(size, whole=whole)), ["file", str(size)])
    after = file.stat()
    if (after.st_size, after.st_mtime_ns) != (size, mtime_ns):
        raise FileFormatError(f"{file} is being written: wait until it is complete.")
    if not whole:
        digest = _digest_of([digest, file.name, str(mtime_ns)])
    detail = {"size": size, "mtime_ns": mtime_ns, "hashed": "whole" if whole else "parts"}
    found = Identity("file", digest, detail)
    return found if entry is None else found.with_detail(entry=entry)


def identify_folder(folder: str | Path) -> Identity:
    """Return the identity of all files in a folder, by their relative names and content.

    If they have more than 1 GiB together, files beyond 64 KiB are identified by size and
    modification time.
    """
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    stats = [path.stat() for path in paths]
    size = sum(one.st_size for one in stats)
    whole = size <= WHOLE_FILE_BYTES

    def digest_of(path: Path, stat: os.stat_result) -> str:
        if whole or stat.st_size <= 2**16:
            return identify_file(path).digest
        return f"{stat.st_size} {stat.st_mtime_ns}"

    with ThreadPoolExecutor(_n_threads(), thread_name_prefix="relspace reads files") as pool:
        told = list(pool.map(digest_of, paths, stats))
    names = [path.relative_to(root).as_posix() for path in paths]
    digests = [part for pair in zip(names, told, strict=True) for part in pair]
    newest = max((one.st_mtime_ns for one in stats), default=0)
    detail = {
        "n_files": len(paths),
        "size": size,
        "mtime_ns": newest,
        "hashed": "whole" if whole else "parts",
    }
    return Identity("file", _digest_of(digests), detail)


def identify_url(url: str) -> Identity:
    """Return the identity of an object at a URL, or of all objects below it.

    It is derived from etags or versions; if the file system has none, from the content, which is
    downloaded up to :data:`WHOLE_OBJECT_BYTES` (64 MiB) and otherwise not identified.
    """
    system, path = file_system(url)
    found = system.find(path, detail=True)
    names = sorted(found)
    size = sum(int(found[name].get("size") or 0) for name in names)
    versions = [version_of_object(found[name]) for name in names]
    if not names:
        return Identity.unidentified(f"there is nothing at {url}")
    root = str(path).rstrip("/")
    own = [str(name).removeprefix(root) for name in names]
    if all(version is not None for version in versions):
        digest = _digest_of([part for pair in zip(own, versions, strict=True) for part in pair])
        rests_on = "version"
    elif size <= WHOLE_OBJECT_BYTES:
        contents = (system.cat_file(name) for name in names)
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        digest = _digest_of([part for pair in zip(own, digests, strict=True) for part in pair])
        rests_on = "whole"
    else:
        return Identity.unidentified(
            f"the file system of {url} tells neither etags nor versions, and {size} bytes are too "
            "many to download for it"
        )
    return Identity("url", digest, {"n_files": len(names), "size": size, "hashed": rests_on})


def identify(source: RowSource) -> Identity:
    """Return the identity of the rows of a source with their shape and type, without their ids.

    Examples
    --------
    >>> import numpy as np
    >>> from relspace.rows.registry import scan
    >>> from relspace.rows.source import GeneratedRows
    >>> identify(scan(np.zeros((2, 3)))).kind
    'content'
    >>> identify(GeneratedRows((2, 3), lambda start, stop: np.zeros((stop - start, 3)))).kind
    'unidentified'
    """
    dtype = _name_of(source.dtype)
    return source.identity().with_detail(shape=[int(n) for n in source.shape], dtype=dtype)


def _hash_values(
    shape: tuple[int, ...], dtype: str, pieces: Iterable[NDArray[Any] | torch.Tensor]
) -> Identity:
    """Hash the values of an array, given in pieces along its first axis."""
    digest = _hash_bytes(
        _blocks(map(_bytes_of, pieces)), ["array", dtype, *[str(int(n)) for n in shape]]
    )
    return Identity("content", digest, {"shape": [int(n) for n in shape], "dtype": dtype})


def _hash_bytes(blocks: Iterable[_Block], about: Sequence[str]) -> str:
    """A digest of the digests of blocks, which several threads read (if callable) and hash."""
    whole = hashlib.sha256(json.dumps(list(about)).encode())
    stream = iter(blocks)
    first = [one for _, one in zip(range(2), stream, strict=False)]
    if len(first) < 2:
        # One block is hashed faster than a thread starts.
        for block in first:
            whole.update(_hash_block(block))
        return whole.hexdigest()
    waiting: deque[Future[bytes]] = deque()
    n_threads = _n_threads()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="relspace hashes") as pool:
        for block in chain(first, stream):
            waiting.append(pool.submit(_hash_block, block))
            if len(waiting) > 2 * n_threads:
                whole.update(waiting.popleft().result())
        for one in waiting:
            whole.update(one.result())
    return whole.hexdigest()


def _n_threads() -> int:
    return min(_THREADS_AT_MOST, os.cpu_count() or 1)


def _hash_block(block: _Block) -> bytes:
    return hashlib.sha256(block() if callable(block) else block).digest()


def _blocks(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """Cut a stream of bytes, given in pieces of any length, into blocks of one length."""
    rest = bytearray()
    for piece in pieces:
        start = 0
        if rest:
            start = min(_BLOCK_BYTES - len(rest), len(piece))
            rest += piece[:start]
            if len(rest) < _BLOCK_BYTES:
                continue
            yield memoryview(rest)
            rest = bytearray()
        n_whole = (len(piece) - start) // _BLOCK_BYTES
        for number in range(n_whole):
            first = start + number * _BLOCK_BYTES
            yield piece[first : first + _BLOCK_BYTES]
        rest += piece[start + n_whole * _BLOCK_BYTES :]
    if rest:
        yield memoryview(rest)


def _bytes_of(values: NDArray[Any] | torch.Tensor) -> memoryview:
    """The bytes of an array, little-endian, row by row."""
    if isinstance(values, torch.Tensor):
        dense = values.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return memoryview(cast("Any", dense.flatten().view(torch.uint8).numpy()))
    array = np.ma.getdata(values)
    if array.dtype.hasobject:
        raise InvalidTypeError("an array of Python objects can't be hashed; give numbers.")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    mask = np.ma.getmaskarray(values).tobytes() if np.ma.isMaskedArray(values) else b""
    # As bytes, because a memoryview does not support dates.
    flat = array.reshape(-1).view(np.uint8)
    return memoryview(flat.tobytes() + mask) if mask else memoryview(cast("Any", flat))


def _file_blocks(path: Path, spans: Iterable[tuple[int, int]]) -> Iterator[Callable[[], bytes]]:
    def reading(start: int, stop: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                content = file.read(stop - start)
            if len(content) != stop - start:
                raise FileFormatError(f"{path} is being written: wait until it is complete.")
            return content

        return read

    return (reading(start, stop) for start, stop in spans)


def _spans(size: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """The start and end of the parts of a file that are hashed: all, or 64 over the whole file."""
    if whole:
        return ((at, min(size, at + _BLOCK_BYTES)) for at in range(0, size, _BLOCK_BYTES))
    last = size - _BYTES_OF_A_PART
    starts = (last * part // (_PARTS_OF_A_FILE - 1) for part in range(_PARTS_OF_A_FILE))
    return ((start, start + _BYTES_OF_A_PART) for start in starts)


def version_of_object(info: Mapping[str, Any]) -> str | None:
    """Return the size of an object and the version that changes with its content; or None."""
    told = {str(key).lower(): value for key, value in info.items()}
    versions = [f"{key}={told[key]}" for key in _VERSIONS if told.get(key)]
    versions += [f"{key}={told[key]}" for key in _VERSIONS_BESIDE if told.get(key)]
    return f"{told.get('size')} {' '.join(versions)}" if versions else None


def _changed_parts(before: object, now: object) -> str | None:
    if not isinstance(before, list) or not isinstance(now, list):
        return None
    if len(before) != len(now):
        return f"number of parts ({len(before)} before, {len(now)} now)"
    which = [str(i) for i, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
    return f"part {', '.join(which[:5])}{', ...' if len(which) > 5 else ''}" if which else None


def _name_of(dtype: object) -> str:
    """The name of a type, the same for arrays and tensors and for both byte orders."""
    if isinstance(dtype, np.dtype) and dtype.names is None:
        return dtype.newbyteorder("=").name
    return str(dtype).removeprefix("torch.")


def _digest_of(parts: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
