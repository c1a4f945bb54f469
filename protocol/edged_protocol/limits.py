"""Every bound of the wire, each with its reason (SPEC "Limits").

Decides nothing; the parser checks these before it buffers.
"""

KIB = 1024
MIB = 1024 * KIB

PROTO = 1
"""The one protocol version this code speaks; HELLO carries the dialer's highest."""

MAX_BODY = 1 * MIB
"""A device's argument or answer: a camera frame fits, a film does not."""

MAX_FRAME = MAX_BODY + 64 * KIB
"""Body plus envelope; told in WELCOME."""

MAX_FRAME_TRUSTED = 20 * MIB
"""Between nodes and to containers, where a session's state travels beside the body."""

MAX_STATE = MAX_FRAME_TRUSTED - 1 * MIB
"""A state that a store is given or gives back, deltas on it included; what the session remembers travels beside it."""

MAX_FRAME_HANDSHAKE = 4 * KIB
"""Before WELCOME a stranger may make us hold this much."""

MAX_PLAIN = 64 * KIB
"""What of a frame may be anything but a byte string: small values decode to up to 75 times their size."""

MAX_DEPTH = 16
"""Nesting of arrays and maps, envelope included."""

MAX_DEPTH_BODY = 64
"""Nesting of a body or a state, which only the function's own code decodes."""

MAX_ARRAY = 4096
"""Elements of one array in an envelope; listings page below it."""

MAX_MAP = 256
"""Entries of one map in an envelope."""

MAX_STR = 4096
"""Bytes of one string in an envelope; a traceback tail is the longest that is sent."""

MAX_NAME = 63
"""Function, node and mesh names: a DNS label."""

MAX_SESSION_KEY = 255
"""Bytes of a session key: it is a database key and travels with each call."""

MAX_INFLIGHT = 256
"""Calls one connection may have unanswered."""

MAX_TIMEOUT_MS = 3_600_000
"""One hour: a call is not a job queue."""

CALL_ID_BYTES = 16
MAX_HOPS = 2
"""Forwards of one call: one to the owner, one more if it moved meanwhile."""

READ_CHUNK = 64 * KIB
"""Bytes taken from one connection in one wakeup, so that none starves the others."""
