"""`[limits] cpu`, on a kernel of the test's own: there is a cgroup to hand out, whatever this machine has."""

from typing import Any

import pytest
from support.kernel import run_in_kernel


@pytest.fixture(scope="module")
def said() -> Any:
    return run_in_kernel("support.cpu_limited")


def test_a_container_gets_the_cores_of_its_function_and_no_more(said: Any) -> None:
    """Busy for a second, one with cpu = 0.25 computes for 0.3 of it at most and is made to wait; one with the default of 1.0
    waits less for each second that it computes."""
    assert (said["quarter"]["max"], said["whole"]["max"]) == ("25000 100000\n", "100000 100000\n")
    assert said["quarter"]["share"] < 0.3
    assert said["quarter"]["waited"] > said["whole"]["waited"]


def test_nothing_of_a_container_is_left(said: Any) -> None:
    """Its cgroup goes with it, and a process that it left in there; so does what a daemon that was killed had left."""
    assert said["inside"]
    assert (said["left"], said["after"], said["exit"]) == ([], [], 0)


def test_a_node_says_whether_the_limit_holds(said: Any) -> None:
    """Where it does nobody is warned; a second daemon in the same cgroup says that it does not, and to whom it matters."""
    assert (said["cpu_limit"], said["warnings"]) == ("enforced", [])
    why = "the cgroup /sys/fs/cgroup/edged is another daemon's"
    assert said["second"] == f"no effect: {why}"
    assert said["second_warnings"] == [f"[limits] cpu has no effect on this node: {why}"]
