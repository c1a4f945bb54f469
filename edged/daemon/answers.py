"""What a node says of the calls it had: to devices, operators, containers and other nodes (DESIGN §4, §11).

Decides in which form an answer leaves, and when a call's place is free again; `write` writes what one wakeup produced,
once per connection. Refuses to know where calls go (`relay`), and what the answers of sessions' calls mean (`seating`).
"""

from collections.abc import Callable, Iterable
from typing import Any

import trio

from edged.core import effects as fx
from edged.core.calls import Call
from edged_protocol import messages as m
from edged_protocol.codec import encode, encode_result
from edged_protocol.plain import PlainAnswers, opened, pass_on

from .burden import Burden
from .deployed import Done
from .link import Link
from .spread import Spread

MOMENT = 0.001
"""Seconds for which the load that was told holds: the queues of a function whose calls come faster than that do not tell
more of it, and an answer that tells it is built in the slow way at both ends."""


class Answers:
    """Ends the calls in hand. `of_session` gets the answers of containers to sessions' calls."""

    def __init__(
        self,
        node: str,
        calls: dict[int, Call],
        burden: Burden,
        of_session: Callable[[Call, m.Result | m.Error, float], None],
    ) -> None:
        self._node = node
        self._calls = calls
        self._burden = burden
        self._of_session = of_session
        self._touched: set[Link] = set()
        self.touch = self._touched.add
        """The link has bytes for the next `write`; nothing but the add of a set, because each call passes here twice."""
        self._told: set[tuple[Link, str]] = set()
        """Nodes that know how busy a function is here, since `_moment`."""
        self._moment = 0.0
        self._plain = PlainAnswers(node)
        self.spread: Spread
        self.figures: Callable[[str], tuple[int, ...] | None]
        self.served = 0

    def write(self) -> None:
        """One write per touched connection."""
        while self._touched:
            self._touched.pop().flush()

    # Calls without a session

    def worker_answers(self, done: list[Done], now: float) -> None:
        """A container answered these calls."""
        ran: list[tuple[Call, int]] = []
        told: Link | None = None
        """Knows the load; all these calls are of one function."""
        for call, message, _ in done:
            queued = call.started - call.arrived
            waited = int(queued * 1e6) if queued > 0.0 else 0
            if type(message) is m.Plain:
                link, id_ = call.origin
                if link is not told and link.role == "node":
                    told = link
                    if not self._knows_load(link, call.function, now):
                        meta = {"run_us": message.run_us, "node": self._node, "queue_us": waited}
                        self.result(call, opened(message).body, meta)  # with the load, as the first of this write
                        continue
                if self._is_over(call):
                    if call.sent_to is not None:
                        ran.append((call, waited + message[2]))
                    link.send(self._plain.encode(id_, message, waited))
            else:
                self._says(call, message, waited, now)
        if ran:
            self.spread.ran(ran, now)

    def _says(self, call: Call, message: Any, waited: int, now: float) -> None:
        """A container's answer that is not plain, or to a session's call."""
        if call.session is not None:
            self._of_session(call, message, now)
            return
        meta = {**(message.meta or {}), "node": self._node, "queue_us": waited}
        if isinstance(message, m.Error):
            self.answer(fx.Answer(call, message.code, b"", message.message, meta))
        else:
            self.result(call, message.body, meta)

    def pass_on(self, waiting: dict[int, Any], answers: Iterable[m.Plain], now: float) -> list[tuple[Any, m.Plain]]:
        """Another node answered calls that wait on its connection. Those with a session, and what is no call, are the
        caller's."""
        ran: list[tuple[Call, int]] = []
        others: list[tuple[Any, m.Plain]] = []
        for answer in answers:
            call = waiting.pop(answer[0], None)
            if type(call) is not Call or call.session is not None:
                others.append((call, answer))
                continue
            call.away = False
            ran.append((call, answer[2] + answer[3]))
            if self._is_over(call):
                link, id_ = call.origin
                link.send(pass_on(id_, answer))
        self.spread.ran(ran, now)
        return others

    def _is_over(self, call: Call) -> bool:
        """The usual end of a call without a session, to which nothing is attached; whether its caller waits for it."""
        link = call.origin[0]
        if self._calls.pop(call.serial, None) is not None:  # `done_with`, without a call of a function for each
            link.inflight -= 1
            if call.heavy:
                self._burden.drop(link, call.heavy)
        if call.answered:
            return False
        call.answered = True
        self.served += 1
        self._touched.add(link)
        return True

    def result(self, call: Call, body: bytes, meta: m.Map) -> None:
        """A call without a session ran, and more is said of it than a plain answer has."""
        link, id_ = call.origin
        if self._is_over(call):
            if call.sent_to is not None:
                self.spread.ended(call, trio.current_time(), meta)
            link.send(encode_result(id_, body, meta if link.role != "node" else self._with_load(call, link, meta)))

    # All

    def answer(self, answer: fx.Answer) -> None:
        """Tell the caller, and whoever is attached to the call."""
        call = answer.call
        self.done_with(call)
        if not call.answered:
            self.send_answer(answer)
        for attached in call.attached:
            self.done_with(attached)
            if not attached.answered:
                self.send_answer(answer._replace(call=attached))

    def done_with(self, call: Call) -> None:
        """Nothing works for it any more: its place on the caller's connection is free."""
        if self._calls.pop(call.serial, None) is not None:
            call.origin[0].inflight -= 1
            if call.heavy:
                self._burden.drop(call.origin[0], call.heavy)

    def send_answer(self, answer: fx.Answer) -> None:
        """To one caller; what comes later is for nobody."""
        call = answer.call
        link, id_ = call.origin
        meta = answer.meta
        call.answered = True
        self.served += 1
        if call.sent_to is not None:
            self.spread.ended(call, trio.current_time(), meta if answer.code == 0 else None)
        if link.role == "node":
            meta = self._with_load(call, link, meta)
        if link.closed:
            return
        if answer.code == 0:
            if call.state_seconds:
                meta = {**(meta or {}), "state_us": int(call.state_seconds * 1e6)}
            link.send(encode_result(id_, answer.body, meta))
        else:
            link.send(encode(m.Error(id_, answer.code, answer.message[:2000], meta)))
        self._touched.add(link)

    def _with_load(self, call: Call, link: Link, meta: m.Map | None) -> m.Map | None:
        """For another broker: how busy the function is here now."""
        if self._knows_load(link, call.function, trio.current_time()):
            return meta
        self._told.add((link, call.function))
        figures = self.figures(call.function)
        return meta if figures is None else {**(meta or {}), "load": figures}

    def _knows_load(self, link: Link, function: str, now: float) -> bool:
        """Whether a node was told of this moment."""
        if now - self._moment > MOMENT:
            self._told.clear()
            self._moment = now
        return (link, function) in self._told

    def refuse(self, call: Call, code: int, message: str) -> None:
        """A call that is not taken in."""
        link, id_ = call.origin
        meta = {"retry_after_ms": 20} if code < 200 else None
        link.send(encode(m.Error(id_, code, message, meta)))
        self._touched.add(link)
