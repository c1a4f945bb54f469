"""Local sessions of an old version: which are moved to the new one, and what happens to the others meanwhile."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from edged.core.manifest import parse_manifest
from edged.core.records import SessionKey
from edged.daemon.deployed import Deployed, Worker
from edged.daemon.host import Spec
from edged.daemon.renewal import Renewal
from edged_protocol.errors import CallError, Code, call_error

A, B = SessionKey("f", "a"), SessionKey("f", "b")


def version(schema: int, upgrades: bool | None) -> Deployed:
    source = f'[function]\nname = "f"\nentry = "f:fn"\n[state]\nschema = {schema}\n'
    function = Deployed(Spec(parse_manifest(source), str(schema), ""))
    function.imported(upgrades)
    return function


class Rig:
    """Two idle local sessions of a version with schema 1, and one that is deployed."""

    def __init__(self, new: Deployed) -> None:
        worker = Worker(version(1, False), cast(Any, SimpleNamespace(name="c")), cast(Any, None))
        self.seats = {key: SimpleNamespace(container=worker, local=True, version=1, own=[]) for key in (A, B)}
        self.moved: list[tuple[SessionKey, str]] = []
        served = SimpleNamespace(version_for=lambda *_: new)
        relay = SimpleNamespace(seats=self.seats, draining=False)
        self.renewal = Renewal(cast(Any, relay), cast(Any, SimpleNamespace(served=served, resting=False)), cast(Any, self))

    async def move(self, key: SessionKey, move: str, to: str) -> None:
        """As `Moves` does; a session that is not here is none."""
        if key not in self.seats:
            raise call_error(Code.BAD_REQUEST, "no such session")
        self.moved.append((key, move))
        if move == "localize":
            self.seats.clear()  # and the other one leaves by itself meanwhile
        await trio.lowlevel.checkpoint()


async def test_a_session_that_left_meanwhile_is_no_trouble(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """One after the other is moved; who has gone until its turn comes is not missed."""
    rig = Rig(version(2, True))
    nursery.start_soon(rig.renewal.run)
    await trio.sleep(5)
    assert rig.moved == [(A, "externalize"), (A, "localize")]
    with pytest.raises(CallError):
        await rig.move(B, "externalize", "")


@pytest.mark.parametrize("upgrades", [False, None])
async def test_nobody_is_moved_to_a_version_that_would_not_take_it(
    upgrades: bool | None, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Nor to one of which that is not known yet: the old version serves on."""
    rig = Rig(version(2, upgrades))
    nursery.start_soon(rig.renewal.run)
    await trio.sleep(100)
    assert rig.moved == []
