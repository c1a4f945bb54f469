"""The benchmark's own parts: the load generator against the raw chains."""

import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection


@pytest.mark.parametrize("relays", [0, 2])
def test_every_call_is_answered_once(bench: None, relays: int) -> None:
    """1,000 calls, one by one and 64 at a time: as many latencies, no failure, ids matched."""
    from generator import Line, Target
    from processes import Children

    target = Target("echo", args=(b"x" * 125,))
    with Children() as children, Line(children.chain(relays)) as line:
        for in_flight in (1, 64):
            load = line.drive([target], in_flight, calls=1000)
            assert (load.calls, len(load.latencies), load.failures) == (1000, 1000, {})
            assert load.latencies == sorted(load.latencies) and load.latencies[0] > 0
        assert line.call(target)[0] == [b"x" * 125]


def test_fewer_calls_than_may_be_in_flight(bench: None) -> None:
    """A limit below the number in flight is kept."""
    from generator import Line, Target
    from processes import Children

    with Children() as children, Line(children.chain(0)) as line:
        assert line.drive([Target("echo")], 64, calls=5).calls == 5


def test_calls_carry_their_target_and_a_call_id_of_their_own(bench: None) -> None:
    """What goes out are valid INVOKE frames, spread evenly, no call id twice."""
    from generator import Target

    targets = [Target("counter", f"s{n}", "incr", (n,), once=True) for n in range(4)]
    with Answering() as node, line_to(node) as line:
        assert line.drive(targets, 8, calls=400).calls == 400
    assert {(c.function, c.method, c.timeout_ms) for c in node.calls} == {
        ("counter", "incr", 10_000)
    }
    assert [sum(c.session == f"s{n}" for c in node.calls) for n in range(4)] == [100] * 4
    assert len({call.call_id for call in node.calls}) == 400


def test_errors_are_counted_apart(bench: None) -> None:
    """An ERROR ends its call and is not taken for an answer."""
    from generator import Target

    with Answering(refuse=10) as node, line_to(node) as line:
        load = line.drive([Target("echo")], 4, calls=100)
    assert (load.calls, load.failures) == (90, {101: 10})


def test_a_wrong_id_is_noticed(bench: None) -> None:
    """An answer to a call that is not in flight ends the measurement."""
    from generator import Mismatch, Target

    with Answering(shift=7) as node, line_to(node) as line, pytest.raises(Mismatch):
        line.drive([Target("echo")], 2, calls=10)


def test_processor_time_is_that_of_the_whole_family(bench: None) -> None:
    """What a child uses counts, what anybody else uses does not."""
    import machine
    from processes import Children, said

    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"
    with Children() as children:
        before = machine.processor_seconds()
        said(children.start([sys.executable, "-c", busy]), 60)
        assert 0.15 < machine.processor_seconds() - before < 5


def test_the_program_explains_itself(bench: None) -> None:
    """--help ends with an example."""
    import run

    result = CliRunner().invoke(run.main, ["--help"])
    assert result.exit_code == 0
    assert "Example: python tools/bench/run.py" in result.output


def line_to(node: "Answering") -> Any:
    """A load generator's line to it."""
    from generator import Line

    return Line(node.address)


class Answering:
    """A node in a thread that decodes with the protocol package: one client, every call kept."""

    def __init__(self, refuse: int = 0, shift: int = 0) -> None:
        self.calls: list[m.Invoke] = []
        self._refuse, self._shift = refuse, shift
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        welcome = m.Welcome({"proto": 1, "mesh": "t", "node": "t", "max_frame": 65536})
        connection = Connection.acceptor(lambda _: welcome)
        sock, _ = self._listener.accept()
        with sock:
            while data := sock.recv(65536):
                for message in connection.receive(data):
                    if isinstance(message, m.Invoke):
                        sock.sendall(encode(self._answer(message)))
                sock.sendall(connection.outgoing())

    def _answer(self, call: m.Invoke) -> m.Message:
        self.calls.append(call)
        if len(self.calls) <= self._refuse:
            return m.Error(call.id, 101, "busy")
        return m.Result(call.id + self._shift, call.body)


def test_two_nodes_apart_have_a_core_each_and_are_free_again(bench: None) -> None:
    """Each with what it started; afterwards all may run wherever they could before."""
    import machine

    everywhere = machine.cores()
    if len(everywhere) < 2:
        pytest.skip("NOT TESTED FOR LACK OF a second core")
    command = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"]
    nodes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for node in nodes:
            assert node.stdout is not None and node.stdout.readline() == b"1\n"
        family = [sorted(machine._family(node.pid)) for node in nodes]
        assert [len(pids) for pids in family] == [2, 2]
        with machine.apart([nodes[0].pid], [nodes[1].pid]):
            laid = [{pid: os.sched_getaffinity(pid) for pid in pids} for pids in family]
            assert (machine.cores(), laid) == (everywhere[:1], [{key: {c} for key in f} for f, c in zip(family, everywhere, strict=False)])
        assert machine.cores() == everywhere
        assert all(sorted(os.sched_getaffinity(pid)) == everywhere for pids in family for pid in pids)
    finally:
        for node in nodes:
            node.communicate(b"\n")
