"""Sessions on the move: what operators and other nodes ask of this node's actors (DESIGN §5).

Decides nothing of a move: `core.sessions` does. This joins its events with whoever waits for the outcome, and
carries what an actor tells another node. Refuses to know which node should have a session.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

from edged.core import effects as fx
from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.errors import Code, RemoteProtocolError, call_error

from . import packing
from .peers import Peers
from .relay import Relay
from .timers import Timers
from .workers import Workers

MOVE_SECONDS = 55.0
"""For a whole move: a container's start, a state of many MiB in several rounds, a store far away. Less than a verb may
take."""


LARGE = ("results", "changes", "alarms")


class _Ending:
    """How one thing asked of an actor ends: its `Done`."""

    def __init__(self) -> None:
        self.came = trio.Event()
        self.code, self.message, self.at = 0, "", 0.0
        self.result: m.Map = {}

    def __call__(self, code: int, message: str, result: m.Map) -> None:
        self.code, self.message, self.result = code, message, result
        self.at = trio.current_time()
        self.came.set()

    def check(self) -> None:
        """Raises CallError if it ended badly."""
        if self.code:
            raise call_error(self.code, self.message)


Asker = Callable[[int, str, m.Map], None]
"""Who is told how a step ended: code 0, or why not."""


class Moves:
    """`move` for operators, `invited`, `offered`, `committed` for other nodes; `tell` for the relay."""

    def __init__(
        self,
        node: str,
        relay: Relay,
        workers: Workers,
        peers: Peers,
        timers: Timers,
        serials: Iterator[int],
    ) -> None:
        self._node = node
        self._relay = relay
        self._workers = workers
        self._peers = peers
        self._timers = timers
        self._serials = serials
        self.lease: Callable[[], Awaitable[None]]
        """Waits for the lease of this node."""

    async def move(
        self, key: SessionKey, move: str, to: str, forced: bool = False, frozen: bool = False, dwells: bool = False
    ) -> m.Map:
        """Run one move of a session here and wait for its end; what `session.*` answers. Raises CallError.

        A migration goes on whatever its pause when it is `forced`, and copies nothing before it when it is `frozen`;
        what is no operator's (`dwells`) is refused within the session's dwell time.
        """
        self._check(key, move)
        if move == "localize":
            await self.lease()
        if to and move == "migrate":
            to = f"{to}/{self._peers.boot_of(to)}" if to != self._node else to
        ending, now = _Ending(), trio.current_time()
        move_id = secrets.token_bytes(16)
        seat = self._relay.seating.seat(key)
        self._relay.seating.perform(seat, lambda s: s.want(move, ending, to, move_id, now, forced, frozen, dwells))
        self._relay.settle()
        with trio.move_on_after(MOVE_SECONDS):
            await ending.came.wait()
        if not ending.came.is_set():
            raise call_error(Code.DEADLINE_EXCEEDED, f"the move did not end in {MOVE_SECONDS:g} s")
        ending.check()
        pause = ending.at - ending.result.get("began", ending.at)
        self._relay.measuring.ledger.switched(key.function, pause)
        local = move not in ("externalize", "end")
        where = to.partition("/")[0] or self._node
        return {
            "function": key.function,
            "session": key.session,
            "mode": "local" if local else "remote",
            "node": where if local else None,
            "epoch": seat.epoch,
            "version": seat.version,
            "pause_ms": round(pause * 1000, 3),
            "bytes": ending.result.get("size", 0),
            "wire_bytes": ending.result.get("on_wire", 0),
            "rounds": ending.result.get("rounds", 0),
            "copy_ms": round(ending.result.get("copied", 0.0) * 1000, 3),
        }

    def _check(self, key: SessionKey, move: str) -> None:
        """Raises CallError for what this node cannot do; a session that is here may always leave."""
        if move == "localize":
            self._check_open()
        if key not in self._relay.seats and key.function not in self._workers.served.functions:
            raise call_error(Code.NO_CAPACITY, f"{self._node} does not run {key.function}")

    def _check_open(self) -> None:
        if self._relay.draining or self._workers.resting:
            raise call_error(Code.DRAINING, f"{self._node} is drained or stopping")

    # Being the target of a migration

    def invited(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """A session wants to move here. Raises CallError."""
        self._check_open()
        self._check_version(key, params.get("hash"))
        source, move, now = str(params["from"]), bytes(params["move"]), trio.current_time()
        self._step(key, lambda s: s.invited(asker, source, move, now))

    def _check_version(self, key: SessionKey, hash_: Any) -> None:
        """A state goes only to the version that it comes from: another one may not understand it."""
        function = self._workers.served.version_for(*key)
        if function is None:
            raise call_error(Code.NO_SUCH_FUNCTION, f"{self._node} does not run {key.function}")
        if hash_ is not None and hash_ != function.spec.hash:
            raise call_error(Code.NO_SUCH_FUNCTION, f"{self._node} runs another version of {key.function}")

    def piece(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """A part of its state. Raises CallError."""
        now = trio.current_time()
        whole: m.Map = {"n": int(params["n"]), "more": bool(params["more"]), "whole": bool(params["whole"])}
        whole["move"] = bytes(params["move"])
        data = blob or b""
        if "packed" in params:
            data = packing.unpacked(data, params["packed"], params.get("size"))
        self._step(key, lambda s: s.piece(asker, whole, data, now))

    def offered(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """All of it was sent; here is what it remembers. Raises CallError."""
        now = trio.current_time()
        try:
            large = dict(zip(LARGE, unpack(blob or b""), strict=True))
        except (RemoteProtocolError, ValueError, TypeError) as error:
            raise call_error(Code.BAD_REQUEST, f"not what a session remembers: {error}") from error
        whole = {**params, **large}
        self._step(key, lambda s: s.offered(asker, whole, now))

    def committed(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """The record names this node."""
        move, now = bytes(params["move"]), trio.current_time()
        self._step(key, lambda s: s.committed(move, now))
        asker(0, "", {})

    def withdrawn(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """The source goes on."""
        move, now = bytes(params["move"]), trio.current_time()
        self._step(key, lambda s: s.withdrawn(move, now))
        asker(0, "", {})

    # After it

    def regain(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """Whom the record names has lost the session; here may be a copy. Raises CallError."""
        move, seq, now = bytes(params["move"]), params.get("lost_seq"), trio.current_time()
        if key not in self._relay.seats:
            raise call_error(Code.MOVING, "no copy is kept here")
        if seq is not None and type(seq) is not int:
            raise call_error(Code.BAD_REQUEST, "session.regain: lost_seq is a number")
        self._step(key, lambda s: s.regain(asker, move, seq, now))

    def thanked(self, key: SessionKey, params: m.Map, blob: bytes | None, asker: Asker) -> None:
        """The target has the session, and all of it safe."""
        move, now = bytes(params["move"]), trio.current_time()
        if key in self._relay.seats:
            self._step(key, lambda s: s.safe_there(move, now))
        asker(0, "", {})

    def _step(self, key: SessionKey, step: Callable[[Seat], list[fx.Effect]]) -> None:
        """Within a look at the connections, which writes what comes of it."""
        self._relay.seating.perform(self._relay.seating.seat(key), step)

    # Being its source

    def tell(self, effect: fx.Tell, done: Callable[[int, str], None]) -> None:
        """Send what an actor tells another node; `done` gets the answer's code, 0 for consent."""
        link = self._relay.peers.get(effect.node)
        if link is None or link.closed:
            if effect.token:
                self._timers.call_at(trio.current_time(), lambda: done(105, "it is not reachable"))
            return

        def answered(message: m.Reply | m.Error) -> None:
            if isinstance(message, m.Error):
                done(message.code, message.message)
            else:
                done(0, "")

        serial = next(self._serials)
        link.waiting[serial] = answered
        link.send(encode(m.Request(serial, effect.verb, *self._packed(effect, bool(link.info.get("packs"))))))
        self._relay.touch(link)

    def _packed(self, effect: fx.Tell, compressed: bool) -> tuple[m.Map, Any]:
        """Parameters and blob; remembered answers may be larger than anything outside a blob may be."""
        params = effect.params
        if effect.verb == "session.invite":
            seat = self._relay.seats[SessionKey(params["function"], params["session"])]
            return {**params, "hash": seat.container.function.spec.hash}, None
        if effect.verb == "session.offer":
            large = [params[name] for name in LARGE]
            return {name: value for name, value in params.items() if name not in LARGE}, pack(large)
        if effect.verb == "session.chunk" and effect.blob is not None:
            return self._piece(params, effect.blob, compressed)
        return params, effect.blob

    def _piece(self, params: m.Map, piece: bytes, compressed: bool) -> tuple[m.Map, bytes]:
        """A piece of a state, as it leaves."""
        smaller = packing.packed(piece) if compressed else None
        copy = self._relay.seats[SessionKey(params["function"], params["session"])].copy
        if copy is not None:
            copy.on_wire += len(piece if smaller is None else smaller)
        return (params, piece) if smaller is None else ({**params, "packed": packing.NAME, "size": len(piece)}, smaller)
