"""Announces this node on the LAN and hears who else is there: mDNS by python-zeroconf (DESIGN §6).

Decides on which interfaces, and when to announce again. What is heard are candidates, nothing more. zeroconf has
threads of its own; they reach trio by `run_sync_soon` only, and what they say waits in a bounded box. Whatever goes
wrong there is logged and tried again: a node without multicast serves as before.
"""

import logging
import threading
import zlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

import ifaddr
import trio
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, Zeroconf

from edged_protocol.announcement import SERVICE, Announced, properties
from edged_protocol.discovery import Finder

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the interfaces, which may change when a cable is plugged in."""

TELL_SECONDS = 20.0
"""Between two times of telling all that is known: candidates forget what they do not hear again."""

STOP_SECONDS = 3.0

NOT_REAL = ("lo", "docker", "br-", "veth", "virbr", "cni", "flannel")
"""Names of interfaces behind which there is no LAN but this machine's own containers."""


class Discovery:
    """`run` announces until it is cancelled; `heard` gets, on trio's thread, all that is announced by others."""

    def __init__(
        self,
        mesh: str,
        node: str,
        bound: tuple[str, int],
        heard: Callable[[list[Announced]], None],
        announces: bool = True,
    ) -> None:
        """Without `announces` it only listens, for who is not there yet."""
        self._mesh = mesh
        self._node = node
        self._bound = bound
        self._heard = heard
        self._announces = announces
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._finder = _Finder(self._wake.set)
        self._trouble = ""

    async def run(self) -> None:
        """Start the thread and end it. On loopback there is nobody to find."""
        if _host(self._bound[0]).is_loopback:
            return
        self._token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=self._work, name="discovery", daemon=True)
        thread.start()
        try:
            await trio.sleep_forever()
        finally:
            self._stopping.set()
            self._wake.set()
            with trio.move_on_after(STOP_SECONDS, shield=True):
                await trio.to_thread.run_sync(thread.join, STOP_SECONDS)

    # In the thread

    def _work(self) -> None:
        announced: tuple[str, ...] = ()
        zeroconf: Zeroconf | None = None
        while not self._stopping.is_set():
            try:
                found = addresses(self._bound[0])
                if found != announced:
                    _close(zeroconf)
                    zeroconf, announced = None, ()
                    zeroconf = self._announce(found) if found else None
                    announced = found
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - of zeroconf, sockets or the system: discovery goes on
                self._complain(error)
            self._pass_on()
        _close(zeroconf)

    def _announce(self, found: tuple[str, ...]) -> Zeroconf:
        version = IPVersion.All if any(":" in address for address in found) else IPVersion.V4Only
        zeroconf = Zeroconf(interfaces=list(found), ip_version=version)
        try:
            ServiceBrowser(zeroconf, SERVICE, listener=cast(Any, self._finder))
            if not self._announces:
                return zeroconf
            zeroconf.register_service(self._service(found), allow_name_change=True)
        except BaseException:
            zeroconf.close()
            raise
        log.info("announced as %s of mesh %s on %s", self._node, self._mesh, ", ".join(found))
        return zeroconf

    def _service(self, found: tuple[str, ...]) -> ServiceInfo:
        # A mesh's name may be as long as a label may be; two meshes may have nodes of one name.
        instance = f"{self._node[:40]}-{zlib.crc32(f'{self._mesh} {self._node}'.encode()):08x}"
        return ServiceInfo(
            SERVICE,
            f"{instance}.{SERVICE}",
            port=self._bound[1],
            properties=properties(self._mesh, self._node),
            server=f"{instance}.local.",
            parsed_addresses=told(found),
        )

    def _complain(self, error: Exception) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("discovery by mDNS does not work (it is tried again): %r", error)

    def _pass_on(self) -> None:
        """Tell what is known, at each change and every `TELL_SECONDS`; look at the interfaces between."""
        self._wake.wait(LOOK_SECONDS)
        if self._wake.is_set():
            self._wake.clear()
            self._finder.age = 0.0
        elif (age := self._finder.age + LOOK_SECONDS) < TELL_SECONDS:
            self._finder.age = age
            return
        else:
            self._finder.age = 0.0
        found = self._finder.found()
        try:
            self._token.run_sync_soon(self._heard, found)
        except trio.RunFinishedError:
            self._stopping.set()


class _Finder(Finder):
    """Tells when there is something new."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self.age = 0.0
        """Seconds since the last telling; the discovery's thread's own."""

    def add_service(self, zeroconf: Zeroconf, type_: str, name: str) -> None:
        """See `Finder`."""
        super().add_service(zeroconf, type_, name)
        self._changed()


def _close(zeroconf: Zeroconf | None) -> None:
    """Say goodbye."""
    if zeroconf is not None:
        try:
            zeroconf.close()
        except Exception as error:  # noqa: BLE001 - an interface that is gone takes no goodbye
            log.debug("goodbye: %s", error)


def addresses(bound: str) -> tuple[str, ...]:
    """The addresses under which a listener bound to `bound` is found on the LAN; none for loopback. One that is bound
    to `::` takes IPv4 as well."""
    host = ip_address(bound.partition("%")[0])
    if host.is_loopback:
        return ()
    if not host.is_unspecified:
        return (bound,)
    real = [adapter for adapter in ifaddr.get_adapters() if not adapter.nice_name.startswith(NOT_REAL)]
    found = [_text(ip.ip) for adapter in real for ip in adapter.ips if ip.is_IPv4 or host.version == 6]
    return tuple(sorted(address for address in found if not _host(address).is_loopback))


def told(found: tuple[str, ...]) -> list[str]:
    """Of these, the ones that are announced: an address of one link means something only to who is on it, and is told
    when there is no other."""
    wide = [address for address in found if not _host(address).is_link_local]
    return [address.partition("%")[0] for address in wide or found]


def on_a_lan(host: str) -> bool:
    """Whether who listens there is found on a LAN; of a name nobody knows before it was looked up."""
    try:
        return bool(addresses(host))
    except ValueError:
        return False


def _host(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


def _text(ip: str | tuple[str, int, int]) -> str:
    """IPv6 comes as (address, flow, scope)."""
    return ip if isinstance(ip, str) else f"{ip[0]}%{ip[2]}" if ip[2] else ip[0]
