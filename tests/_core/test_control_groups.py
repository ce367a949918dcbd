"""Memory limits of control groups, in trees of files like those of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from relspace._core import memory as _blocks
from relspace._core.control_groups import control_group_headroom

GIB = 2**30
NO_LIMIT = 9223372036854771712


def lay_out(root: Path, files: dict[str, object]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return root


def version_2(group: str, *, mounted: str = "/") -> dict[str, object]:
    return {
        "proc/self/cgroup": f"0::{group}",
        "proc/self/mountinfo": (
            "22 1 0:20 / /proc rw - proc proc rw\n"
            f"29 23 0:26 {mounted} /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw"
        ),
    }


def version_1(group: str, *, mounted: str = "/") -> dict[str, object]:
    return {
        "proc/self/cgroup": f"11:cpu,cpuacct:/slurm\n4:memory:{group}\n1:name=systemd:/",
        "proc/self/mountinfo": (
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"35 31 0:32 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
        ),
    }


def group_2(path: str, limit: object, used: int, cached: int = 0) -> dict[str, object]:
    at = f"sys/fs/cgroup/{path}".rstrip("/")
    return {
        f"{at}/memory.max": limit,
        f"{at}/memory.current": used,
        f"{at}/memory.stat": f"anon {used - cached}\ninactive_file {cached}",
    }


def group_1(path: str, limit: object, used: int, cached: int = 0) -> dict[str, object]:
    at = f"sys/fs/cgroup/memory/{path}".rstrip("/")
    return {
        f"{at}/memory.limit_in_bytes": limit,
        f"{at}/memory.usage_in_bytes": used,
        f"{at}/memory.stat": f"cache 7\ninactive_file 3\ntotal_inactive_file {cached}",
    }


def test_the_own_group_of_a_job_limits_it(tmp_path: Path) -> None:
    job = "system.slice/slurmstepd.scope/job_7/step_0"
    files = version_2(f"/{job}") | group_2(job, 4 * GIB, 3 * GIB, GIB)
    assert control_group_headroom(lay_out(tmp_path, files)) == 2 * GIB


def test_the_smallest_room_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = (
        version_2("/user.slice/job.scope")
        | group_2("user.slice/job.scope", "max", GIB)
        | group_2("user.slice", 8 * GIB, 7 * GIB)
        | group_2("", 64 * GIB, 20 * GIB)
    )
    assert control_group_headroom(lay_out(tmp_path, files)) == GIB


def test_where_a_group_is_slowed_down_it_is_full(tmp_path: Path) -> None:
    files = version_2("/a") | group_2("a", 8 * GIB, GIB)
    files["sys/fs/cgroup/a/memory.high"] = 3 * GIB
    assert control_group_headroom(lay_out(tmp_path, files)) == 2 * GIB


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    files = version_2("/", mounted="/docker/1234") | group_2("", 2 * GIB, GIB)
    assert control_group_headroom(lay_out(tmp_path, files)) == GIB


def test_a_mount_of_the_own_group_is_found_by_its_root(tmp_path: Path) -> None:
    files = version_1("/docker/1234/job", mounted="/docker/1234")
    files |= group_1("", 6 * GIB, GIB) | group_1("job", 2 * GIB, GIB, GIB // 2)
    assert control_group_headroom(lay_out(tmp_path, files)) == 3 * GIB // 2


@pytest.mark.parametrize("own", [5 * GIB, NO_LIMIT])
def test_version_1_is_climbed_too(tmp_path: Path, own: int) -> None:
    files = (
        version_1("/slurm/uid_0/job_1")
        | group_1("slurm/uid_0/job_1", own, GIB)
        | group_1("slurm/uid_0", NO_LIMIT, GIB)
        | group_1("slurm", 3 * GIB, 2 * GIB, GIB // 4)
        | group_1("", NO_LIMIT, 9 * GIB)
    )
    assert control_group_headroom(lay_out(tmp_path, files)) == GIB + GIB // 4


def test_a_full_group_leaves_nothing(tmp_path: Path) -> None:
    files = version_2("/a") | group_2("a", GIB, 2 * GIB)
    assert control_group_headroom(lay_out(tmp_path, files)) == 0


@pytest.mark.parametrize(
    "files",
    [
        {},
        version_2("/a"),
        version_2("/a") | group_2("a", "max", GIB),
        version_1("/a") | group_1("a", NO_LIMIT, GIB),
        {"proc/self/cgroup": "0::/a", "proc/self/mountinfo": "1 2 0:3 / / rw - ext4 /dev/sda rw"},
    ],
)
def test_without_a_limit_there_is_none(tmp_path: Path, files: dict[str, object]) -> None:
    assert control_group_headroom(lay_out(tmp_path, files)) is None


def test_what_a_group_leaves_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "control_group_headroom", lambda: 12345)
    assert _blocks.free_memory_bytes() == 12345
    monkeypatch.setattr(_blocks, "control_group_headroom", lambda: None)
    assert _blocks.free_memory_bytes() > 12345
