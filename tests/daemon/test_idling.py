"""Local sessions that nobody calls: which go back to the store, and which end."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edged.core.alarms import NONE, Alarm, Alarms
from edged.core.manifest import parse_manifest
from edged.core.records import SessionKey
from edged.daemon.idling import Idling

KEY = SessionKey("f", "s")
ALARM = Alarms({"a": Alarm("a", 9.0, "", b"", 1, 1)})


def due(settings: str, quiet: float, *, alarms: Alarms = NONE, held: object = None, running: bool = False, local: bool = True) -> list[str]:
    """What becomes of a session that was called so many seconds ago."""
    manifest = parse_manifest('[function]\nname = "f"\nentry = "f:fn"\n' + settings)
    seat = SimpleNamespace(called=100.0, alarms=alarms, local=local, own=[1] if running else [])
    version = SimpleNamespace(spec=SimpleNamespace(manifest=manifest))
    workers = SimpleNamespace(served=SimpleNamespace(version_for=lambda *_: version))
    relay = SimpleNamespace(seats={KEY: seat})
    idling = Idling(cast(Any, relay), cast(Any, workers), cast(Any, None), lambda key, now: held)
    return [idle.move for idle in idling._idle(100.0 + quiet)]


def test_an_idle_session_goes_back_to_the_store() -> None:
    """After ten minutes, or what its function says; 0 is never."""
    assert due("", 599) == []
    assert due("", 600) == ["externalize"]
    assert due('[modes]\nidle = "5s"', 5) == ["externalize"]
    assert due("[modes]\nidle = 0", 1e9) == []


@pytest.mark.parametrize("settings", ['policy = "pinned-local"', 'allow = ["local"]\nstart = "local"'])
def test_what_has_to_be_local_stays(settings: str) -> None:
    """Whom the manifest pins, or leaves no other mode."""
    assert due(f"[modes]\n{settings}", 1e9) == []


def test_what_is_in_use_stays() -> None:
    """One with a call in its container, one that an operator put there lately, one that is moving already."""
    assert due("", 1e9, running=True) == []
    assert due("", 1e9, held=("local", 1.0)) == []
    assert due("", 1e9, local=False) == []


def test_a_local_session_expires_where_it_is() -> None:
    """Its node ends it, whatever keeps it there, but for an alarm that it waits for."""
    for more in ("", "[modes]\nidle = 0", '[modes]\npolicy = "pinned-local"'):
        assert due('[state]\nttl = "1h"\n' + more, 3600) == ["end"]
    assert due('[state]\nttl = "1h"\n[modes]\nidle = 0', 3600, alarms=ALARM) == []
