"""The local sessions of one container, and the verbs by which the daemon moves their states (DESIGN §4, §5).

Decides what each worker verb does to a session. Refuses to know frames and calls: a verb runs between two calls, and
sees every session as the last committed call left it.
"""

from collections.abc import Callable
from typing import Any

from edged_protocol.errors import Code

from .answers import Refused, failed
from .changes import FROM_NOTHING, Stale
from .function import Function
from .session import Session
from .staging import Staged
from .state import Kind, State
from .tracked import StateTooLarge, pack, unpack

Said = tuple[dict[str, Any], bytes | None]
"""Result and blob of a REPLY."""

MAX_DELTA = 1 << 40
"""Bytes of a delta that nobody limits: all of it; what is too long for a frame is refused there."""


class Held:
    """A local session: its state lives in this process."""

    def __init__(self, state: State, epoch: int, version: int) -> None:
        self.state, self.epoch, self.version = state, epoch, version


class Sessions:
    """`held`: those that are here. What arrives of others is `made` when it is whole."""

    def __init__(self, function: Function, kind: Kind, max_state: int) -> None:
        self._function = function
        self._kind = kind
        self._max_state = max_state
        self._staged: dict[str, Staged] = {}
        self.held: dict[str, Held] = {}
        self.node = ""

    def _load(self, key: str, params: dict[str, Any], blob: bytes | None) -> Said:
        """The session is here from now on, in the state of the blob, or of what was staged."""
        if params.get("staged"):
            state = self._staged.pop(key, Staged(self._kind)).made()
        else:
            state = self.made(blob, params.get("parts"), params.get("schema"))
        held = Held(state, params.get("epoch", 0), params.get("version", 0))
        download = self._function.hook("download") if params.get("download") else None
        if download is not None:
            held.state.replace(download(self._session_of(key, held)))
            held.state = self._kind.make(held.state.packed())
        if held.state.size > self._max_state:
            raise StateTooLarge(f"the state takes {held.state.size} bytes, {self._max_state} are allowed")
        held.state.follow()
        self.held[key] = held
        as_it_was = download is None and "schema" not in params
        return {"serial": 0 if as_it_was else None, "bytes": held.state.size}, None

    def made(self, blob: bytes | None, parts: Any, schema: Any = None) -> State:
        """The state in a blob; with `parts` that is an array of a state, or nil, and the deltas on it. `schema`: an older
        version has stored it, whole."""
        if type(schema) is int and blob is not None:
            return self._kind.make(self._upgraded(blob, schema))
        if not parts:
            return self._kind.make(blob)
        staged = Staged(self._kind)
        base, *deltas = unpack(blob or b"")
        staged.base(base)
        for delta in deltas:
            staged.put(delta)
        return staged.made()

    def _upgraded(self, blob: bytes, schema: int) -> bytes:
        """As this version would have stored it. Raises Refused: whatever goes wrong, no call has begun."""
        upgrade = self._function.hook("upgrade")
        if upgrade is None:
            raise Refused(Code.WRONG_SCHEMA, f"the state has schema {schema}, and this version has no @fn.upgrade")
        try:
            return pack(upgrade(unpack(blob), schema))
        except Exception as error:
            why = failed(error)
            raise Refused(Code.WRONG_SCHEMA, f"@fn.upgrade of schema {schema}: {why.message}", why.meta) from error

    def _here(self, key: str) -> Held:
        held = self.held.get(key)
        if held is None:
            raise Refused(Code.BAD_REQUEST, f"session {key!r:.80} is not here")
        return held

    def _leaving(self, key: str, params: dict[str, Any]) -> Held:
        """The session, whose state the function's own service has now if it is about to be let go."""
        held = self._here(key)
        held.epoch = params.get("epoch", held.epoch)  # higher when its owner has taken it back from another node
        upload = self._function.hook("upload") if params.get("upload") else None
        if upload is not None:
            upload(self._session_of(key, held))
        return held

    def _snapshot(self, key: str, params: dict[str, Any], blob: bytes | None) -> Said:
        held = self._leaving(key, params)
        return {"serial": held.state.serial}, held.state.packed()

    def _delta(self, key: str, params: dict[str, Any], blob: bytes | None) -> Said:
        """What changed behind `since`, or all if that is nil, of about `limit` bytes at most."""
        since, limit = params.get("since"), params.get("limit")
        held = self._leaving(key, params)
        try:
            delta = held.state.delta(
                FROM_NOTHING if since is None else since,
                MAX_DELTA if limit is None else limit,
                bool(params.get("digest")),
            )
        except Stale as error:
            raise Refused(Code.CONFLICT, str(error)) from error
        said: dict[str, Any] = {"serial": delta.serial, "left": delta.left, "head": held.state.serial}
        if params.get("digest"):
            said["digest"] = delta.digest.to_bytes(16, "big")
        return said, delta.data or None

    def _restore(self, key: str, params: dict[str, Any], blob: bytes | None) -> Said:
        """A piece of a state that arrives; `worker.load` with `staged` makes the session of all."""
        staged = self._staged.setdefault(key, Staged(self._kind))
        staged.put(blob or b"")
        if staged.size > 2 * self._max_state:  # what is gone at the source may not have been told yet
            raise StateTooLarge(f"{staged.size} bytes of a state arrived, {self._max_state} are allowed")
        return {"digest": staged.digest.to_bytes(16, "big"), "bytes": staged.size}, None

    def _stop(self, key: str, params: dict[str, Any], blob: bytes | None) -> Said:
        """The session, or what arrived of it, is no longer needed."""
        self.held.pop(key, None)
        self._staged.pop(key, None)
        return {}, None

    def _session_of(self, key: str, held: Held) -> Session:
        return Session(
            held.state,
            node=self.node,
            key=key,
            mode="local",
            epoch=held.epoch,
            version=held.version,
        )


VERBS: dict[str, Callable[[Sessions, str, dict[str, Any], bytes | None], Said]] = {
    "worker.load": Sessions._load,
    "worker.snapshot": Sessions._snapshot,
    "worker.delta": Sessions._delta,
    "worker.restore": Sessions._restore,
    "worker.stop": Sessions._stop,
}
