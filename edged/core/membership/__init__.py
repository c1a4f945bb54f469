"""Who is in the mesh, and whether it lives: SWIM with Lifeguard (DESIGN §6, reliability §2.6, §2.7).

Decides whom to probe, whom to suspect, what is passed on to whom. Datagrams and time are events in, datagrams and
changes of state are effects out. Refuses to know sockets, keys, and what a node's own words (`body`) mean. What is
concluded here never decides who owns a session: it stops new placements and chooses routes.

`core` joins what the other modules decide, one each: `records` (which word counts), `rumours` (what is passed on),
`suspicion` (when a suspect is down), `probes` (who is asked), `members` (what is known of whom), `letters` (what a
datagram says), `exchanges` (when two tell each other everything).
"""

from .core import DEAF, Membership
from .effects import Carry, Changed, Deaf, Effect, Namesake, Send, Sync, Told
from .profile import LAN, WAN, Profile
from .records import MAX_BODY, NodeRecord, Status, valid_address

__all__ = [
    "DEAF",
    "LAN",
    "MAX_BODY",
    "WAN",
    "Carry",
    "Changed",
    "Deaf",
    "Effect",
    "Membership",
    "Namesake",
    "NodeRecord",
    "Profile",
    "Send",
    "Status",
    "Sync",
    "Told",
    "valid_address",
]
