"""What another node's step of a move asks of the session here, as `edged.daemon.moves` takes it. Decides nothing."""

from collections.abc import Callable
from typing import Any

from edged.core import effects as fx
from edged.core.sessions import Seat

TAKE: dict[str, Callable[[Seat, Any, dict[str, Any], bytes, float], list[fx.Effect]]] = {
    "session.invite": lambda seat, back, params, blob, now: seat.invited(back, params["from"], params["move"], now),
    "session.chunk": lambda seat, back, params, blob, now: seat.piece(back, params, blob, now),
    "session.offer": lambda seat, back, params, blob, now: seat.offered(back, params, now),
    "session.withdraw": lambda seat, back, params, blob, now: seat.withdrawn(params["move"], now),
    "session.commit": lambda seat, back, params, blob, now: seat.committed(params["move"], now),
    "session.regain": lambda seat, back, params, blob, now: seat.regain(back, params["move"], params["lost_seq"], now),
    "session.done": lambda seat, back, params, blob, now: seat.safe_there(params["move"], now),
}
"""By verb."""

ARRIVING = ("session.invite", "session.chunk", "session.offer")
"""Of a session that need not be here yet."""
