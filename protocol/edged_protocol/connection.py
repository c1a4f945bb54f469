"""One connection's handshake and inbound messages (SPEC "Handshake"). Sans-IO, both ends.

Decides when a connection counts as established and which frames may come before that.
Refuses to know sockets, deadlines and what the messages mean.
"""

from collections.abc import Callable

from . import messages as m
from .codec import UnknownType, decode, encode
from .errors import Code, RemoteProtocolError
from .framing import FrameReader
from .limits import MAX_FRAME, MAX_FRAME_HANDSHAKE, MAX_FRAME_TRUSTED, PROTO

GREETINGS = frozenset({m.Hello, m.Welcome})
ROLES = ("device", "node", "operator", "worker")
Welcomer = Callable[[m.Hello], m.Welcome]


class Connection:
    """`receive` bytes, get messages; what the handshake wants sent is in `outgoing`."""

    def __init__(self, *, welcome: Welcomer | None, hello: m.Map | None) -> None:
        self._welcome = welcome
        self._out = b"" if hello is None else encode(m.Hello({"proto": PROTO, **hello}))
        self._reader = FrameReader(MAX_FRAME_HANDSHAKE)
        self.established = False
        self.decode: Callable[[bytes], m.Message] = decode
        """One frame; another reader where the other end is a container or a node (`plain`)."""
        self.max_frame = MAX_FRAME
        """Largest frame the other end takes."""

    @classmethod
    def dialer(cls, hello: m.Map) -> "Connection":
        """The end that opened the connection and says HELLO first."""
        connection = cls(welcome=None, hello=hello)
        connection._reader.max_frame = MAX_FRAME_TRUSTED
        return connection

    @classmethod
    def acceptor(cls, welcome: Welcomer) -> "Connection":
        """The end that answers: `welcome` builds the WELCOME or raises RemoteProtocolError."""
        return cls(welcome=welcome, hello=None)

    def outgoing(self) -> bytes:
        """Bytes the handshake wants sent now."""
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> list[m.Message]:
        """The messages completed by `data`; the handshake's own are among them.

        Raises RemoteProtocolError: the connection is finished then.
        """
        frames = self._reader.feed(data)
        if self.established:
            try:
                messages = list(map(self.decode, frames))
            except UnknownType:
                return self._one_by_one(frames)
            if GREETINGS.isdisjoint(map(type, messages)):
                return messages
        return self._one_by_one(frames)

    def ended(self) -> None:
        """Nothing more comes: what there is of a frame, a megabyte or twenty, is not kept until this object goes."""
        self._reader.forget()

    def _one_by_one(self, frames: list[bytes]) -> list[m.Message]:
        """The same with a look at each: greetings, and types that are not known."""
        result: list[m.Message] = []
        for frame in frames:
            try:
                message = decode(frame)
            except UnknownType as unknown:
                self._refuse(unknown)
                continue
            if not self.established:
                self._handshake(message)
            elif type(message) in GREETINGS:
                raise RemoteProtocolError("bad_handshake", "a second greeting")
            result.append(message)
        return result

    def _refuse(self, unknown: UnknownType) -> None:
        if not self.established:
            raise unknown
        if unknown.id is not None:
            self._out += encode(m.Error(unknown.id, Code.BAD_REQUEST, "unknown message type"))

    def _handshake(self, message: m.Message) -> None:
        if isinstance(message, m.GoAway):
            return
        if self._welcome is None:
            self._accepted(message)
        else:
            self._greeted(message, self._welcome)

    def _accepted(self, message: m.Message) -> None:
        if not isinstance(message, m.Welcome) or message.info.get("proto") != PROTO:
            raise RemoteProtocolError("bad_handshake", "WELCOME of this protocol was expected")
        max_frame = message.info.get("max_frame")
        if type(max_frame) is int and max_frame > 0:
            self.max_frame = max_frame
        self.established = True

    def _greeted(self, message: m.Message, welcome: Welcomer) -> None:
        if not isinstance(message, m.Hello):
            raise RemoteProtocolError("bad_handshake", "HELLO was expected first")
        info = message.info
        if type(info.get("proto")) is not int or info["proto"] < PROTO:
            raise RemoteProtocolError("unsupported_protocol", f"this node speaks {PROTO}")
        if info.get("role") not in ROLES or type(info.get("name")) is not str:
            raise RemoteProtocolError("bad_handshake", "HELLO needs a role and a name")
        answer = welcome(message)
        self._out += encode(answer)
        self._reader.max_frame = self.max_frame = answer.info["max_frame"]
        self.established = True
