"""A function as its author declares it: methods, state and hooks (DESIGN §8).

Decides which method a name means and whether the arguments fit. Refuses to know calls and frames.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from edged_protocol.ids import METHOD_RE

from .state import Kind

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Method:
    """One handler and what a caller must know of it."""

    name: str
    run: Callable[..., Any]
    shared: bool
    is_async: bool
    least: int
    most: float
    signature: str


class Function:
    """`fn = Function("arm-monitor", state=dict)`; its decorators register what the module defines."""

    def __init__(self, name: str, state: Any = dict) -> None:
        self.name = name
        self.methods: dict[str, Method] = {}
        self._state = state
        self._hooks: dict[str, Callable[..., Any]] = {}

    def handler(self, run: Handler) -> Handler:
        """A method callers may name; sync or async. What it changed counts once it has returned."""
        self._add(run, shared=False)
        return run

    def shared(self, run: Handler) -> Handler:
        """A method that only reads: it runs beside others, and what it changes is dropped."""
        self._add(run, shared=True)
        return run

    def load(self, run: Handler) -> Handler:
        """`load(value) -> state`: the state of what `dump` made of it."""
        return self._hook("load", run)

    def dump(self, run: Handler) -> Handler:
        """`dump(state) -> value`: something msgpack can carry."""
        return self._hook("dump", run)

    def download(self, run: Handler) -> Handler:
        """`download(session) -> state`: fetch it from a service of your own when a session turns local."""
        return self._hook("download", run)

    def upload(self, run: Handler) -> Handler:
        """`upload(session)`: push the state to a service of your own before a session is let go."""
        return self._hook("upload", run)

    def upgrade(self, run: Handler) -> Handler:
        """`upgrade(value, schema) -> value`: what a version with that `[state] schema` has stored, a map where the state is a dict
        or a dataclass, as this version stores it. Without it no older state is taken."""
        return self._hook("upgrade", run)

    def stop(self, run: Handler) -> Handler:
        """`stop()`: clean up, when this container is no longer needed; it has about a second. One that is killed, or
        crashes, does not come here."""
        return self._hook("stop", run)

    def hook(self, name: str) -> Callable[..., Any] | None:
        """The hook of that name, if the author gave one."""
        return self._hooks.get(name)

    def kind(self) -> Kind:
        """How this function's states are made. Raises TypeError for a declaration that cannot work."""
        return Kind(self._state, self.hook("load"), self.hook("dump"))

    @property
    def default(self) -> str:
        """The method named "call", else the first."""
        return "call" if "call" in self.methods else next(iter(self.methods), "")

    @property
    def is_async(self) -> bool:
        """Whether any handler needs an event loop."""
        return any(method.is_async for method in self.methods.values())

    def find(self, name: str) -> Method | None:
        """The method of that name; the empty name is the default."""
        return self.methods.get(name or self.default)

    def described(self) -> dict[str, dict[str, bool]]:
        """The methods as HELLO tells them."""
        return {method.name: {"shared": method.shared} for method in self.methods.values()}

    def _hook(self, name: str, run: Handler) -> Handler:
        if name in self._hooks:
            raise ValueError(f"@fn.{name} is given twice")
        if inspect.iscoroutinefunction(run):
            raise TypeError(f"@fn.{name} must not be async")
        self._hooks[name] = run
        return run

    def _add(self, run: Callable[..., Any], shared: bool) -> None:
        name = run.__name__
        if name in self.methods:
            raise ValueError(f"two handlers are named {name}")
        if not METHOD_RE.match(name):
            raise ValueError(f"{name!r} cannot be called: methods are 1 to 63 of A-Z, a-z, 0-9 and _")
        if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
            raise TypeError(f"{name}: a handler returns its result, it yields none")
        signature = inspect.signature(run)
        least, most = _arity(name, signature)
        self.methods[name] = Method(
            name,
            run,
            shared,
            inspect.iscoroutinefunction(run),
            least,
            most,
            f"{name}{_shown(signature)}",
        )


def _arity(name: str, signature: inspect.Signature) -> tuple[int, float]:
    """Fewest and most arguments beside the session."""
    least = most = 0
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return max(0, least - 1), math.inf
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"{name}: arguments come by position; {parameter.name} has no default")
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            least += parameter.default is parameter.empty
    if most == 0:
        raise TypeError(f"{name}: a handler's first argument is the session")
    return max(0, least - 1), most - 1


def _shown(signature: inspect.Signature) -> str:
    """The signature as a caller sees it: without the session."""
    parameters = list(signature.parameters.values())
    first = 1 if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL else 0
    return str(inspect.Signature(parameters[first:]))
