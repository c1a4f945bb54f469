"""Hosts on one LAN: network namespaces with a cable each to a bridge, on which this process has an address too."""

import itertools
import os
import subprocess
from typing import NamedTuple

UDP = "17"
"""By its number: a bare system has no list of names."""

_numbers = itertools.count(os.getpid() % 4096 * 16)


class Host(NamedTuple):
    """One of them; `inside` goes in front of a command that runs there."""

    name: str
    ip: str
    port: str
    ip6: str
    families: str

    @property
    def inside(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    @property
    def listens(self) -> str:
        """Where a node there listens: everywhere."""
        return "[::]:7400" if "6" in self.families else "0.0.0.0:7400"

    @property
    def address(self) -> str:
        """Where this process finds it."""
        return f"{self.ip}:7400" if "4" in self.families else f"[{self.ip6}]:7400"

    def ip_command(self, *words: str) -> None:
        """`ip` with these words, there."""
        _ip("-n", self.name, *words)


class Lan:
    """`host` adds one; `close` leaves nothing behind. Raises RuntimeError without the rights of root."""

    def __init__(self) -> None:
        number = next(_numbers) % 65_000
        self._tag = f"e{number:04x}"
        self._net = f"10.{number % 100 + 100}.{number // 256 % 256}"
        self._net6 = f"fd00:0:0:{number:x}:"
        self._hosts: list[Host] = []
        _ip("link", "add", self._tag, "type", "bridge", "mcast_snooping", "0")
        _ip("addr", "add", f"{self._net}.254/24", "dev", self._tag)
        _ip("addr", "add", f"{self._net6}:fe/64", "dev", self._tag, "nodad")
        _ip("link", "set", self._tag, "up")

    def host(self, *, plugged: bool = True, families: str = "4") -> Host:
        """One more, with IPv4 ("4"), IPv6 ("6") or both ("46"); not `plugged`, its cable is not in yet."""
        number = len(self._hosts) + 1
        v4, v6 = f"{self._net}.{number}", f"{self._net6}:{number}"
        host = Host(f"{self._tag}h{number}", v4, f"{self._tag}p{number}", v6, families)
        _ip("netns", "add", host.name)
        self._hosts.append(host)
        _ip("link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        _ip("link", "set", host.port, "master", self._tag)
        host.ip_command("link", "set", "lo", "up")
        if plugged:
            self.plug(host)
        return host

    def plug(self, host: Host) -> None:
        """Put the cable in."""
        _ip("link", "set", host.port, "up")
        host.ip_command("link", "set", "eth0", "up")
        if "4" in host.families:
            host.ip_command("addr", "add", f"{host.ip}/24", "dev", "eth0")
            host.ip_command("route", "add", "default", "via", f"{self._net}.254")
        if "6" in host.families:
            host.ip_command("addr", "add", f"{host.ip6}/64", "dev", "eth0", "nodad")

    def without_multicast(self) -> None:
        """The bridge passes no multicast on, as many a managed switch."""
        for host in self._hosts:
            _ip("link", "set", host.port, "type", "bridge_slave", "mcast_flood", "off")

    def without_datagrams(self, host: Host) -> None:
        """A firewall that knows TCP only: no UDP gets to that host, nor away from it."""
        host.ip_command("rule", "add", "pref", "5", "ipproto", UDP, "blackhole")
        host.ip_command("rule", "add", "pref", "10", "lookup", "local")
        host.ip_command("rule", "del", "pref", "0")

    def cut(self, host: Host, others: list[Host], mend: bool = False) -> None:
        """Between `host` and these nothing passes, though all others still reach it; until `mend`."""
        for other in others:
            host.ip_command("route", "del" if mend else "add", "blackhole", other.ip)

    def close(self) -> None:
        for host in self._hosts:
            _ip("netns", "del", host.name, check=False)
        _ip("link", "del", self._tag, check=False)


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
