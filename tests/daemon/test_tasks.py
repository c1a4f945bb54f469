"""How many processes containers may have: never all that the daemon may."""

import resource
from pathlib import Path

import pytest
from support.hosts import Rig, told

from edged.daemon.tasks import tasks_allowed

INFINITE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process in a cgroup below another one, mounted in the directory of the test."""
    root = tmp_path / "mounted"
    (root / "above" / "own").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/above/own\n")
    (tmp_path / "mountinfo").write_text(f"3 2 0:26 / {root} rw - cgroup2 c rw\n")
    return tmp_path


@pytest.mark.parametrize(
    ("above", "own", "hard", "allowed"),
    [
        ("max", "4096", INFINITE[1], 3072),
        ("1000", "max", INFINITE[1], 750),
        ("1000", "4096", 400, 300),
        ("max", "max", INFINITE[1], 0),
        (None, None, 8000, 6000),
        (None, "100", 8000, 75),
    ],
)
def test_a_quarter_of_what_the_daemon_may_have_is_its_own(
    proc: Path, monkeypatch: pytest.MonkeyPatch, above: str | None, own: str | None, hard: int, allowed: int
) -> None:
    """The tightest bound counts, of its user or of any cgroup it is in; without one containers have none."""
    for name, text in (("above", above), ("above/own", own)):
        if text is not None:
            (proc / "mounted" / name / "pids.max").write_text(f"{text}\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (hard, hard))
    assert tasks_allowed(proc) == allowed


async def test_a_container_is_held_to_it(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    """The function and all that it starts; the daemon itself is not."""
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    monkeypatch.setattr(rig.host, "_tasks", 777)
    _, peer = await rig.start()
    assert (await told(peer, "surroundings"))["tasks"] == 777
    assert resource.getrlimit(resource.RLIMIT_NPROC) == before
