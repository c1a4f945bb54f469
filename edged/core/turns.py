"""Whose call is next in a container that several local sessions share (DESIGN §5.2, §8).

Decides in which order it is given their calls: each session's in the order of their arrival, and of the sessions one call
each in turn. To hand all over at once, as to a session's own container, was the alternative: there a session with many
calls waiting keeps only itself waiting. As in a pool, so many calls are given ahead as make up a millisecond of work: a
container with one call at a time would spend its time in context switches. What was given ahead is not taken back, as
from a pool's container: if the container had begun it all the same, the state in its memory would have changed.

Here alone it is known which call runs, so `started` of all its calls is set here. Refuses to know what calls do.
"""

from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice

from .calls import Call
from .pools import MAX_HELD, PREFETCH, SHORTEST


class Turns:
    """The calls of one container: `add`, then `give`; and `give` again when some have `finished`."""

    def __init__(self) -> None:
        self._waiting: dict[str | None, deque[Call]] = {}
        """By session; whose turn is next comes first."""
        self._held: deque[Call] = deque()
        self._service = 1.0

    @property
    def running(self) -> Call | None:
        """What the container runs."""
        return self._held[0] if self._held else None

    def add(self, call: Call) -> None:
        """A call that is to run when its turn comes."""
        call.container, call.started = None, 0.0
        self._waiting.setdefault(call.session, deque()).append(call)

    def give(self, now: float) -> tuple[list[Call], list[Call]]:
        """The calls to hand over now; and those whose turn has come when nobody waits for them any more."""
        given: list[Call] = []
        dropped: list[Call] = []
        depth = max(1, min(MAX_HELD, int(PREFETCH / self._service)))
        while self._waiting and len(self._held) < depth:
            call = self._next()
            if call.answered:
                dropped.append(call)
                continue
            call.started = 0.0 if self._held else now
            self._held.append(call)
            given.append(call)
        return given, dropped

    def _next(self) -> Call:
        session = next(iter(self._waiting))
        calls = self._waiting.pop(session)
        call = calls.popleft()
        if calls:
            self._waiting[session] = calls
        return call

    def ahead(self, methods: Collection[str]) -> list[Call]:
        """Readers, which need not wait for the call that runs: the container may run them beside it. While none runs they
        have their turns like all others."""
        room = MAX_HELD - len(self._held) if methods and self._held else 0
        given: list[Call] = []
        for session, calls in list(self._waiting.items()) if room > 0 else ():
            stay: deque[Call] = deque()
            for call in calls:
                (given if call.method in methods and len(given) < room else stay).append(call)
            if stay:
                self._waiting[session] = stay  # its turn is when it was
            else:
                del self._waiting[session]
        self._held.extend(given)
        return given

    def finished(self, done: Iterable[tuple[Call, float | None]], now: float) -> None:
        """The container has answered these; each took it so many seconds, if it has said so."""
        held = self._held
        for call, said in done:
            if call in held:
                held.remove(call)
                call.started = call.started or now
                seconds = now - call.started if said is None else said
                self._service = max(SHORTEST, seconds, 0.7 * self._service + 0.3 * seconds)
        if held:
            held[0].started = held[0].started or now

    def behind(self) -> None:
        """What was given ahead has not begun, though it may be the first of its own session now."""
        for call in islice(self._held, 1, None):
            call.started = 0.0

    def withdraw(self, session: str | None) -> list[Call]:
        """The session has left: what waits of it is dropped. The calls given ahead of it that have not begun."""
        self._waiting.pop(session, None)
        ahead = [call for call in list(self._held)[1:] if call.session == session]
        for call in ahead:
            self._held.remove(call)
        return ahead
