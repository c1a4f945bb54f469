"""Which versions of which functions a node serves (DESIGN §6 "Catalogue"): the one for all, and a canary for a share.

Decides which version a session or a call gets. Refuses to know containers, and how a version comes to a node.
"""

from edged.core.catalogue import in_canary

from .deployed import Deployed
from .host import Spec

DEFAULT_MS = 2000
"""`[calls] deadline`, where the function is not known."""


class Served:
    """By function name; only `put` and `take_out` change it."""

    def __init__(self) -> None:
        self.functions: dict[str, Deployed] = {}
        self.canaries: dict[str, tuple[Deployed, int]] = {}
        """With the share of sessions, in per cent."""

    def versions(self) -> list[Deployed]:
        """All that is served, canaries too."""
        return [*self.functions.values(), *(canary for canary, _ in self.canaries.values())]

    def version_for(self, name: str, key: str) -> Deployed | None:
        """What a session gets, or a call by a key of its own."""
        if name in self.canaries:
            canary, share = self.canaries[name]
            if in_canary(key, share):
                return canary
        return self.functions.get(name)

    def default_timeout(self, name: str) -> int:
        """Milliseconds for a call that says none."""
        function = self.functions.get(name)
        return DEFAULT_MS if function is None else int(function.spec.manifest.calls.deadline * 1000)

    def starts_local(self, name: str) -> bool:
        """Whether sessions of `name` begin local-state, or are never anything else."""
        function = self.functions.get(name)
        if function is None:
            return False
        modes = function.spec.manifest.modes
        return "local" in modes.allow and (modes.start == "local" or "remote" not in modes.allow)

    def put(self, spec: Spec, canary: Spec | None, share: int) -> list[Deployed]:
        """Serve `spec`, and `canary` to `share` per cent; the versions that are served no longer. One that was there
        already goes on with the containers it has."""
        name = spec.manifest.name
        old = {version.spec.hash: version for version in self.take_out(name)}
        self.functions[name] = _kept(old, spec)
        if canary is not None:
            self.canaries[name] = _kept(old, canary), share
        return list(old.values())

    def take_out(self, name: str) -> list[Deployed]:
        """The versions of `name`; none is served any more."""
        stable = self.functions.pop(name, None)
        canary, _ = self.canaries.pop(name, (None, 0))
        return [version for version in (canary, stable) if version is not None]


def _kept(old: dict[str, Deployed], spec: Spec) -> Deployed:
    known = old.pop(spec.hash, None)
    return Deployed(spec) if known is None else known
