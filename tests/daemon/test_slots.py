"""Which containers make room for another one: by their number, and by the memory promised to them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edged.core.manifest import parse_manifest
from edged.daemon.deployed import Deployed, Worker
from edged.daemon.host import Spec
from edged.daemon.slots import Slots
from edged_protocol.limits import MIB


class Rig:
    """Slots of a node, with containers that are there at once and end at once."""

    def __init__(self, total: int, memory: int) -> None:
        self.versions: list[Deployed] = []
        self.slots = Slots(total, memory * MIB, lambda: self.versions, self._end)

    def function(self, name: str, memory: int, minimum: int = 0) -> Deployed:
        source = f'[function]\nname = "{name}"\nentry = "f:fn"\n[limits]\nmemory = "{memory}MiB"\n[pool]\nmin = {minimum}\n'
        self.versions.append(Deployed(Spec(parse_manifest(source), name, "")))
        return self.versions[-1]

    def start(self, function: Deployed, seat: Any = None) -> Worker:
        """In the pool, or a session's own."""
        worker = Worker(function, cast(Any, SimpleNamespace(name="c")), cast(Any, None))
        worker.seats = None if seat is None else [seat]
        self.slots.begin(function)
        self.slots.started(worker)
        if seat is None:
            function.pool.add(worker, 0.0)
        return worker

    def _end(self, worker: Worker) -> None:
        worker.function.pool.remove(worker)
        self.slots.ended(worker)


async def test_the_promises_never_exceed_the_memory() -> None:
    """Each start is counted from its begin to its end, or failure; where all is promised nobody else has room."""
    rig = Rig(8, 100)
    small, large = rig.function("small", 20), rig.function("large", 60)
    assert (rig.slots.spare(small), rig.slots.spare(large)) == (5, 1)
    rig.slots.begin(large)
    assert (rig.slots.promised, rig.slots.spare(small), rig.slots.spare(large)) == (60 * MIB, 2, 0)
    rig.slots.failed(large)
    own = rig.start(large, seat="s")
    assert (rig.slots.spare(small), rig.slots.has_room(large)) == (2, False)
    rig.slots.ended(own)
    assert (rig.slots.promised, rig.slots.used) == (0, 0)


async def test_without_a_bound_slots_alone_count() -> None:
    """`memory = 0`: a function of any size has as much room as there are slots."""
    rig = Rig(3, 0)
    assert rig.slots.spare(rig.function("huge", 1 << 20)) == 3


async def test_as_few_idle_containers_end_as_will_do() -> None:
    """Two of twenty for one of forty; where all that are idle would not be enough none ends."""
    rig = Rig(8, 100)
    small, large, vast = rig.function("small", 20), rig.function("large", 40), rig.function("vast", 90)
    for _ in range(4):
        rig.start(small)
    rig.start(small, seat="s")
    assert not rig.slots.make_room(vast)
    assert len(small.pool.containers()) == 4
    assert rig.slots.make_room(large)
    assert (len(small.pool.containers()), rig.slots.spare(large)) == (2, 1)


@pytest.mark.parametrize("own", [True, False])
async def test_a_session_takes_idle_containers_of_its_own_function_too(own: bool) -> None:
    """For its pool a function's idle containers are no gain; for one of its sessions they are. A minimum is kept from
    sessions."""
    rig = Rig(2, 0)
    one = rig.function("one", 20)
    rig.start(one)
    rig.start(one)
    assert rig.slots.has_room(one, own) == own


async def test_a_minimum_gives_way_to_a_function_without_any() -> None:
    """Not to one that has a container, and not to a session."""
    rig = Rig(8, 100)
    kept, large = rig.function("kept", 50, minimum=2), rig.function("large", 50)
    rig.start(kept)
    rig.start(kept)
    assert not rig.slots.has_room(large, own=True)
    assert rig.slots.make_room(large)
    rig.start(large)
    assert not rig.slots.has_room(large)


async def test_who_could_never_fit_beside_the_sessions_is_known() -> None:
    """Pool containers could end, those of local sessions do not without being asked; the reason is told in MiB."""
    rig = Rig(8, 100)
    small, large = rig.function("small", 20), rig.function("large", 60)
    for _ in range(2):
        rig.start(small, seat="s")
    rig.start(small)
    assert rig.slots.fits_beside_sessions(large)
    rig.start(small, seat="s")
    assert not rig.slots.fits_beside_sessions(large)
    assert rig.slots.full(large) == (
        "80 of 100 MiB are promised to containers, another one of this function is to have 60 ([capacity] memory)"
    )
