"""SIGTERM while a node works: what runs is answered, what waits is refused, what is here is saved."""

import signal
import socket
import subprocess
import sys
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import COUNTER, PATIENCE, Nodes, deploy, served_by, until
from support.wire_client import WireClient

from edged_protocol import messages as m
from edged_protocol.blocking import Mesh, Pending, connect
from edged_protocol.codec import encode, pack
from edged_protocol.connection import Connection

HURRIED = "from edged.daemon import main; main.DRAIN_SECONDS = 1.0; from edged.cli import main as run; run()"
"""`edged` with less time to stop."""

HOLD = """
import os, time
from edged.sdk import Function, Session

fn = Function("hold", state=dict)

@fn.handler
def hold(s: Session, path: str) -> str:
    open(path + ".runs", "w").close()
    while not os.path.exists(path):
        time.sleep(0.005)
    return "held"
"""


@pytest.mark.parametrize("allow", [["remote", "local"], ["local"]])
def test_a_local_session_is_exact_after_a_stop(
    nodes: Nodes, tmp_path: Path, allow: list[str]
) -> None:
    """500 acknowledged increments are all there after SIGTERM and a restart, also of a function that
    knows no remote-state: it has a checkpoint."""
    function = tmp_path / "counter"
    function.mkdir()
    (function / "counter.py").write_bytes((COUNTER / "counter.py").read_bytes())
    (function / "function.toml").write_text(
        '[function]\nname = "counter"\nentry = "counter:fn"\n'
        f'[modes]\nallow = {allow}\nstart = "{allow[0]}"\n'.replace("'", '"')
        + "[durability]\ncalls = 1000000\nseconds = 3600.0\n"
    )
    first, second = nodes.start("n1", containers=0), nodes.start("n2")
    deploy(second, function)
    served_by(first, "counter", 1)
    key = {"function": "counter", "session": "s"}
    with closing(WireClient(first, "operator")) as operator:
        assert operator.request("session.localize", {**key, "to": "n2"})["node"] == "n2"
        assert [operator.call("counter", "s", "incr") for _ in range(500)] == list(range(1, 501))
        assert operator.request("session.get", key)["unsaved_calls"] == 500
        nodes.signal("n2", signal.SIGTERM)
        assert nodes.ended("n2") == 0
        assert "not saved" not in nodes.said("n2")
        stored = operator.request("session.get", key)
        assert (stored["version"], stored["mode"]) == (500, allow[0])
    with closing(WireClient(nodes.start("n2"))) as device:
        assert device.call("counter", "s", "incr") == 501


class Load:
    """Increments of many sessions, one at a time in each, through one client."""

    def __init__(self, mesh: Mesh, sessions: list[str], each: int) -> None:
        self._mesh = mesh
        self._each = each
        self.seen: dict[str, list[int]] = {name: [] for name in sessions}
        self._flying: deque[tuple[str, Pending]] = deque()
        for name in sessions:
            self._next(name)

    def _next(self, name: str) -> None:
        pending = self._mesh.session("counter", name).start("incr", timeout=PATIENCE)
        self._flying.append((name, pending))

    def run(self, calls: int | None = None) -> None:
        """Until so many more calls are answered, or all."""
        while self._flying and (calls is None or calls > 0):
            name, pending = self._flying.popleft()
            self.seen[name].append(pending.result())
            calls = None if calls is None else calls - 1
            if len(self.seen[name]) < self._each:
                self._next(name)


def test_each_call_counts_once_while_a_node_stops(nodes: Nodes) -> None:
    """Calls in flight at a node that stops, forwarded to it or sent to it, are answered or repeated
    elsewhere: each increment counts once, and the sessions are served on without it."""
    first, second, third = (nodes.start(name) for name in ("n1", "n2", "n3"))
    deploy(first, COUNTER)
    served_by(first, "counter", 3)
    sessions, each = [f"s{n}" for n in range(24)], 60
    with closing(WireClient(first, "operator")) as operator:
        for name in sessions[::2]:
            key = {"function": "counter", "session": name, "to": "n2"}
            operator.request("session.localize", key)
    with connect([third], name="through") as through, connect([second], name="direct") as direct:
        loads = [Load(through, sessions[:12], each), Load(direct, sessions[12:], each)]
        for load in loads:
            load.run(12 * 20)
        nodes.signal("n2", signal.SIGTERM)
        for load in loads:
            load.run()
        assert direct.statistics().broker != second
    assert nodes.ended("n2") == 0
    assert "not saved" not in nodes.said("n2")
    assert "cut off" not in nodes.said("n2")
    expected = list(range(1, each + 1))
    assert {**loads[0].seen, **loads[1].seen} == dict.fromkeys(sessions, expected)
    with closing(WireClient(first)) as device:
        assert {device.call("counter", name, "get") for name in sessions} == {each}


class Line:
    """A device's connection, frame by frame."""

    def __init__(self, address: str, receive_buffer: int = 0) -> None:
        host, port = address.rsplit(":", 1)
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect((host, int(port)))
        except OSError:
            self.sock.close()
            raise
        self._connection = Connection.dialer({"role": "device", "name": "t"})
        self._sent(self._connection.outgoing())
        self._inbox: deque[m.Message] = deque()
        self.next(m.Welcome)

    def _sent(self, data: bytes) -> None:
        self.sock.sendall(data)

    def say(self, *messages: m.Message) -> None:
        self._sent(b"".join(encode(message) for message in messages))

    def next(self, *kinds: type[m.Message]) -> m.Message:
        """The next message, which must be one of `kinds`."""
        while not self._inbox:
            data = self.sock.recv(65536)
            assert data, "the node closed the connection"
            for message in self._connection.receive(data):
                if isinstance(message, m.Ping):  # from a node that was without a processor for a second
                    self.say(m.Pong(message.nonce))
                else:
                    self._inbox.append(message)
        message = self._inbox.popleft()
        assert isinstance(message, kinds)
        return message


