"""Clients that want each of their calls to count once, and repeat it by the book until they know."""

from typing import TYPE_CHECKING, Any

from edged_protocol.errors import call_error
from edged_protocol.retrying import Verdict, doubled, verdict_on

if TYPE_CHECKING:
    from .mesh import Mesh

TIMEOUTS = (0.3, 1.0, 3.0)
MARGIN = 0.1
"""Seconds beyond the deadline for its answer to come."""


class Request:
    """One call a client wants done, through as many tries as it takes."""

    def __init__(self, mesh: "Mesh", number: int) -> None:
        chance = mesh.chance
        self.mesh = mesh
        self.token = number.to_bytes(2, "big")
        self.method = "get" if chance.random() < 0.1 else "incr"
        self.call_id = None if chance.random() < 0.1 else chance.randbytes(16)
        if self.call_id is not None and self.method == "incr":
            mesh.history.ids[self.token] = self.call_id
        self.prefer = chance.choice(("local", "remote")) if chance.random() < 0.05 else None
        self.attempt = 0
        self.repeats = 0
        self.code: int | None = None

    def send(self) -> None:
        """Try, at a node that is there."""
        up = [node for node in self.mesh.nodes.values() if node.alive]
        if not up:
            self.mesh.clock.after(0.1, self.send)
            return
        Try(self, self.mesh.chance.choice(TIMEOUTS)).send(self.mesh.chance.choice(up))

    def ended(self, code: int) -> None:
        """The client knows, or cannot know more."""
        self.code = code


class Try:
    """One INVOKE and what comes back, once: an answer or a broken connection."""

    def __init__(self, request: Request, timeout: float) -> None:
        self.request = request
        self.timeout = timeout
        self.number = request.attempt
        self.sent_at = request.mesh.clock.now
        self.over = False

    def send(self, node: Any) -> None:
        """Over a connection that may break before the answer comes."""
        mesh = self.request.mesh
        mesh.clock.after(mesh.chance.random() * 0.003, lambda: node.invoked(self))
        mesh.clock.after(self.timeout + MARGIN, self.broken)
        if mesh.faults.hit("client_lost"):
            mesh.clock.after(mesh.chance.random() * 0.1, self.broken)

    def answered(self, code: int, message: str, meta: dict[str, Any] | None) -> None:
        """RESULT (0) or ERROR."""
        if self.over:
            return
        self.over = True
        request = self.request
        request.mesh.say("client %s: %s %s", request.token.hex(), code, message)
        verdict = Verdict.FINAL if code == 0 else verdict_on(call_error(code, message, meta))
        if verdict is Verdict.FINAL or (request.call_id is None and verdict is Verdict.IN_DOUBT):
            request.ended(code)
        else:
            self._again(verdict)

    def broken(self) -> None:
        """The connection ended with the call under way, or nothing has come for longer than the call may take."""
        if self.over:
            return
        self.over = True
        self.request.mesh.say("client %s: no answer", self.request.token.hex())
        if self.request.call_id is None:
            self.request.ended(403)
        else:
            self._again(Verdict.IN_DOUBT)

    def _again(self, verdict: Verdict) -> None:
        """A window that forgets soon needs clients that wait: else a first try may outlive its id."""
        request, mesh = self.request, self.request.mesh
        request.attempt += verdict is Verdict.IN_DOUBT
        request.repeats += 1
        pause = mesh.chance.random() * doubled(0.05, min(request.repeats, 4))
        if mesh.patient and verdict is Verdict.IN_DOUBT:
            pause += max(0.0, self.sent_at + self.timeout + MARGIN - mesh.clock.now)
        mesh.clock.after(pause, request.send)
