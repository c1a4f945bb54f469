"""A container and a function's version, as a node sees them (DESIGN §8).

Decide nothing: `workers` starts, feeds and ends them.
"""

from collections.abc import Callable
from math import ceil, inf
from typing import Any

import trio

from edged.core.calls import Call
from edged.core.parts import for_container
from edged.core.places import Places
from edged.core.pools import Pool
from edged.core.takes import Takes
from edged.core.turns import Turns
from edged_protocol import messages as m
from edged_protocol.codec import encode, encode_invoke
from edged_protocol.plain import hand_over

from .host import Container, Spec
from .link import Link

MAX_CHILDREN = 64
"""Calls one container may have under way; `max_inflight` of its WELCOME."""

FRESH = 0.001
"""Seconds within which a call has not aged: what it has left is told in milliseconds."""

Done = tuple[Call, m.Result | m.Plain | m.Error, float | None]
"""A call, a container's answer to it, and the seconds it ran, if that was said."""


class Worker:
    """One container as the node sees it."""

    def __init__(self, function: "Deployed", container: Container, link: Link) -> None:
        self.function = function
        self.container = container
        self.link = link
        self.name = container.name
        self.seats: list[Any] | None = None
        """The sessions whose own it is; None: it is the pool's, or nobody's."""
        self.home: Any = None
        """Of one that is sessions' own: what it is called where they have their places."""
        self.turns: Turns | None = None
        """Of one that may have several sessions: in which order their calls run."""
        self.calls: dict[int, Call] = {}
        self.beside = False
        self.told = 0.0
        """When it was last told that readers wait behind its call."""
        self.children: dict[int, list[Call]] = {}
        """What its calls, by their serials, have asked of others."""
        self.verbs: dict[int, Callable[[m.Reply | m.Error], None]] = {}
        self.since = inf
        """When it joined its pool; one that is starting has not."""
        self.ready = trio.Event()
        self.gone = trio.Event()
        self.deltas = False
        """Whether it speaks of deltas (SPEC "Containers")."""
        self._asked: tuple[int | None, float] = None, 0.0
        self.several = False
        """Whether it can hold several sessions."""

    def invoke(self, call: Call, now: float) -> None:
        """Send the call; its answer comes through the workers' `answered`."""
        self.calls[call.serial] = call
        call.container = self
        if call.packed is not None and now - call.arrived < FRESH:
            self.link.send(hand_over(call.serial, call.packed))
            return
        left = max(1, ceil((call.deadline - now) * 1000))
        if call.session is None and not call.asks:
            self.link.send(encode_invoke(call.serial, call.function, None, call.method, call.call_id, left, call.body))
            return
        state, meta = call.state, _told(call)
        older = call.form not in (0, self.function.takes.schema)
        if older:
            meta["schema"] = call.form
        if call.deltas:
            state, meta["parts"] = for_container(state, call.deltas, self.deltas and not older)
        call.writes = self.function.takes.schema
        self.link.send(
            encode_invoke(
                call.serial,
                call.function,
                call.session,
                call.method,
                call.call_id,
                left,
                call.body,
                meta or None,
                state,
            )
        )

    def asked_since(self, now: float, runs: bool) -> float:
        """Since when it has not answered the oldest verb though it `runs` no call, as far as those know who ask this now
        and then."""
        oldest = None if runs else next(iter(self.verbs), None)
        if oldest is None or oldest != self._asked[0]:
            self._asked = oldest, now
        return self._asked[1]

    def request(
        self, serial: int, verb: str, params: m.Map, blob: bytes | None, done: Callable[[Any], None]
    ) -> None:
        """A worker verb; `done` gets the REPLY or the ERROR."""
        self.verbs[serial] = done
        self.link.send(encode(m.Request(serial, verb, params, blob)))


class Deployed:
    """One function version on this node: its specification, pool and containers."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        limits = spec.manifest.pool
        self.pool: Pool[Worker] = Pool(limits.min, limits.max, spec.manifest.calls.queue)
        self.places = Places(spec.manifest.modes.sessions_per_container)
        self.workers: set[Worker] = set()
        self.broken = ""
        self.shared: set[str] = set()
        """Names of its methods that change nothing, once a container has said so."""
        self.takes = Takes(spec.manifest.state.schema, None)

    def imported(self, upgrades: bool | None) -> None:
        """What its import has told; None: nothing."""
        if upgrades is not None:
            self.takes = self.takes._replace(upgrades=upgrades)

    def heard(self, info: m.Map) -> None:
        """A container of it has said HELLO."""
        self.shared.update(shared_methods(info))
        self.takes = self.takes._replace(upgrades=info.get("upgrades") is True)


def _told(call: Call) -> m.Map:
    """What a container hears of a call beside its arguments."""
    meta: m.Map = {}
    if call.mode is not None:
        meta["mode"] = call.mode
    if call.attempt:
        meta["attempt"] = call.attempt
    if call.traceparent is not None:
        meta["traceparent"] = call.traceparent
    return meta


def shared_methods(info: m.Map) -> set[str]:
    """The names under which a container's readers are called, from its HELLO."""
    methods = info.get("methods")
    rows = methods.items() if isinstance(methods, dict) else ()
    names = {name for name, about in rows if isinstance(about, dict) and about.get("shared") is True}
    return names | {""} if info.get("default") in names else names


