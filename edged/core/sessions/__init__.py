"""One session on one node: the actor behind every stateful call (DESIGN §5, paper Fig. 2).

Decides when a call of the session runs, where, and what makes its effect count. Time, store, containers
and peers are events in and effects out; nothing here awaits, so no cancellation leaves it half changed.
What holds in each state stands in `core.transition`. Both modes live in one actor because the queue and the
dedup window must survive the switch; two actors with a hand-over was the alternative not taken.

`seat` joins what the other modules decide, one each. Calls: `remote_calls`, `local_calls`, `readers`, `starts`. Moves:
`wishes` (when), `localize`, `leaving` (with `externalize` and `migrate`), `target`, `kept`, `takeover`, `fencing`, `closing`.
The store: `checkpoints`, `writes`. They share one `actor` and are its only writers.
"""

from .actor import Rules
from .seat import Seat

__all__ = ["Rules", "Seat"]
