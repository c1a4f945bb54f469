"""Containers as the sessions see them: they run calls on a state, answer verbs, get stuck, and die."""

import hashlib
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from edged.core.calls import Call
from edged.core.effects import Said
from edged.lab.clock import Clock
from edged_protocol.codec import unpack

from .alarms import asked
from .faults import Faults
from .history import TOKEN, tokens
from .lanes import Lane

HARD_LIMIT = 4.0
BIG = 5000

Told = Callable[..., None]


class Ran(NamedTuple):
    """What a handler did: code, body, message, meta, new state."""

    code: int
    body: bytes
    message: str
    meta: dict[str, Any]
    state: bytes | None


def run_handler(call: Call, state: bytes | None, chance: Random) -> Ran:
    """`incr` notes the call, sometimes with a large answer or by raising; `get` looks."""
    meta: dict[str, Any] = {"run_us": 1}
    if call.method == "get":
        return Ran(0, b"%d" % (len(state or b"") // TOKEN), "", {**meta, "shared": True}, None)
    if chance.random() < 0.06:
        return Ran(301, b"", "it raised", {**meta, "type": "ValueError"}, None)
    if chance.random() < 0.03:
        return Ran(206, b"", "no such method", {}, None)
    alarms = asked(call.body, call.arrived)
    if alarms:
        meta["alarms"] = alarms
    new = (state or b"") + call.body
    body = b"%d" % (len(new) // TOKEN)
    if chance.random() < 0.04:
        meta["prefer"] = chance.choice(("local", "remote"))
    if chance.random() < 0.02:
        meta["end"] = True
    return Ran(0, body.ljust(BIG) if chance.random() < 0.1 else body, "", meta, new)


class Container:
    """A session's own: one job after another, answers in order."""

    def __init__(self, name: str, clock: Clock, chance: Random, faults: Faults) -> None:
        self.name = name
        self.alive = True
        self.state: bytes | None = None
        self.loaded = False
        self._from = 0
        self._staged = b""
        self._clock = clock
        self._chance = chance
        self._faults = faults
        self._jobs: deque[Callable[[], None]] = deque()
        self._stuck = False
        self._answers = Lane(clock, chance, 0.003)

    def call(self, call: Call, allowed: Callable[[], None], told: Told) -> None:
        """Run `call` when its turn comes, or a reader beside what runs; `allowed` says whether it may."""

        def run() -> None:
            if not self.loaded:
                self._say(told, Ran(103, b"", "the session is not here", {}, None))
                return
            allowed()
            ran = run_handler(call, self.state, self._chance)
            if ran.state is not None:
                assert call.body not in tokens(self.state), "a call took effect twice"
                self.state = ran.state
            self.loaded = not ran.meta.get("end")
            self._say(told, ran)

        if call.method == "get" and self.loaded and self._chance.random() < 0.5:
            self._beside(call, allowed, told)
        else:
            self._queue(run)

    def other(self, ended: Callable[[], None]) -> None:
        """A call of another session that shares the container: here it changes nothing but whose turn it is, unless it is
        one that never ends."""

        def run() -> None:
            self._stuck = self._stuck or self._faults.hit("neighbour_stuck")
            if not self._stuck:
                self._say(ended)

        self._queue(run)

    def _beside(self, call: Call, allowed: Callable[[], None], told: Told) -> None:
        """A reader sees the state as it is when it begins; it may end when others have run."""
        version = len(self.state or b"") // TOKEN
        allowed()
        ran = run_handler(call, self.state, self._chance)
        ran.meta["version"] = version
        self._clock.after(self._chance.random() * 0.1, lambda: self._say(told, ran) if self.alive else None)

    def verb(self, verb: str, params: dict[str, Any], blob: bytes | None, told: Told) -> None:
        """A worker verb: what it said, when its turn comes."""

        def run() -> None:
            if self._faults.hit("verb_swallowed"):
                return
            if self._faults.hit("verb_failed") or (verb in NEED_A_SESSION and not self.loaded):
                self._say(told, Said(301, "the hook raised", {}, None))
            else:
                self._say(told, VERBS[verb](self, params, blob))

        self._queue(run)

    def _load(self, params: dict[str, Any], blob: bytes | None) -> Said:
        self.loaded = True
        self.state = b"".join(part or b"" for part in unpack(blob or b"")) if params.get("parts") else blob
        if params.get("staged"):
            self.state = self._staged
        self._from = len(self.state or b"")
        return Said(0, "", {"serial": 0}, None)

    def _snapshot(self, params: dict[str, Any], blob: bytes | None) -> Said:
        state = self.state or b""
        return Said(0, "", {"serial": len(state) - self._from}, state)

    def _delta(self, params: dict[str, Any], blob: bytes | None) -> Said:
        """Calls are never undone here: what changed since a place is what was added behind it."""
        state = self.state or b""
        at = 0 if params["since"] is None else self._from + params["since"]
        end = min(len(state), at + max(TOKEN, params["limit"] // TOKEN * TOKEN))
        places = {"serial": end - self._from, "left": len(state) - end, "head": len(state) - self._from}
        return Said(0, "", {**places, "digest": _digest(state[:end])}, state[at:end] or None)

    def _restore(self, params: dict[str, Any], blob: bytes | None) -> Said:
        self._staged += blob or b""
        return Said(0, "", {"digest": _digest(self._staged)}, None)

    def _say(self, told: Told, *words: Any) -> None:
        self._answers.send(lambda: told(*words) if self.alive else None)

    def _queue(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._clock.after(self._chance.random() * 0.02, self._run)

    def _run(self) -> None:
        self._stuck = self._stuck or self._faults.hit("own_stuck")
        if not self.alive or self._stuck:
            return
        self._jobs[0]()
        self._jobs.popleft()
        if self._jobs:
            self._clock.after(self._chance.random() * 0.02, self._run)


VERBS: dict[str, Callable[[Container, dict[str, Any], bytes | None], Said]] = {
    "worker.load": Container._load,
    "worker.snapshot": Container._snapshot,
    "worker.delta": Container._delta,
    "worker.restore": Container._restore,
}
NEED_A_SESSION = ("worker.snapshot", "worker.delta")


def _digest(state: bytes) -> bytes:
    return hashlib.blake2b(state, digest_size=16).digest() if state else bytes(16)
