"""Finds image files in folders and by glob patterns, without hidden files and duplicates."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

#: Suffixes of images. Those that Pillow can't read are refused, not ignored.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
)

# Folders in which archives, file servers and systems keep copies and thumbnails of files.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN")


def files_in_folder(folder: Path) -> list[Path]:
    """Find the images in a folder and its subfolders, sorted by name.

    Hidden files, and folders of systems (``@eaDir``, ``__MACOSX``), are ignored. Links to folders
    are followed; a folder that is reached in several ways counts once.
    """
    found = []
    ways: list[tuple[Path, frozenset[str]]] = [(folder, frozenset())]
    while ways:
        inside, above = ways.pop()
        real = os.path.realpath(inside)
        if real in above:
            continue
        for entry in os.scandir(inside):
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                ways.append((inside / entry.name, above | {real}))
            elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
                found.append(inside / entry.name)
    return _each_once(found)


def files_of_pattern(pattern: str) -> list[Path]:
    """Find the files that a glob pattern matches, sorted by name; hidden ones only if named."""
    named = {part for part in Path(pattern).parts if not glob.has_magic(part)}
    hidden_are_meant = any(part.startswith((".*", ".?", ".[")) for part in Path(pattern).parts)
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 (absolute patterns)
    shown = (
        path
        for path in map(Path, names)
        if not any(_is_hidden(part) and part not in named for part in path.parts)
        or hidden_are_meant
    )
    return _each_once(path for path in shown if path.is_file())


def is_image_file(name: str) -> bool:
    """Whether there is a file of this name, with the suffix of an image."""
    return name.lower().endswith(SUFFIXES) and os.path.isfile(name)  # noqa: PTH113 (any text)


def _is_hidden(name: str) -> bool:
    return name in _SYSTEM_FOLDERS or (name.startswith(".") and name not in (".", ".."))


def _each_once(paths: Iterable[Path]) -> list[Path]:
    """Keep one path of each file: the one with the fewest links, then the shortest."""
    ways: dict[Path, tuple[str, int]] = {}
    kept: dict[tuple[str, str], tuple[int, int, Path]] = {}
    for path in paths:
        folder = path.parent
        if folder not in ways:
            n_links = sum(one.is_symlink() for one in (folder, *folder.parents))
            ways[folder] = os.path.realpath(folder), n_links
        real, n_links = ways[folder]
        way = (n_links, len(path.parts), path)
        kept[real, path.name] = min(kept.get((real, path.name), way), way)
    return sorted(path for _, _, path in kept.values())
