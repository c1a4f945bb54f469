"""Whether a daemon may make cgroups. What they do to containers: e2e/test_cpu_limit.py."""

from pathlib import Path

import pytest

from edged.daemon import cgroups
from edged.daemon.cgroups import Cgroups, NoCgroups

MOUNTS = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def proc(tmp_path: Path, cgroup: str, mounts: str = MOUNTS) -> Path:
    """A process as /proc shows it."""
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mounts)
    return tmp_path


@pytest.mark.parametrize(
    ("mounts", "path"),
    [
        (MOUNTS, "/sys/fs/cgroup/system.slice/edged.service"),
        ("1 0 0:5 / / rw - ext4 x rw\n30 20 0:26 /system.slice /cg rw shared:9 - cgroup2 c rw\n", "/cg/edged.service"),
    ],
)
def test_its_own_cgroup_is_found_where_it_is_mounted(tmp_path: Path, mounts: str, path: str) -> None:
    """Also where only a part of the tree is mounted, or the older hierarchies are there too."""
    found = cgroups.own_cgroup(proc(tmp_path, "4:cpu:/\n0::/system.slice/edged.service\n", mounts))
    assert found == Path(path)


@pytest.mark.parametrize(("cgroup", "mounts"), [("4:cpu:/\n", MOUNTS), ("0::/a\n", ""), ("0::/a\n", "3 2 0:26 /b /cg rw - cgroup2 c rw\n")])
def test_without_one_it_says_so(tmp_path: Path, cgroup: str, mounts: str) -> None:
    """No cgroup v2, none mounted, or one that this process is not in."""
    with pytest.raises(NoCgroups, match="no cgroup v2"):
        cgroups.own_cgroup(proc(tmp_path, cgroup, mounts))


def test_a_cgroup_that_was_not_handed_out_is_not_touched(tmp_path: Path) -> None:
    """Without the mark of a delegation nothing is made or written below it, whoever the daemon runs as."""
    own = tmp_path / "cgroup-tree" / "a"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu")
    (own / "cgroup.subtree_control").write_text("")
    mounts = f"3 2 0:26 / {own.parent} rw - cgroup2 c rw\n"
    with pytest.raises(NoCgroups, match="not marked as delegated"):
        cgroups._prepared(proc(tmp_path, "0::/a\n", mounts))
    assert sorted(path.name for path in own.iterdir()) == ["cgroup.controllers", "cgroup.subtree_control"]
    assert (own / "cgroup.subtree_control").read_text() == ""


async def test_a_node_without_cgroups_goes_on_and_knows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is for its status and for who deploys; there is nothing to remove then."""

    def none() -> tuple[Path, int]:
        raise NoCgroups("no cgroup v2 is mounted here")

    monkeypatch.setattr(cgroups, "_prepared", none)
    ours = Cgroups()
    await ours.open()
    await ours.remove("counter-1")
    ours.close()
    assert (ours.path, ours.trouble) == ("", "no cgroup v2 is mounted here")
