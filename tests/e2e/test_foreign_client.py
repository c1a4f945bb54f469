"""A client in another language, written from protocol/SPEC.md alone, against real daemons."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.dev_mesh import dev_mesh
from support.nodes import until
from support.wire_client import WireClient

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests" / "support" / "clients" / "device.mjs"
EACH = 1000
SECONDS = 60
"""Of one client: far more than it needs on a busy machine."""


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node; in CI it must be there, elsewhere its absence is said."""
    path = shutil.which("node")
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError("node is missing in CI: install the Debian package nodejs")
        pytest.skip("NOT TESTED: the client in another language needs Node (Debian: nodejs)")
    return path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Two nodes with counter deployed."""
    with dev_mesh(2, tmp_path_factory.mktemp("mesh"), "counter") as nodes:
        yield nodes


def start(node: str, address: str, *words: str) -> subprocess.Popen[str]:
    """One client process."""
    command = [node, str(CLIENT), address, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a client printed when it ended."""
    out, _ = process.communicate(timeout=SECONDS + 30)
    told: dict[str, Any] = json.loads(out)
    return told


def test_two_foreign_clients_count_exactly(node: str, mesh: list[dict[str, Any]]) -> None:
    """Two processes at two nodes increment one session, many calls at once, while it moves: each counts once."""
    numbers = count()
    until(lambda: counted_over_a_move(node, mesh, f"foreign-{next(numbers)}"))


def counted_over_a_move(node: str, mesh: list[dict[str, Any]], session: str) -> bool:
    """All of that, with one session; whether any answer came after the move, which may have taken longer than the calls."""
    words = ("counter", session, "incr", str(EACH), str(SECONDS), "1")
    clients = [start(node, row["address"], *words) for row in mesh]
    operator = WireClient(mesh[0]["address"], "operator")
    reader = WireClient(mesh[1]["address"])
    while not reader.call("counter", session, "get"):
        pass  # until one increment is there: the move is to meet a session in use
    moved = operator.request("session.localize", {"function": "counter", "session": session})
    assert moved["mode"] == "local"
    told = [told_by(client) for client in clients]
    assert [row["errors"] for row in told] == [[], []]
    assert [client.returncode for client in clients] == [0, 0]
    assert sorted(told[0]["values"] + told[1]["values"]) == list(range(1, 2 * EACH + 1))
    assert reader.call("counter", session, "get") == 2 * EACH
    for client in (operator, reader):
        client.close()
    return bool(max(row["epoch"] for row in told) >= moved["epoch"])


def test_an_unknown_function_is_told(node: str, mesh: list[dict[str, Any]]) -> None:
    """A call that cannot be run fails with its code, once, without a retry."""
    client = start(node, mesh[0]["address"], "nothing", "-", "", "1", "10")
    told = told_by(client)
    assert client.returncode == 1
    assert [error["code"] for error in told["errors"]] == [204]
    assert (told["values"], told["tries"]) == ([], 1)


def test_a_function_error_is_told(node: str, mesh: list[dict[str, Any]]) -> None:
    """A handler that raises is the caller's to know, with its type."""
    client = start(node, mesh[0]["address"], "counter", "typed", "incr", "1", "10", '"one"')
    told = told_by(client)
    assert client.returncode == 1
    assert [(error["code"], error["type"]) for error in told["errors"]] == [(301, "TypeError")]


def test_a_node_understands_the_transcript(mesh: list[dict[str, Any]]) -> None:
    """What the specification's device sends, byte for byte, makes a real node count."""
    text = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")
    frames = [bytes.fromhex(data) for data in re.findall(r"^> ([0-9a-f\s]+)^=", text, re.M)]
    host, port = mesh[0]["address"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=SECONDS) as sock:
        stream = sock.makefile("rwb")
        answers = []
        for frame in frames:
            stream.write(frame)
            stream.flush()
            length = int.from_bytes(stream.read(4), "big")
            answers.append(stream.read(length))
        stream.close()
    # WELCOME; RESULT 5; the retry's, remembered; ERROR 204; PONG 7
    assert [answer[:2].hex() for answer in answers] == ["9202", "9411", "9411", "9512", "9205"]
    assert [answer[2:6].hex() for answer in answers[1:3]] == ["01c40105", "02c40105"]
    assert answers[3][2:6].hex() == "03ccccd9"
    assert answers[4].hex() == "920507"


Answerer = Callable[[m.Invoke], m.Result | m.Error | None]
WELCOME = {
    "proto": 1,
    "mesh": "m",
    "node": "n",
    "max_frame": 1114112,
    "max_inflight": 8,
    "brokers": [],
}


class Broker:
    """A node of our own making: notes every INVOKE and answers as told; None ends the connection."""

    def __init__(self, answer: Answerer) -> None:
        self.calls: list[m.Invoke] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        connection = Connection.acceptor(lambda _: m.Welcome(WELCOME))
        while data := sock.recv(65536):
            messages = connection.receive(data)
            sock.sendall(connection.outgoing())
            for message in messages:
                if isinstance(message, m.Invoke):
                    self.calls.append(message)
                    answer = self._answer(message)
                    if answer is None:
                        return
                    sock.sendall(encode(answer))

    def close(self) -> None:
        self._listener.close()


def told_with(node: str, answer: Answerer, count: int) -> tuple[dict[str, Any], list[m.Invoke]]:
    """What the client prints when its broker answers like that, and what it sent."""
    broker = Broker(answer)
    told = told_by(start(node, broker.address, "f", "s", "m", str(count), "20"))
    broker.close()
    return told, broker.calls


def test_the_client_repeats_as_the_specification_says(node: str) -> None:
    """Refusals are repeated under one call id; `attempt` counts only the tries that may have run."""
    script: Iterator[Any] = iter([(101, {"retry_after_ms": 1}), (402, {}), (103, {}), None, (401, {"ran": False})])

    def answer(call: m.Invoke) -> m.Result | m.Error | None:
        step: Any = next(script, 0)
        if step is None:
            return None
        if step == 0:
            return m.Result(call.id, b"\x07", {"epoch": 1})
        return m.Error(call.id, step[0], "as told", step[1])

    told, calls = told_with(node, answer, 1)
    assert (told["values"], told["errors"]) == ([7], [])
    assert [(call.meta or {}).get("attempt", 0) for call in calls] == [0, 0, 1, 1, 2, 2]
    assert len({call.call_id for call in calls}) == 1
    budgets = [call.timeout_ms for call in calls]
    assert budgets == sorted(budgets, reverse=True)


def test_the_client_drops_answers_of_a_former_owner(node: str) -> None:
    """After an answer of epoch 7 one of epoch 6 is none: the call is repeated as one that may have run."""
    epochs = iter([7, 6, 7])

    def answer(call: m.Invoke) -> m.Result:
        epoch = next(epochs)
        return m.Result(call.id, bytes([epoch]), {"epoch": epoch})

    told, calls = told_with(node, answer, 2)
    assert (told["values"], told["errors"]) == ([7, 7], [])
    assert [(call.meta or {}).get("attempt", 0) for call in calls] == [0, 0, 1]
    assert calls[2].call_id == calls[1].call_id


@pytest.mark.parametrize("code", [404, 299])
def test_the_client_does_not_repeat_what_cannot_help(node: str, code: int) -> None:
    """An outcome that is forgotten, or a code of the future in the 200s, goes to the caller at once."""
    told, calls = told_with(node, lambda call: m.Error(call.id, code, "no", None), 1)
    assert [error["code"] for error in told["errors"]] == [code]
    assert len(calls) == 1
