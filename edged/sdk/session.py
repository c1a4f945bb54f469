"""What a handler is given: its session's state and the facts of this call (DESIGN §8).

Refuses to know how the call arrived and what becomes of the wishes expressed here.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

from .state import State

Mode = Literal["remote", "local", "stateless"]


class Session:
    """One call's view of its session; not valid after the handler has returned."""

    __slots__ = (
        "_calls", "_state", "call_id", "deadline", "epoch", "key", "mode", "node", "parent", "preference", "version",
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
        self.parent: Any = None

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

    def prefer(self, mode: Literal["local", "remote"]) -> None:
        """Ask for a mode (the application trigger); acted on after this call."""
        if mode not in ("local", "remote"):
            raise ValueError(f'prefer("local") or prefer("remote"), not {mode!r}')
        self.preference = mode
