"""Calls that nobody waits for, queues that are full, peers that are silent: on real nodes."""

import shutil
import socket
from contextlib import closing
from pathlib import Path

import pytest
import trio
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged.daemon.connections import MAX_UNHEARD, PING_SECONDS, Connections
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack
from edged_protocol.connection import Connection
from edged_protocol.limits import MAX_INFLIGHT

SLEEPER = Path(__file__).parents[1] / "support" / "functions" / "sleeper"


class Wire:
    """Frames as they are; answers by id."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._sock = socket.create_connection((host, int(port)), timeout=60)
        self._connection = Connection.dialer({"role": "device", "name": "wire"})
        self._sock.sendall(self._connection.outgoing())
        self.answers: dict[int, m.Result | m.Error] = {}
        self.farewell = ""
        self.pongs = 0
        while not self._connection.established:
            assert self.read(), "closed by the node"

    def send(self, *messages: m.Message) -> None:
        self._sock.sendall(b"".join(map(encode, messages)))

    def read(self) -> bool:
        data = self._sock.recv(65536)
        for message in self._connection.receive(data) if data else ():
            if isinstance(message, m.Result | m.Error):
                self.answers[message.id] = message
            elif isinstance(message, m.GoAway):
                self.farewell = message.reason
            elif isinstance(message, m.Pong):
                self.pongs += 1
            elif isinstance(message, m.Ping):  # from a node that was without a processor for a second
                self.send(m.Pong(message.nonce))
        return bool(data)

    def barrier(self) -> None:
        """Until the node has looked at all that was sent."""
        before = self.pongs
        self.send(m.Ping(before))
        while self.pongs == before:
            assert self.read(), "closed by the node"

    def answer(self, id_: int) -> m.Result | m.Error:
        while id_ not in self.answers:
            assert self.read(), "closed by the node"
        return self.answers[id_]

    def close(self) -> None:
        self._sock.close()


def sleep(id_: int, seconds: float, session: str | None = None, timeout_ms: int = 60_000) -> m.Invoke:
    call_id = id_.to_bytes(16, "big") if session else None
    return m.Invoke(id_, "sleeper", session, "sleep", call_id, timeout_ms, pack([seconds]))


def hold(id_: int, until_: Path, timeout_ms: int = 60_000) -> m.Invoke:
    """A call that ends when that file is there."""
    return m.Invoke(id_, "sleeper", None, "hold", None, timeout_ms, pack([str(until_)]))


def pool(address: str) -> dict[str, int]:
    """The function's, of the node that runs it."""
    found: dict[str, int] = edgectl(address, "top")["load"][-1]["functions"].get("sleeper", {})
    return found


def one_container(nodes: Nodes, root: Path, *names: str) -> None:
    """Nodes of which the first has one container for the function, and the others none."""
    for number, name in enumerate(names):
        nodes.start(name, containers=0 if number else 1)
    manifest = root / "sleeper" / "function.toml"
    shutil.copytree(SLEEPER, root / "sleeper")
    text = manifest.read_text().replace("max = 2", 'max = 1\n[calls]\nqueue = 300\ndeadline = "2s"')
    manifest.write_text(text)
    deploy(nodes.addresses[names[0]], root / "sleeper")
    for name in names:
        served_by(nodes.addresses[name], "sleeper", 1)


@pytest.mark.parametrize("entrance", ["n1", "broker"])
def test_a_cancelled_call_that_waits_is_dropped(nodes: Nodes, tmp_path: Path, entrance: str) -> None:
    """Here and at the node it was passed on to: answered 401, not run, long before its deadline; the one
    that runs is answered as ever."""
    one_container(nodes, tmp_path, "n1", "broker")
    with closing(Wire(nodes.addresses[entrance])) as wire:
        wire.send(hold(1, tmp_path / "go"), sleep(2, 30.0), sleep(3, 0.0))
        until(lambda: pool(nodes.addresses["n1"]).get("queued") == 2)
        wire.send(m.Cancel(1), m.Cancel(2))
        answer = wire.answer(2)
        assert isinstance(answer, m.Error)
        assert (answer.code, answer.meta and answer.meta.get("ran")) == (401, False)
        assert 1 not in wire.answers, "it runs on"
        (tmp_path / "go").touch()
        assert isinstance(wire.answer(3), m.Result), "it would have waited for half a minute"
        assert isinstance(wire.answer(1), m.Result)


