"""Three real daemons on loopback: calls in both modes, moves under load, containers killed."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.dev_mesh import dev_mesh
from support.wire_client import WireClient

from edged_protocol.errors import CallError, UnknownOutcome

PATIENCE = 300.0
"""Seconds for forty moves under load, on a machine with other work."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Three nodes with counter and echo."""
    data, options = tmp_path_factory.mktemp("mesh"), ("--containers", "48")
    with dev_mesh(3, data, "counter", "echo", options=options) as nodes:
        yield nodes


def test_a_stateless_call_is_answered_by_every_node(mesh: list[dict[str, Any]]) -> None:
    """Any node answers, whichever one the function was deployed on."""
    for node in mesh:
        client = WireClient(node["address"])
        value, meta = client.once("echo", None, "", {"x": [1, b"y"]})
        assert value == {"x": [1, b"y"]}
        assert meta["node"] == node["name"]
        client.close()


def test_errors_say_whose_fault_it_is(mesh: list[dict[str, Any]]) -> None:
    """Unknown functions and methods, and the wrong role, are refused by code."""
    client = WireClient(mesh[0]["address"])
    for code, args in ((204, ("nothing", None, "")), (206, ("counter", "s", "nothing"))):
        with pytest.raises(CallError) as caught:
            client.once(*args)
        assert caught.value.code == code
    with pytest.raises(CallError) as caught:
        client.request("node.status", {})
    assert caught.value.code == 203
    client.close()


def test_a_retry_gets_the_remembered_answer(mesh: list[dict[str, Any]]) -> None:
    """The same call id counts once, also at another node and in the other mode."""
    first, second = (WireClient(node["address"]) for node in mesh[:2])
    operator = WireClient(mesh[2]["address"], "operator")
    call_id = os.urandom(16)
    assert first.once("counter", "retry", "incr", call_id=call_id)[0] == 1
    assert second.once("counter", "retry", "incr", call_id=call_id, attempt=1)[0] == 1
    moved = operator.request("session.localize", {"function": "counter", "session": "retry"})
    assert moved["node"] == "dev-3"
    value, meta = first.once("counter", "retry", "incr", call_id=call_id, attempt=2)
    assert (value, meta["remembered"]) == (1, True)
    assert first.once("counter", "retry", "incr")[0] == 2
    for client in (first, second, operator):
        client.close()


def test_a_caller_is_told_what_the_state_cost(mesh: list[dict[str, Any]]) -> None:
    """A remote-state call says how long it read and committed, through any node; one without a session says nothing."""
    for node in mesh:
        client = WireClient(node["address"])
        _, meta = client.once("counter", f"timed-{node['name']}", "incr")
        assert type(meta["state_us"]) is int
        assert meta["state_us"] > 0
        _, meta = client.once("echo", None, "", 1)
        assert "state_us" not in meta
        client.close()


def test_every_increment_counts_once_while_sessions_move(mesh: list[dict[str, Any]]) -> None:
    """64 sessions, 8 connections, 40 moves while they are called, 1,000 increments each at least: each counts once."""
    sessions, at_least, lines = 64, 1000, 8
    seen: dict[str, list[int]] = {f"s{n}": [] for n in range(sessions)}
    failures: list[BaseException] = []
    moved = threading.Event()

    def drive(line: int) -> None:
        try:
            with closing(WireClient(mesh[line % 3]["address"])) as client:
                mine = [name for n, name in enumerate(seen) if n % lines == line]
                while len(seen[mine[-1]]) < at_least or not moved.is_set():
                    for name in mine:
                        seen[name].append(client.call("counter", name, "incr"))
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)

    threads = [threading.Thread(target=drive, args=(line,)) for line in range(lines)]
    for thread in threads:
        thread.start()
    try:
        moves = move_about(mesh, list(seen), 40)
    finally:
        moved.set()
        for thread in threads:
            thread.join(600)
    assert failures == []
    assert set(moves) == {"localize", "externalize", "migrate"}
    wrong = {name: values for name, values in seen.items() if sorted(values) != list(range(1, len(values) + 1))}
    assert not wrong


def move_about(mesh: list[dict[str, Any]], sessions: list[str], count: int) -> Counter[str]:
    """Moves at random until `count` have succeeded; how many of each kind did."""
    chance, done = random.Random(7), Counter[str]()
    operators = [WireClient(node["address"], "operator") for node in mesh]
    deadline = time.monotonic() + PATIENCE
    while done.total() < count:
        assert time.monotonic() < deadline, f"moves do not succeed: {done}"
        key = {"function": "counter", "session": chance.choice(sessions)}
        verb = chance.choice(["localize", "externalize", "migrate"])
        to = chance.choice(mesh)["name"]
        params = key if verb == "externalize" else {**key, "to": to}
        try:
            chance.choice(operators).request(f"session.{verb}", params)
            done[verb] += 1
        except CallError as error:
            assert error.code in (103, 104, 105, 107, 201), error
    for operator in operators:
        operator.close()
    return done


def test_a_killed_container_costs_nothing_but_its_call(mesh: list[dict[str, Any]]) -> None:
    """After SIGKILL of every container of a node it answers as before."""
    client = WireClient(mesh[0]["address"])
    client.once("echo", None, "", 1)
    for pid in containers_of(mesh[0]["pid"]):
        os.kill(pid, signal.SIGKILL)
    for n in range(5):
        try:
            assert client.once("echo", None, "", n)[0] == n
        except UnknownOutcome as error:
            assert error.code == 402
    assert client.once("echo", None, "", "still")[0] == "still"
    client.close()


def containers_of(pid: int) -> list[int]:
    """The grandchildren of a daemon: what its zygotes forked."""
    return [grandchild for child in children(pid) for grandchild in children(child)]


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
