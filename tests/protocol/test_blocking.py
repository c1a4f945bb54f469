"""The blocking front on real sockets: one thread, many calls, brokers that come and go."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.socket_broker import Question, SocketBroker, Talk, echo, listener_of

from edged_protocol import messages as m
from edged_protocol.blocking import connect
from edged_protocol.errors import CallError, RanError, UnknownOutcome
from edged_protocol.tickets import Unreachable

PATIENCE = 60.0
"""Seconds for anything that has to happen, on a machine with other work."""


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def silent(talk: Talk, asked: Question) -> None:
    """Never answer."""


def test_calls_verbs_and_streams_pass() -> None:
    """A value, an answer with what the mesh said, a verb with a byte string, the items of a stream."""

    def script(talk: Talk, asked: Question) -> None:
        if isinstance(asked, m.Request) and asked.verb == "function.logs":
            talk.say(*(m.Item(asked.id, n, False) for n in (1, 2)), m.Item(asked.id, None, True))
        else:
            echo(talk, asked)

    with SocketBroker(script) as broker:
        with connect([broker.address], name="t", role="operator", token="k") as mesh:
            assert mesh.session("f", "s").call("m", {"x": b"\0"}) == {"x": b"\0"}
            answer = mesh.function("f").invoke("m", 7, timeout=PATIENCE, call_id=b"i" * 16)
            assert (answer.value, answer.node, answer.call_id) == (7, "n1", b"i" * 16)
            assert mesh.request("v", {"a": 1}, b"blob") == ({"a": 1}, b"blob")
            assert list(mesh.stream("function.logs", {})) == [1, 2]
        (talk,) = broker.talks
        hello = talk.got[0]
        assert isinstance(hello, m.Hello)
        assert hello.info == {"proto": 1, "role": "operator", "name": "t", "token": "k"}


@pytest.mark.parametrize("family", ["unix", "v6"])
def test_unix_sockets_and_ipv6_lead_there(family: str, tmp_path: Path) -> None:
    """`unix:/path` and `[v6]:port`."""
    with SocketBroker(listener=listener_of(family, tmp_path)) as broker:
        with connect([broker.address], name="t") as mesh:
            assert mesh.function("f").call("m", 1) == 1


def test_a_name_is_tried_address_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first address of a name refuses, the next one is tried."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    with SocketBroker() as broker:
        serving = ("127.0.0.1", int(broker.address.rpartition(":")[2]))
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        rows = [(*kind, refusing), (*kind, serving)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
        with connect(["edge.example:7400"], name="t") as mesh:
            assert mesh.function("f").call("m", 1) == 1


def test_nobody_there_is_unreachable_at_once() -> None:
    """When each broker refused, nobody waits for the timeout; the message names each."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(Unreachable, match=f"{address}: .*refused; unix:/nowhere/x.sock: .*No such"):
        with connect([address, "unix:/nowhere/x.sock"], name="t", timeout=3600.0):
            raise AssertionError("there is no broker")
    assert time.monotonic() - began < PATIENCE


def test_500_calls_are_in_flight_without_threads() -> None:
    """Started calls are answered whichever is asked for first; at most 256 are open at the broker."""
    with SocketBroker(max_inflight=256) as broker:
        with connect([broker.address], name="t") as mesh:
            started = [
                mesh.session("f", f"s{n}").start("m", n, timeout=PATIENCE) for n in range(500)
            ]
            assert mesh.statistics().in_flight <= 256
            assert started[-1].result() == 499
            assert [pending.result() for pending in started] == list(range(500))
            assert all(pending.done for pending in started)
            assert started[3].answer().value == 3
        assert len(broker.talks) == 1


def test_a_started_call_is_on_its_way_at_once() -> None:
    """Nobody has to wait for it to be sent, also while others are under way."""
    with SocketBroker(silent) as broker, connect([broker.address], name="t") as mesh:
        for sent in (2, 3, 4):
            mesh.session("f", "s").start("m")
            until(lambda sent=sent: len(broker.talks[0].got) == sent)  # type: ignore[misc]


def test_answers_that_came_while_nobody_waited_count() -> None:
    """A caller that was away beyond every deadline still gets what had come in time, and its connection."""
    with SocketBroker() as broker, connect([broker.address], name="t") as mesh:
        started = [mesh.function("f").start("m", b"x" * 1000, timeout=0.05) for _ in range(100)]
        until(lambda: len(broker.talks[0].got) == 101)
        end = time.monotonic() + 1.2  # past deadline and margin: the answers wait in the socket
        until(lambda: time.monotonic() > end)
        assert [len(pending.result()) for pending in started] == [1000] * 100
        assert mesh.statistics().connections == 1


