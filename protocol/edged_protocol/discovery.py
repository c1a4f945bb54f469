"""Brokers on the LAN, found by mDNS (SPEC "Discovery"). Needs python-zeroconf, which is imported when asked for.

    for broker in discover("plant-7"):
        print(broker.node, broker.address)

Blocking: from trio, `await trio.to_thread.run_sync(discover, "plant-7")`.
"""

import threading
from typing import Any, cast

from .announcement import MAX_TEXT, SERVICE, Announced, address_of, read

MAX_FOUND = 128
"""Announcements kept: on a LAN anybody can announce anything."""


def discover(mesh: str | None = None, seconds: float = 2.0) -> list[Announced]:
    """The brokers that announce themselves, of one mesh or of all; waits `seconds`. Raises OSError without a
    network, ValueError for a name no mesh can have."""
    from zeroconf import ServiceBrowser

    if mesh is not None and not 0 < len(mesh) <= MAX_TEXT:
        raise ValueError(f"{mesh!r} is no name of a mesh")
    zeroconf = _listening()
    try:
        finder = Finder()
        ServiceBrowser(zeroconf, SERVICE, listener=cast(Any, finder))
        finder.more.wait(seconds)
        found = finder.found()
    finally:
        zeroconf.close()
    return sorted(one for one in found if mesh in (None, one.mesh))


def _listening() -> Any:
    """On IPv4 and IPv6; on a machine that has no IPv6 on IPv4 alone."""
    from zeroconf import IPVersion, Zeroconf

    try:
        return Zeroconf(ip_version=IPVersion.All)
    except OSError:
        return Zeroconf()


class Finder:
    """A listener of python-zeroconf that keeps what was announced. Its methods run in zeroconf's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, list[Announced]] = {}
        self.more = threading.Event()
        """Never set: whoever waits waits for the time to pass."""

    def found(self) -> list[Announced]:
        """All there is now."""
        with self._lock:
            return [one for rows in self._found.values() for one in rows]

    def add_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """An instance appeared."""
        rows = announced(zeroconf, type_, name)
        with self._lock:
            if rows and (name in self._found or len(self._found) < MAX_FOUND):
                self._found[name] = rows

    def update_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """Its records are others."""
        self.add_service(zeroconf, type_, name)

    def remove_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """It said goodbye, or was not heard for long."""
        with self._lock:
            self._found.pop(name, None)


def announced(zeroconf: Any, type_: str, name: str) -> list[Announced]:
    """What is known of an instance now, a row for each of its addresses; nothing is asked for."""
    from zeroconf import IPVersion, ServiceInfo

    info = ServiceInfo(type_, name)
    if not info.load_from_cache(zeroconf) or not info.port:
        return []
    names = read(info.properties)
    if names is None:
        return []
    hosts = info.parsed_scoped_addresses(IPVersion.All)[:4]
    return [Announced(*names, address_of(host, info.port)) for host in hosts]
