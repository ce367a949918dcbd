"""Memory that the control groups of this process allow (Slurm, systemd, containers).

Every parent group limits a process too, so the tree is climbed from the process's own group to the
root of the mount, in version 2 and version 1 of control groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

# Version 1 says "no limit" by the largest number of whole pages.
_NO_LIMIT = 2**62


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy that controls memory is mounted, and the group at its root."""

    at: Path
    group: PurePosixPath
    version: int


def control_group_headroom(root: Path = Path("/")) -> int | None:
    """Bytes that can still be allocated before a control group's limit; None without a limit.

    Cached pages of files count as used in a group but are given back on demand, so they are free.
    ``root`` is the file system in which ``proc`` and the mounts are found.
    """
    rooms = []
    own = _own_groups(root / "proc/self/cgroup")
    for mount in _memory_mounts(root):
        for folder in _folders(mount, own.get(mount.version)):
            rooms += (
                _room_of_version_2(folder) if mount.version == 2 else _room_of_version_1(folder)
            )
    return min(rooms, default=None)


@cache
def _memory_mounts(root: Path) -> tuple[_Mount, ...]:
    """Hierarchies that control memory, from proc(5)'s mountinfo."""
    mounts = []
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 1:
            continue
        at = root / fields[4].replace("\\040", " ").lstrip("/")
        if kind[0] == "cgroup2":
            mounts.append(_Mount(at, PurePosixPath(fields[3]), 2))
        elif kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            mounts.append(_Mount(at, PurePosixPath(fields[3]), 1))
    return tuple(mounts)


def _own_groups(path: Path) -> dict[int, PurePosixPath]:
    """The group of this process by version, from lines such as ``4:memory:/slurm/job_1``."""
    groups = {}
    for line in _lines(path):
        number, controllers, group = line.split(":", 2)
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(group)
        elif "memory" in controllers.split(","):
            groups[1] = PurePosixPath(group)
    return groups


def _folders(mount: _Mount, group: PurePosixPath | None) -> Iterator[Path]:
    """The folders of a process's group and of all above it, up to where they are mounted."""
    inside = PurePosixPath()
    # In a container the group can lie outside of what is mounted: then the mount is all there is.
    if group is not None and group.is_relative_to(mount.group) and ".." not in group.parts:
        inside = group.relative_to(mount.group)
    for part in (inside, *inside.parents):
        if (folder := mount.at / part).is_dir():
            yield folder


def _room_of_version_2(folder: Path) -> list[int]:
    # Beyond "high" a group is throttled until it has freed memory.
    limits = [_number(folder / name) for name in ("memory.max", "memory.high")]
    return _room(folder, limits, _number(folder / "memory.current"), "inactive_file")


def _room_of_version_1(folder: Path) -> list[int]:
    limit = _number(folder / "memory.limit_in_bytes")
    usage = _number(folder / "memory.usage_in_bytes")
    return _room(folder, [limit], usage, "total_inactive_file")


def _room(folder: Path, limits: list[int | None], used: int | None, cached_pages: str) -> list[int]:
    known = [limit for limit in limits if limit is not None and limit < _NO_LIMIT]
    if not known or used is None:
        return []
    statistics = dict(line.split()[:2] for line in _lines(folder / "memory.stat"))
    return [max(0, min(known) - used + int(statistics.get(cached_pages, 0)))]


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file or it says "max"."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(path: Path) -> list[str]:
    """The lines of a file of the kernel; none where this system has no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