def test_a_storm_of_cancels_ends_its_connection(nodes: Nodes, tmp_path: Path) -> None:
    """Calls that are begun and cancelled over and over cost the one who does it the connection, nobody else."""
    one_container(nodes, tmp_path, "n1")
    with closing(WireClient(nodes.addresses["n1"])) as witness, closing(Wire(nodes.addresses["n1"])) as wire:
        wire.send(hold(1, tmp_path / "go"))
        until(lambda: pool(nodes.addresses["n1"])["busy"] == 1)
        wire.send(*[m.Cancel(1)] * 300)
        while wire.read():
            pass
        assert wire.farewell == "too_many_cancels"
        (tmp_path / "go").touch()
        assert witness.call("sleeper", None, "sleep", 0) == "n1"


def test_a_full_pool_refuses_a_whole_session_queue(nodes: Nodes, tmp_path: Path) -> None:
    """Two hundred calls of one session while the pool's queue is full: each is answered 101."""
    one_container(nodes, tmp_path, "n1")
    address = nodes.addresses["n1"]
    with closing(Wire(address)) as first, closing(Wire(address)) as second, closing(Wire(address)) as third:
        first.send(*[hold(n, tmp_path / "go") for n in range(1, 251)])
        second.send(*[hold(n, tmp_path / "go") for n in range(1, 101)])
        until(lambda: (figures := pool(address)).get("busy") == 1 and figures["queued"] >= 299)
        third.send(hold(300, tmp_path / "go"), hold(301, tmp_path / "go"), *[sleep(n, 0.0, "s") for n in range(1, 201)])
        for n in range(1, 201):
            answer = third.answer(n)
            assert isinstance(answer, m.Error)
            assert answer.code == 101


def test_without_a_timeout_the_functions_deadline_counts(nodes: Nodes, tmp_path: Path) -> None:
    """timeout_ms 0 is no deadline that has passed: a short call is answered, a long one 401."""
    one_container(nodes, tmp_path, "n1")
    with closing(Wire(nodes.addresses["n1"])) as wire:
        wire.send(sleep(3, 0.0))
        assert isinstance(wire.answer(3), m.Result), "now there is a container, whose start nobody waits for"
        wire.send(sleep(1, 0.0, timeout_ms=0))
        assert isinstance(wire.answer(1), m.Result)
        wire.send(sleep(2, 20.0, timeout_ms=0))
        late = wire.answer(2)
        assert isinstance(late, m.Error)
        assert late.code == 401


class SilentLink:
    """As `Connections.keep_alive` sees a connection."""

    def __init__(self, answers: bool) -> None:
        self.heard, self.unheard, self.answers = True, 0, answers
        self.sent: list[bytes] = []
        self.farewell = ""

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.heard = self.answers

    def flush(self) -> None:
        pass

    def goaway(self, reason: str) -> None:
        self.farewell = reason


async def test_who_is_silent_is_asked_and_then_cut(autojump_clock: trio.testing.MockClock) -> None:
    """A PING after half a minute, a second one, then GOAWAY; one that answers stays for ever."""
    connections = Connections.__new__(Connections)
    dead, alive = SilentLink(answers=False), SilentLink(answers=True)
    connections.links = {dead, alive}  # type: ignore[arg-type]
    with trio.move_on_after(PING_SECONDS * (MAX_UNHEARD + 2.5)):
        await connections.keep_alive()
    assert len(dead.sent) == MAX_UNHEARD
    assert dead.farewell == "idle"
    assert alive.sent
    assert alive.farewell == ""


