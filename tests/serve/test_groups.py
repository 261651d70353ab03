"""What a container uses is read from its control group, of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.serve.compose import Usage, group_of, pids, usage

ID = "212810f506723d57f704f9c464a4f42e229ffbc2d27137e8f4b7d0acec86f80e"
JOINT = ("cpu,cpuacct", "memory", "pids")  # as systemd mounts them
APART = ("cpu", "cpuacct", "memory", "pids")


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def version_1(root: Path, mounts: tuple[str, ...] = APART) -> None:
    lines = [f"{number}:{names}:/docker/{ID}\n" for number, names in enumerate(mounts, 1)]
    write(root, "proc/7/cgroup", "".join(lines) + f"0::/docker/{ID}\n")
    write(
        root,
        "proc/mounts",
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        + "".join(f"cgroup /sys/fs/cgroup/{names} cgroup rw,relatime,{names} 0 0\n" for names in mounts)
        + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
    )
    cpu, cpuacct = (next(names for names in mounts if one in names.split(",")) for one in ("cpu", "cpuacct"))
    stat = "nr_periods 12\nnr_throttled 3\nthrottled_time 250000000\n"
    write(root, f"sys/fs/cgroup/{cpu}/docker/{ID}/cpu.stat", stat)
    write(root, f"sys/fs/cgroup/{cpuacct}/docker/{ID}/cpuacct.usage", "1500000000\n")
    memory = f"sys/fs/cgroup/memory/docker/{ID}"
    write(root, f"{memory}/memory.usage_in_bytes", "50000000\n")
    write(root, f"{memory}/memory.stat", "cache 9\ninactive_file 5\ntotal_inactive_file 20000000\nhierarchical_x -1\n")
    write(root, f"{memory}/cgroup.procs", "70\n71\n0\n")
    write(root, f"sys/fs/cgroup/pids/docker/{ID}/pids.current", "9\n")


def version_2(root: Path, path: str = f"/system.slice/docker-{ID}.scope") -> None:
    write(root, "proc/7/cgroup", f"0::{path}\n")
    write(root, "proc/mounts", "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n")
    folder = f"sys/fs/cgroup{path}"
    stat = "usage_usec 1500000\nuser_usec 1\nnr_throttled 3\nthrottled_usec 250000\n"
    write(root, f"{folder}/cpu.stat", stat)
    write(root, f"{folder}/memory.current", "50000000\n")
    write(root, f"{folder}/memory.stat", "anon 1\nfile 2\ninactive_file 20000000\n")
    write(root, f"{folder}/cgroup.procs", "70\n71\n")
    write(root, f"{folder}/pids.current", "9\n")


@pytest.mark.parametrize("mounts", [APART, JOINT])
def test_version_1(tmp_path: Path, mounts: tuple[str, ...]) -> None:
    version_1(tmp_path, mounts)
    group = group_of(7, tmp_path)
    assert group is not None
    assert group.version == 1
    assert usage(group) == Usage(cpu_s=1.5, throttled_s=0.25, rss_mb=30.0, threads=9, processes=2)
    assert pids(group) == [70, 71]


@pytest.mark.parametrize("path", [f"/system.slice/docker-{ID}.scope", f"/docker/{ID}"])
def test_version_2(tmp_path: Path, path: str) -> None:
    version_2(tmp_path, path)
    group = group_of(7, tmp_path)
    assert group is not None
    assert group.version == 2
    assert usage(group) == Usage(cpu_s=1.5, throttled_s=0.25, rss_mb=30.0, threads=9, processes=2)


def test_what_is_not_counted_is_none_and_what_is_gone_says_so(tmp_path: Path) -> None:
    version_2(tmp_path)
    group = group_of(7, tmp_path)
    assert group is not None
    (group.pids / "pids.current").unlink()
    (group.memory / "memory.current").unlink()
    assert usage(group) == Usage(1.5, 0.25, None, None, 2)
    (group.cpu / "cpu.stat").unlink()
    with pytest.raises(OSError, match=r"cpu\.stat"):
        usage(group)


@pytest.mark.parametrize("lost", ["proc/7/cgroup", "proc/mounts"])
def test_a_machine_that_does_not_show_it_has_no_group(tmp_path: Path, lost: str) -> None:
    version_1(tmp_path)
    (tmp_path / lost).unlink()
    assert group_of(7, tmp_path) is None


def test_a_path_of_another_namespace_is_no_group(tmp_path: Path) -> None:
    version_2(tmp_path)
    write(tmp_path, "proc/7/cgroup", "0::/../../elsewhere\n")
    assert group_of(7, tmp_path) is None
