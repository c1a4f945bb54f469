"""What passes through the relay, noted for the policy (DESIGN §7): a step or two a call.

Decides which of a call's many times is noted as what. Refuses to know what follows from them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from edged.core.calls import Call
from edged.core.planning.ledger import Ledger
from edged.core.records import Mode, Outcome, SessionKey
from edged.core.sessions import Seat
from edged.core.transition import S
from edged_protocol.messages import Map

from .link import Link

Grants = Callable[[SessionKey, Mode], bool]


class Measuring:
    """`arrived` and `ran` for every call of a session."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.grants: Grants = lambda key, mode: True

    def arrived(self, call: Call, link: Link, now: float) -> None:
        """A call of a session came over a connection; wherever it runs, the node where it entered knows its wish."""
        if call.session is not None:
            via, key = link.name if link.role == "node" else "", SessionKey(call.function, call.session)
            self.ledger.called(key, via, now)
            if call.prefer is not None:
                self.ledger.wished(key, "local" if call.prefer == "local" else "remote", now)

    def ran(self, call: Call, meta: Map | None) -> None:
        """A container ran a call; its application's wish is taken out where it is not granted."""
        run = meta.get("run_us") if meta else None
        if call.mode is not None and type(run) is int:
            self.ledger.ran(call.function, "local" if call.mode == "local" else "remote", run / 1e6)
        wanted: Any = (meta.get("prefer") if meta else None) or call.prefer
        if wanted in ("local", "remote") and not self.grants(SessionKey(call.function, call.session or ""), wanted):
            call.prefer = None
            if meta:
                meta.pop("prefer", None)

    def asked(self, seat: Seat, done: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """The store was asked something; `done`, which also notes the time when a remote-state call waits for it: for
        the policy, and for who called."""
        note = {S.READING: self.ledger.read, S.COMMITTING: self.ledger.committed}.get(seat.state)
        if note is None:
            return done
        return partial(_answered, note, seat.key.function, seat.head, trio.current_time(), done)


def _answered(
    note: Callable[[str, float], None],
    function: str,
    call: Call | None,
    asked: float,
    done: Callable[[Outcome], None],
    outcome: Outcome,
) -> None:
    taken = trio.current_time() - asked
    note(function, taken)
    if call is not None:
        call.state_seconds += taken
    done(outcome)
