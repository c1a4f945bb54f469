"""Where the calls of a node go (DESIGN §2, §5, §11): from `entrance` to a pool, a session or another node, to `answers`.

The hot path is plain function calls: the router says where, the pool says which container. No task, channel or timer per
call; one sweep looks after all deadlines (`deadlines`), and `settle` hands over and writes what one wakeup produced.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import trio

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import SessionKey
from edged.core.regression import Regression
from edged.core.rerouting import NO_ROOM, WRONG_PLACE, offered_again, routed_again
from edged.core.routing import ANYWHERE, HERE, Refuse, Router, There
from edged.core.sessions import Seat
from edged_protocol import messages as m
from edged_protocol.codec import encode_invoke
from edged_protocol.limits import MAX_HOPS
from edged_protocol.plain import PlainCalls

from .answers import Answers
from .burden import Burden
from .entrance import Entrance
from .link import Link
from .measuring import Measuring
from .seating import Seating
from .spread import Spread
from .wishes import asked_alarms
from .workers import WAITS_FOR_ITSELF, Workers

MAX_EXPLAINED = 8
"""Nodes that a refusal tells about."""


class Relay:
    """Everything that happens to calls on this node."""

    def __init__(self, node: str, router: Router, serials: Iterator[int]) -> None:
        self._node = node
        self.router = router
        self.calls: dict[int, Call] = {}
        self.seats: dict[SessionKey, Seat] = {}
        self.frozen: Mapping[SessionKey, Regression] = {}
        self.peers: dict[str, Link] = {}
        self.workers: Workers
        self.spread: Spread
        self.seating: Seating
        self.explain: Callable[[str], list[m.Map]]
        self.entered: dict[SessionKey, dict[str, int]] = {}
        """Calls of local sessions that follow their clients, by the node where they entered; "" for this one."""
        self._plain_calls = PlainCalls()
        self.measuring = Measuring()
        burden = Burden()
        self.answers = Answers(node, self.calls, burden, self._session_answer)
        self.answer, self.done_with, self.touch = self.answers.answer, self.answers.done_with, self.answers.touch
        self.entrance = Entrance(self.calls, serials, burden, self.measuring, self.route, self.answers.refuse)

    def settle(self) -> None:
        """Hand over what one wakeup queued, then write what it produced."""
        self.workers.feed_hungry()
        self.answers.write()

    @property
    def draining(self) -> bool:
        """Whether the node is about to stop."""
        return self.entrance.draining

    @property
    def busy(self) -> bool:
        """Whether any call is in hand."""
        return bool(self.calls)

    # In

    def route(self, call: Call, now: float) -> None:
        """Where does this call go? Ask, and act."""
        if call.session is None:  # most often there is nothing to choose, or no more than a node
            router = self.router
            if call.function in router.only_here:
                self._submit(call, now)
                return
            others = router.away.get(call.function)
            if others is not None and call.hops < MAX_HOPS:
                self._anywhere(call, others, now)
                return
        where = self.router.route(call.function, call.session, call.hops)
        if where is HERE:
            node = self.spread.elsewhere(call, now)
            if node is None:
                self._here(call, now)
            else:
                self.forward(call, node, now)
        elif where is ANYWHERE and not self.workers.resting:
            self._anywhere(call, self.router.others(call.function), now)
        elif self.workers.resting and SessionKey(call.function, call.session or "") in self.seats:
            self._here(call, now)  # the router knows no function here any more, but this session has not left yet
        elif isinstance(where, There):
            self.forward(call, where.node, now)
        elif isinstance(where, Refuse):
            self._refuse(call, where.code, where.reason)
        else:
            self._anywhere(call, self.router.others(call.function), now)

    def _anywhere(self, call: Call, others: Sequence[str], now: float) -> None:
        node = self.spread.send_elsewhere(call, others, now)
        if node is not None:
            self.forward(call, node, now)
        else:
            reason = f"every node that runs {call.function} is overloaded"
            self.answer(fx.Answer(call, 101, b"", reason, {"retry_after_ms": 50}))

    def _refuse(self, call: Call, code: int, reason: str) -> None:
        """Nobody can run it: say of each node why not."""
        rows = self.explain(call.function) if code == 104 else []
        if rows:
            reason += ": " + "; ".join(f"{row['node']}: {row['rule']}" for row in rows[:MAX_EXPLAINED])
        self.answer(fx.Answer(call, code, b"", reason, {"placement": rows[:MAX_EXPLAINED]} if rows else None))

    def _not_taken(self, call: Call, reason: str, now: float) -> None:
        """The pool has no room for a call without a session."""
        node = self.spread.full_here(call, now)
        if node is not None:
            self.forward(call, node, now)
        elif reason == WAITS_FOR_ITSELF:
            self.answer(fx.Answer(call, 201, b"", reason, None))
        else:
            self.answer(fx.Answer(call, 101, b"", reason, {"retry_after_ms": 20}))

    def _submit(self, call: Call, now: float) -> None:
        reason = self.workers.submit(call)
        if reason is not None:
            self._not_taken(call, reason, now)

    def _here(self, call: Call, now: float) -> None:
        if call.session is None:
            self._submit(call, now)
            return
        key = SessionKey(call.function, call.session)
        if self.frozen and key in self.frozen:
            self.answer(fx.Answer(call, 106, b"", f"state store: {self.frozen[key].reason}", None))
            return
        seat = self.seating.seat(key)
        if seat.rules.follow and seat.local and call.alarm is None:
            self._count_entrance(key, call)
        self.seating.perform(seat, lambda seat: seat.arrived(call, now))

    def _count_entrance(self, key: SessionKey, call: Call) -> None:
        """Of a call that came over two nodes the entrance is not known."""
        if call.hops < MAX_HOPS:
            link = call.origin[0]
            counts = self.entered.setdefault(key, {})
            via = link.name if link.role == "node" else ""
            counts[via] = counts.get(via, 0) + 1

    def forward(self, call: Call, node: str, now: float) -> None:
        """Let another node answer; its answer comes back through `peer_answer`."""
        link = self.peers.get(node)
        left = int((call.deadline - now) * 1000) - 1
        if link is None or link.closed:
            if call.session is not None:
                self.router.forget(SessionKey(call.function, call.session))
            meta = {"retry_after_ms": 200, "home": node}
            self.answer(fx.Answer(call, 105, b"", f"node {node} is not reachable", meta))
        elif left <= 0:
            self.answer(fx.Answer(call, 401, b"", "no time left to forward it", {"ran": False}))
        else:
            call.started = call.started or now
            call.away = True
            link.waiting[call.serial] = call
            self.touch(link)
            if call.session is None and not call.hops and not call.asks:
                encode_plain = self._plain_calls.encode
                link.send(encode_plain(call.serial, call.function, call.method, call.call_id, left, call.body))
                return
            link.send(
                encode_invoke(
                    call.serial,
                    call.function,
                    call.session,
                    call.method,
                    call.call_id,
                    left,
                    call.body,
                    self._onward(call),
                )
            )

    def _onward(self, call: Call) -> m.Map:
        meta: m.Map = {"hops": call.hops + 1}
        if call.prefer is not None:
            meta["prefer"] = call.prefer
        if call.attempt:
            meta["attempt"] = call.attempt
        if call.traceparent is not None:
            meta["traceparent"] = call.traceparent
        if call.chain:
            meta["chain"] = [list(link) for link in call.chain]
        if call.alarm is not None:
            meta["alarm"] = list(call.alarm)
        return meta

    # Answers

    def peer_answer(self, link: Link, call: Call, message: m.Result | m.Error, now: float) -> None:
        """Another node answered a call forwarded to it."""
        call.away = False
        meta = message.meta or {}
        if "load" in meta:
            self.spread.reported(link.name, call.function, meta.pop("load"), now)
        self.spread.ended(call, now, meta if type(message) is m.Result else None)
        if type(message) is m.Result and call.session is None:
            self.answers.result(call, message.body, meta)
            return
        if isinstance(message, m.Error) and message.code in NO_ROOM and self._asks_another(call, link, meta, now):
            return
        if call.session is not None:
            key = SessionKey(call.function, call.session)
            epoch = meta.get("epoch")
            if type(epoch) is int:
                node = meta.get("node") if meta.get("mode") == "local" else None
                self.router.located(key, node, epoch)
                self.seating.rests.seen(key, epoch, now)
                if node == self._node:
                    meta.pop("home", None)  # the call came back to where it entered
                elif node is not None:
                    meta["home"] = node
            if isinstance(message, m.Error) and message.code in WRONG_PLACE:
                self.router.forget(key)
                if routed_again(call, message.code):
                    self.route(call, now)
                    return
        if isinstance(message, m.Error):
            self.answer(fx.Answer(call, message.code, b"", message.message, message.meta))
        else:
            self.answer(fx.Answer(call, 0, message.body, "", message.meta))

    def _asks_another(self, call: Call, link: Link, meta: m.Map, now: float) -> bool:
        """After a node had no room: whether the call is on its way again."""
        if not self.spread.refused(call, link.name, meta, now) or not offered_again(call):
            return False
        if call.session is not None:
            self.router.forget(SessionKey(call.function, call.session))
        self.route(call, now)
        return True

    def _session_answer(self, call: Call, message: m.Result | m.Error, now: float) -> None:
        assert call.session is not None
        code = message.code if isinstance(message, m.Error) else 0
        text = message.message if isinstance(message, m.Error) else ""
        body = message.body if isinstance(message, m.Result) else b""
        blob = message.blob if isinstance(message, m.Result) else None
        seat = self.seats.get(SessionKey(call.function, call.session))
        if seat is not None:
            meta = message.meta
            self.measuring.ran(call, meta)
            if meta is not None and "alarms" in meta:
                meta = asked_alarms(call, meta)
            self.seating.perform(seat, lambda s: s.on_answer(call, code, body, text, meta, blob, now))

    def call_lost(self, call: Call, code: int, message: str) -> None:
        """The pool could not run a call to its end."""
        now = trio.current_time()
        seat = self.seats.get(SessionKey(call.function, call.session or ""))
        if call.session is not None and seat is not None:
            self.seating.perform(seat, lambda s: s.on_lost(call, code, message, now))
        else:
            self.answer(fx.Answer(call, code, b"", message, None))

    def expired(self, call: Call) -> None:
        """A call's time was over before a container had it: the pool lets go of it without a word, its session is told."""
        seat = self.seats.get(SessionKey(call.function, call.session or ""))
        if seat is not None and call.mode == "remote":
            now = trio.current_time()
            self.seating.perform(seat, lambda s: s.on_lost(call, 401, "the deadline has passed", now))

    # Connections

    def link_lost(self, link: Link) -> None:
        """A connection ended: what it waited for is unknown, what it asked for runs on."""
        waiting, link.waiting = link.waiting, {}
        for call in waiting.values():
            if isinstance(call, Call):
                call.away = False
                self.spread.ended(call, trio.current_time(), None)
                message = f"node {link.name} was lost while it had the call"
                self.answer(fx.Answer(call, 403, b"", message, None))
        if link.role == "node" and self.peers.get(link.name, link).closed:
            self.seating.node_lost(link.name)
        self.settle()