def test_what_runs_is_answered_and_what_waits_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """A stopping node answers the call that runs, answers 102 to those in queues, of the pool and of a
    session alike, says GOAWAY, takes no connection any more and ends with 0."""
    function, path = tmp_path / "hold", tmp_path / "release"
    function.mkdir()
    (function / "hold.py").write_text(HOLD)
    (function / "function.toml").write_text(
        '[function]\nname = "hold"\nentry = "hold:fn"\n[pool]\nmax = 1\n'
    )
    address = nodes.start("n1")
    deploy(address, function)
    deploy(address, COUNTER)
    with closing(WireClient(address)) as device:
        device.call("counter", "s", "get")  # now a container of it is idle
    line, body = Line(address), pack([str(path)])
    line.say(m.Invoke(1, "hold", None, "", None, 60_000, body))
    until((tmp_path / "release.runs").exists)
    waiting = {2: None, 3: None, 4: "s", 5: "s", 6: "s"}
    line.say(
        *(
            m.Invoke(id_, "hold", session, "", bytes([id_]) * 16, 60_000, body)
            for id_, session in waiting.items()
        ),
        m.Ping(7),
    )
    line.next(m.Pong)
    nodes.signal("n1", signal.SIGTERM)
    goaway, *refused = (line.next(m.GoAway, m.Error) for _ in range(6))
    assert isinstance(goaway, m.GoAway)
    assert goaway.reason == "draining"
    codes = {error.id: error.code for error in refused if isinstance(error, m.Error)}
    assert codes == dict.fromkeys(waiting, 102)
    line.say(m.Invoke(8, "counter", None, "", None, 60_000, b""))
    late = line.next(m.Error)
    assert isinstance(late, m.Error)
    assert (late.id, late.code) == (8, 102)
    with pytest.raises(ConnectionRefusedError):
        Line(address)
    path.touch()
    answer = line.next(m.Result)
    assert isinstance(answer, m.Result)
    assert (answer.id, answer.body) == (1, pack("held"))
    assert nodes.ended("n1") == 0
    line.sock.close()


def test_an_answer_is_sent_whole_before_the_end(nodes: Nodes) -> None:
    """A node does not end while an answer that is ready is still on its way to a slow reader."""
    address = nodes.start("n1")
    deploy(address, COUNTER.parent / "echo")
    line, body = Line(address, receive_buffer=4096), pack([b"x" * 1_000_000])
    line.say(*(m.Invoke(id_, "echo", None, "", None, 60_000, body) for id_ in (1, 2, 3)))
    with closing(WireClient(address, "operator")) as operator:
        until(lambda: operator.request("node.status", {})["calls"] == 3)
    nodes.signal("n1", signal.SIGTERM)
    until(lambda: "stopping" in nodes.said("n1"))
    nodes.ends_within("n1", 0.5)  # one that does not wait is gone by then
    answers = [line.next(m.GoAway, m.Result) for _ in range(4)]
    assert {answer.id for answer in answers if isinstance(answer, m.Result)} == {1, 2, 3}
    assert nodes.ended("n1") == 0
    line.sock.close()


def test_what_cannot_be_saved_is_named(nodes: Nodes) -> None:
    """Without its store a node still ends in time and with 0, and says which session lost how many calls."""
    nodes.start("n1")
    address = nodes.start("n2", "-c", HURRIED)
    deploy(address, COUNTER)
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {"function": "counter", "session": "s"})
        nodes.signal("n1", signal.SIGKILL)
        nodes.ended("n1")
        for _ in range(3):
            operator.call("counter", "s", "incr")
        nodes.signal("n2", signal.SIGTERM)
    assert nodes.ended("n2") == 0
    [line] = [line for line in nodes.said("n2").splitlines() if "not saved" in line]
    assert "ERROR" in line
    assert "counter/s is not saved: state store: " in line
    assert line.endswith("calls lost: 3")


def test_who_interrupts_twice_does_not_wait(nodes: Nodes, tmp_path: Path) -> None:
    """A call does not end: the first interrupt waits for it, a second SIGTERM too; the second interrupt does not, and says
    so. The exit code is 0 all the same."""
    address = nodes.start("n1")
    function = tmp_path / "hold"
    function.mkdir()
    (function / "hold.py").write_text(HOLD)
    (function / "function.toml").write_text('[function]\nname = "hold"\nentry = "hold:fn"\n')
    deploy(address, function)
    with connect([address], name="waits") as mesh:
        mesh.function("hold").start("hold", str(tmp_path / "never"), timeout=70)
        until((tmp_path / "never.runs").exists)
        nodes.signal("n1", signal.SIGINT)
        until(lambda: "stopping" in nodes.said("n1"))
        nodes.signal("n1", signal.SIGTERM)
        nodes.signal("n1", signal.SIGINT)
        assert nodes.ended("n1") == 0
    assert "interrupted again" in nodes.said("n1") and "still running are cut off" in nodes.said("n1")


def test_a_mesh_that_a_script_began_ends_by_sigint(tmp_path: Path) -> None:
    """A shell starts what it puts behind itself with SIGINT ignored: `edged dev` ends by it all the same."""
    dev = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "edged.cli", "dev", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert dev.stdout is not None
        assert dev.stdout.readline()
        dev.send_signal(signal.SIGINT)
        assert dev.wait(60) == 0
    finally:
        dev.kill()
        dev.communicate()
