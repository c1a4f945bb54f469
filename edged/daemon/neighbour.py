"""A connection to a node of the mesh for one that is not part of it yet (SPEC "Handshake", `quiet`).

Decides nothing. The other end takes it for nobody's, so that a node of the same name keeps its connections. One question at a
time: who asks here has nothing else to do.
"""

from collections import deque
from typing import Any

import trio

from edged.core.records import Op, Outcome, StoreFailed
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.limits import READ_CHUNK

from .stores.mesh import DEADLINE, outcome_of_answer
from .stores.wire import op_to_wire

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError)


class Neighbour:
    """`info` is its WELCOME; `ask` its store."""

    def __init__(self, stream: trio.SocketStream, hello: m.Map) -> None:
        self._stream = stream
        self._connection = Connection.dialer(hello)
        self._inbox: deque[m.Message] = deque()
        self._serial = 0
        self.info: dict[str, Any] = {}

    async def greet(self) -> None:
        """Until it has said WELCOME. Raises one of BROKEN."""
        await self._stream.send_all(self._connection.outgoing())
        while not isinstance(message := await self._next(), m.Welcome):
            pass
        self.info = message.info

    async def ask(self, op: Op) -> Outcome:
        """What its store answers; a store that it does not reach is one that this node does not reach."""
        verb, params, blob = op_to_wire(op)
        self._serial += 1
        answered = False
        try:
            with trio.move_on_after(DEADLINE):
                await self._stream.send_all(encode(m.Request(self._serial, verb, params, blob)))
                outcome = outcome_of_answer(await self._answer())
                answered = True
                return outcome
        except BROKEN as error:
            return StoreFailed(None, f"the node that was asked is gone: {error}")
        finally:
            if not answered:
                self.close()  # half a question may have left
        return StoreFailed(None, f"no answer in {DEADLINE:g} s")

    def close(self) -> None:
        """Nothing is asked any more."""
        self._stream.socket.close()

    async def _answer(self) -> m.Reply | m.Error:
        while True:
            message = await self._next()
            if isinstance(message, m.Ping):
                await self._stream.send_all(encode(m.Pong(message.nonce)))
            elif isinstance(message, m.Reply | m.Error) and message.id == self._serial:
                return message

    async def _next(self) -> m.Message:
        while not self._inbox:
            data = await self._stream.receive_some(READ_CHUNK)
            if not data:
                raise trio.BrokenResourceError("it has closed the connection")
            self._inbox.extend(self._connection.receive(bytes(data)))
        message = self._inbox.popleft()
        if isinstance(message, m.GoAway):
            raise trio.BrokenResourceError(f"it refuses: {message.reason}")
        return message


async def meet(address: str, hello: m.Map) -> Neighbour:
    """The node at `address`, greeted. Raises one of BROKEN."""
    host, _, port = address.rpartition(":")
    neighbour = Neighbour(await trio.open_tcp_stream(host.strip("[]"), int(port)), hello)
    try:
        await neighbour.greet()
    except BaseException:
        neighbour.close()
        raise
    return neighbour
