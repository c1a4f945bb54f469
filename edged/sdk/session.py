"""What a handler is given: its session's state and the facts of this call (DESIGN §8).

Refuses to know how the call arrived and what becomes of the wishes expressed here.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

from .answers import packed
from .state import State

MAX_ALARMS = 16
"""Of one session: they travel with it."""

MAX_ALARM_ARGUMENTS = 512
"""Bytes; the state has the rest."""

MAX_ALARM_NAME = 63
MAX_ALARM_AFTER = 10 * 366 * 86_400.0
"""Ten years: more is a mistake."""

Mode = Literal["remote", "local", "stateless"]


class Session:
    """One call's view of its session; not valid after the handler has returned."""

    __slots__ = (
        "_calls", "_state", "alarms", "call_id", "deadline", "ending", "epoch", "key", "mode", "node", "parent", "preference", "version",
    )  # fmt: skip

    def __init__(
        self,
        state: State | None,
        node: str = "",
        key: str | None = None,
        mode: Mode = "stateless",
        call_id: bytes | None = None,
        deadline: float = math.inf,
        epoch: int = 0,
        version: int = 0,
    ) -> None:
        self._state = state
        self._calls: tuple[Callable[..., Any], int, bool] | None = None
        """What `call` calls, and what that wants to know of the call this is."""
        self.node = node
        """Name of the node this runs on."""
        self.key = key
        """The session's key; None for a stateless call."""
        self.mode = mode
        self.call_id = call_id
        """Sixteen bytes naming the call: hand them on to outside services, a retry repeats them."""
        self.epoch = epoch
        self.version = version
        """Of the state, before this call."""
        self.deadline = deadline
        """On `time.monotonic`: nobody waits for the answer after it."""
        self.preference: str | None = None
        self.ending = False
        self.parent: Any = None
        self.alarms: dict[str, list[Any] | None] | None = None

    @property
    def state(self) -> Any:
        """The session's state; changes count once the handler has returned."""
        if self._state is None:
            raise RuntimeError("a call without a session has no state")
        return self._state.value

    @state.setter
    def state(self, value: Any) -> None:
        if self._state is None:
            raise RuntimeError("a call without a session has no state")
        self._state.replace(value)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self.deadline - time.monotonic()

    def call(
        self, function: str, method: str = "", *args: Any, session: str | None = None, timeout: float = math.inf
    ) -> Any:
        """Call another function, or with `session` another session, and give its result; in an async handler
        `await` it. It has what is left of this call's time, or less with `timeout` seconds. Raises CallError,
        of which the hundreds of `code` say what is known of the effect.

        It has a call id that follows from this call's: run again, this handler repeats its calls, and each
        counts once in the session it goes to.
        """
        if self._calls is None:
            raise RuntimeError("a hook cannot call others, only a handler")
        run, *of = self._calls
        return run(*of, self, function, method, args, session, timeout)

    def alarm(self, name: str, *args: Any, after: float, method: str = "") -> None:
        """Have `method` of this session called with `args` in `after` seconds, wherever the session is then.

        It is set when this call counts; another one of that name takes its place. Its effect on the state counts
        once. A call that raises is tried again, six times in all; then an operator finds it (`edgectl dead ls`).
        """
        if self.mode == "stateless":
            raise RuntimeError("a call without a session has no alarms")
        if not 1 <= len(name) <= MAX_ALARM_NAME or not name.isprintable():
            raise ValueError(f"an alarm's name has 1 to {MAX_ALARM_NAME} printable characters, not {name!r:.80}")
        if not 0 <= after <= MAX_ALARM_AFTER:
            raise ValueError(f"an alarm is due in 0 to {MAX_ALARM_AFTER:.0f} seconds, not {after!r}")
        body = packed(args)
        if len(body) > MAX_ALARM_ARGUMENTS:
            raise ValueError(f"an alarm's arguments take at most {MAX_ALARM_ARGUMENTS} bytes, not {len(body)}")
        self._note_alarm(name, [float(after), method, body])

    def cancel_alarm(self, name: str) -> None:
        """Take an alarm out when this call counts; one that is not set is no mistake."""
        self._note_alarm(name, None)

    def _note_alarm(self, name: str, row: list[Any] | None) -> None:
        self.alarms = self.alarms or {}
        if name not in self.alarms and len(self.alarms) >= MAX_ALARMS:
            raise ValueError(f"a call sets or takes out at most {MAX_ALARMS} alarms")
        self.alarms[name] = row

    def end(self) -> None:
        """End the session with this call, when it counts: its state and its alarms go. A later call begins it anew."""
        if self.mode == "stateless":
            raise RuntimeError("a call without a session has none to end")
        self.ending = True

    def prefer(self, mode: Literal["local", "remote"]) -> None:
        """Ask for a mode (the application trigger); acted on after this call."""
        if mode not in ("local", "remote"):
            raise ValueError(f'prefer("local") or prefer("remote"), not {mode!r}')
        self.preference = mode