def test_a_call_counts_as_in_flight_until_its_work_ends(nodes: Nodes, tmp_path: Path) -> None:
    """256 calls that are answered 401 and run on leave no place on their connection; when the work has ended there
    is place again. Those that had not begun are out of the way at once."""
    manifest = tmp_path / "sleeper" / "function.toml"
    shutil.copytree(SLEEPER, tmp_path / "sleeper")
    manifest.write_text(manifest.read_text().replace("max = 2", "min = 8\nmax = 8"))
    address = nodes.start("n1", containers=8)
    deploy(address, tmp_path / "sleeper")
    until(lambda: edgectl(address, "status")["containers"]["used"] == 8)
    with closing(Wire(address)) as wire:
        # Those that a container takes in time run on, nearly always eight; the others are dropped at their deadline.
        wire.send(*[hold(n, tmp_path / "go", timeout_ms=1000) for n in range(1, MAX_INFLIGHT + 1)])
        for n in range(1, MAX_INFLIGHT + 1):
            late = wire.answer(n)
            assert isinstance(late, m.Error)
            assert late.code == 401
        wire.send(*[sleep(1000 + n, 0.0) for n in range(MAX_INFLIGHT)])
        wire.barrier()
        refused = [answer.code for answer in wire.answers.values() if answer.id > 1000 and isinstance(answer, m.Error)]
        assert set(refused) == {101}
        until(lambda: pool(address)["busy"] == len(refused))
        (tmp_path / "go").touch()
        answers = [wire.answer(1000 + n) for n in range(MAX_INFLIGHT)]
        assert sum(isinstance(answer, m.Result) for answer in answers) == MAX_INFLIGHT - len(refused)
        until(lambda: pool(address)["busy"] == 0)
        wire.send(*[sleep(2000 + n, 0.0) for n in range(MAX_INFLIGHT)])
        assert all(isinstance(wire.answer(2000 + n), m.Result) for n in range(MAX_INFLIGHT))


def test_a_session_goes_on_after_a_call_that_expired_in_the_pools_queue(nodes: Nodes, tmp_path: Path) -> None:
    """Its call waited for a container when its time was over: that one was not run, the next one is."""
    one_container(nodes, tmp_path, "n1")
    with closing(Wire(nodes.addresses["n1"])) as wire:
        wire.send(hold(1, tmp_path / "go"))
        until(lambda: pool(nodes.addresses["n1"])["busy"] == 1)
        wire.send(sleep(2, 0.0, "s", timeout_ms=100), sleep(3, 0.0, "s"))
        expired = wire.answer(2)
        assert isinstance(expired, m.Error)
        assert (expired.code, expired.meta and expired.meta.get("ran")) == (401, False)
        (tmp_path / "go").touch()
        assert isinstance(wire.answer(3), m.Result)


def test_a_function_that_waits_gets_the_slot_that_another_no_longer_needs(nodes: Nodes, tmp_path: Path) -> None:
    """With one slot and two functions: calls of the second run once the first has nothing to do, without another call."""
    one_container(nodes, tmp_path, "n1")
    deploy(nodes.addresses["n1"], SLEEPER.parents[3] / "configs" / "functions" / "echo")
    served_by(nodes.addresses["n1"], "echo", 1)
    with closing(Wire(nodes.addresses["n1"])) as wire:
        wire.send(hold(1, tmp_path / "go"))
        until(lambda: pool(nodes.addresses["n1"])["busy"] == 1)
        wire.send(m.Invoke(2, "echo", None, "call", None, 60_000, pack([7])))
        wire.barrier()
        assert 2 not in wire.answers
        (tmp_path / "go").touch()
        assert isinstance(wire.answer(2), m.Result), "it waited until its deadline beside an idle container"
        assert isinstance(wire.answer(1), m.Result)


def test_what_a_device_says_of_chain_and_alarm_counts_for_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """Only nodes speak of these: from a device they would be a call in a circle, and one for an alarm that is not set."""
    one_container(nodes, tmp_path, "n1")
    meta = {"chain": [["sleeper", "s"]] * 16, "alarm": ["fire", "none", 1, 1, 0, 1.0, 0, ""], "hops": 2}
    with closing(Wire(nodes.addresses["n1"])) as wire:
        wire.send(sleep(1, 0.0, "s")._replace(meta=meta))
        assert isinstance(wire.answer(1), m.Result)
