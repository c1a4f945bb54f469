"""sd_notify and the watchdog's interval: what systemd wants to hear, without its library."""

import os
import socket


def notify(state: str) -> bool:
    """Send `READY=1`, `STATUS=…`, …; False when nobody listens. Never raises, never blocks."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        return False
    return True


def watchdog_interval() -> float | None:
    """Seconds within which systemd wants `WATCHDOG=1`, or None."""
    pid, micros = os.environ.get("WATCHDOG_PID"), os.environ.get("WATCHDOG_USEC", "")
    if pid is not None and pid != str(os.getpid()):
        return None
    return int(micros) / 1e6 if micros.isdigit() and int(micros) else None
