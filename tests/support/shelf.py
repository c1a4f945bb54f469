"""A developer's own service: it keeps states by key for a function's hooks, takes them from no lower epoch, and may be closed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CODE = """
import json
import urllib.request

from edged.sdk import Function, Session

fn = Function("shelved", state=dict)


def ask(s, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{s.key}/{s.epoch}", data=body)
    with urllib.request.urlopen(request, timeout=5) as reply:
        return json.loads(reply.read())


@fn.handler
def incr(s: Session) -> int:
    s.state["n"] = s.state.get("n", 0) + 1
    return s.state["n"]


@fn.download
def fetch(s: Session) -> dict:
    return ask(s, None)


@fn.upload
def push(s: Session) -> None:
    ask(s, json.dumps(s.state).encode())
"""


class Shelf:
    """`states` by key; `asked` are the hooks' calls in their order: which, at which epoch, whether it was done."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.asked: list[tuple[str, int, bool]] = []
        self.closed = False
        self._highest = 0
        shelf = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shelf.answer(self, "download", None)

            def do_POST(self) -> None:
                shelf.answer(self, "upload", self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                """Not in a test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def code(self) -> str:
        """Of a function that counts, and whose hooks ask this service."""
        return CODE.replace("{port}", str(self._server.server_address[1]))

    def answer(self, request: BaseHTTPRequestHandler, hook: str, body: bytes | None) -> None:
        _, key, number = request.path.split("/")
        epoch = int(number)
        done = not self.closed and epoch >= self._highest
        self.asked.append((hook, epoch, done))
        if done:
            self._highest = epoch
            if body is not None:
                self.states[key] = json.loads(body)
        data = json.dumps(self.states[key]).encode() if done else b""
        request.send_response(200 if done else 503)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
