"""Whether a call that another node refused goes its way once more (DESIGN §5.5, §6).

Decides by what the refusal says of the place: no room there, or not the place at all. Refuses to know which node it goes to
then (`routing`, `balancing`). Asked after a refusal only: what is answered pays nothing for it.
"""

from .calls import Call

MAX_REROUTES = 2
"""Second thoughts about one call: a session that moves faster is the caller's to wait for."""

NO_ROOM = (101, 102, 104)
"""The node has no room, takes no calls, or has no container: certainly not run, and another may do."""

WRONG_PLACE = (102, 103, 105, 204)
"""Certainly not run: the session is not there, or the node takes no calls."""


def offered_again(call: Call) -> bool:
    """After NO_ROOM, where the budget of retries allows it: who was sent the call says no, and its broker tries another."""
    return not call.hops and _once_more(call)


def routed_again(call: Call, code: int) -> bool:
    """After WRONG_PLACE, without the hint that led there: the store knows better. A function that is not deployed there
    is not elsewhere by that."""
    return code != 204 and _once_more(call)


def _once_more(call: Call) -> bool:
    if call.answered or call.reroutes >= MAX_REROUTES:
        return False
    call.reroutes += 1
    return True