def test_errors_and_silence_are_told() -> None:
    """An ERROR by its class; past deadline and margin the outcome is unknown: 401, and CANCEL is sent."""

    def script(talk: Talk, asked: Question) -> None:
        talk.say(m.Error(asked.id, 302, "done already"))

    with SocketBroker(script) as broker:
        with connect([broker.address], name="t") as mesh:
            with pytest.raises(RanError, match="302 already_done: done already"):
                mesh.session("f", "s").call("m")
            broker.script = silent
            with pytest.raises(UnknownOutcome, match="401"):
                mesh.session("f", "s").call("m", timeout=0.05)
            until(lambda: m.Cancel(2) in broker.talks[0].got)


def test_a_lost_broker_is_replaced_while_calls_are_in_flight() -> None:
    """50 calls in flight at a broker that dies are answered by the next, under the same ids."""
    got: list[m.Invoke] = []

    def takes(talk: Talk, asked: Question) -> None:
        assert isinstance(asked, m.Invoke)
        got.append(asked)

    with SocketBroker() as second, SocketBroker(takes) as first:
        with connect([first.address, second.address], name="t") as mesh:
            started = [
                mesh.session("f", f"s{n}").start("m", n, timeout=PATIENCE) for n in range(50)
            ]
            until(lambda: len(got) == 50)
            first.close()
            assert [pending.result() for pending in started] == list(range(50))
            assert mesh.statistics().connections == 2
        again = [asked for asked in second.talks[0].got if isinstance(asked, m.Invoke)]
        assert [asked.call_id for asked in again] == [asked.call_id for asked in got]
        assert all(asked.meta == {"attempt": 1} for asked in again)


def test_a_large_body_passes_a_small_socket() -> None:
    """What the socket does not take at once follows when it does, whole and in order."""
    body = bytes(range(256)) * 4000
    with SocketBroker() as broker, connect([broker.address], name="t") as mesh:
        started = [
            mesh.function("f").start("m", bytes([n]) + body, timeout=PATIENCE) for n in range(8)
        ]
        assert [pending.result() for pending in started] == [bytes([n]) + body for n in range(8)]


def test_what_is_cancelled_or_left_early_is_told() -> None:
    """A cancelled call and a stream whose loop ended are CANCELled; the mesh serves on."""

    def script(talk: Talk, asked: Question) -> None:
        if isinstance(asked, m.Request):
            talk.say(m.Item(asked.id, "x", False), m.Item(asked.id, "y", False))

    with SocketBroker(script) as broker, connect([broker.address], name="t") as mesh:
        mesh.session("f", "s").start("m").cancel()
        stream = mesh.stream("function.logs", {"follow": True})
        assert next(stream) == "x"
        stream.close()
        got = broker.talks[0].got
        until(lambda: m.Cancel(1) in got and m.Cancel(2) in got)
        broker.script = echo
        assert mesh.function("f").call("m", 1) == 1


def test_the_end_of_the_block_is_the_end() -> None:
    """What was in flight is unknown, and nothing can be asked any more."""
    with SocketBroker(silent) as broker:
        with connect([broker.address], name="t") as mesh:
            pending = mesh.session("f", "s").start("m")
        with pytest.raises(CallError, match="403 node_lost: the client was closed"):
            pending.result()
        with pytest.raises(Unreachable, match="closed"):
            mesh.session("f", "s").call("m")


INTERRUPTED = """
import sys
from edged_protocol.blocking import connect
with connect([sys.argv[1]], name="t") as mesh:
    try:
        mesh.session("f", "s").call("m", timeout=600.0)
    except KeyboardInterrupt:
        assert mesh.statistics().open == 0
        print(mesh.function("f").call("m", "after"))
"""


def test_an_interrupted_call_is_given_up() -> None:
    """Ctrl-C ends the wait, tells the broker, and leaves the mesh usable."""
    with SocketBroker(silent) as broker:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, broker.address], stdout=subprocess.PIPE, text=True
        )
        until(lambda: bool(broker.talks) and len(broker.talks[0].got) == 2)
        broker.script = echo
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (0, "after\n")
        assert m.Cancel(1) in broker.talks[0].got


@pytest.mark.parametrize("module", ["client", "blocking"])
def test_the_light_parts_stay_light(module: str) -> None:
    """Neither the package nor the shared logic nor this front imports trio; the logic no socket either."""
    code = f"import sys, edged_protocol.{module}; print('trio' in sys.modules, 'socket' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
    assert module == "blocking" or done.stdout.split()[1] == "False"


def test_a_body_of_another_language_is_a_value() -> None:
    """Whatever msgpack carries comes out as Python's own types."""
    value = {"n": [1, -2, 2.5, None, True, "ü", b"\xff"], "deep": [[[{}]]]}
    with SocketBroker() as broker, connect([broker.address], name="t") as mesh:
        assert mesh.function("f").call("m", value) == value
