"""The brain's own decisions: what it believes of others, what it leaves alone, and how a freeze spreads."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from edged.core.manifest import parse_manifest
from edged.core.planning.ledger import Ledger
from edged.core.planning.view import Figures, Move, told
from edged.core.records import SessionKey
from edged.core.rests import Rests
from edged.daemon import brain as module
from edged.daemon.brain import Brain, Made
from edged.daemon.node import Node
from edged.daemon.policy_verbs import policy_explain
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack
from edged_protocol.errors import Code, call_error
from edged_protocol.limits import MAX_NAME, MAX_PLAIN, MAX_SESSION_KEY

KEY = SessionKey("f", "a")


def brain(policy: str = "auto", bodies: dict[str, Any] | None = None) -> Brain:
    """One of a node that serves `f` and has heard what others say of themselves."""
    manifest = parse_manifest(f'[function]\nname = "f"\nentry = "f:fn"\n[modes]\npolicy = "{policy}"\n')
    version = SimpleNamespace(spec=SimpleNamespace(manifest=manifest))
    records = [SimpleNamespace(node=name, body=pack(body)) for name, body in (bodies or {}).items()]
    members = [SimpleNamespace(here=True, record=record) for record in records]
    node = SimpleNamespace(
        name="n1",
        config=SimpleNamespace(capacity=SimpleNamespace(memory=1 << 30), policy=SimpleNamespace(guard=0.8, wish_guard=0.9, budget=2, hysteresis=0.02)),
        relay=SimpleNamespace(seats={}),
        router=SimpleNamespace(),
        workers=SimpleNamespace(
            slots=SimpleNamespace(total=4),
            served=SimpleNamespace(functions={}, version_for=lambda name, key: version if name == "f" else None),
        ),
        gossip=SimpleNamespace(core=SimpleNamespace(members=lambda: members)),
    )
    return Brain(cast(Node, node), Ledger())


async def test_what_others_say_is_read_with_care() -> None:
    """Figures count as they are told; what is none, or a node that takes nothing, is left out."""
    figures = Figures(local=2, free=3, service_remote=0.01, rates=(0.5,))
    good = {"containers": [1, 8], "state": "alive", "sessions_of": {"f": told(figures), "g": [1], "h": None}}
    bodies = {
        "good": good,
        "bare": {"containers": [0, 4], "state": "alive"},
        "full": {**good, "state": "draining"},
        "wrong": {"containers": "many", "state": "alive"},
        "odd": {"containers": [1, None], "state": "alive", "sessions_of": 3},
        "none": 7,
    }
    peers = {peer.node: peer for peer in (await brain(bodies=bodies).view(trio.current_time())).peers}
    assert set(peers) == {"good", "bare"}
    assert (peers["good"].slots, dict(peers["good"].figures)) == (8, {"f": figures})
    assert not peers["bare"].figures


async def test_the_highest_freeze_counts() -> None:
    """Odd is frozen; a node that hears of a later word follows it, and its own next word is later still."""
    one, other = brain(), brain()
    one.freeze(True)
    one.freeze(True)
    assert (one.frozen, one.freezes) == (True, 1)
    other.follow_freeze(one.freezes)
    assert other.frozen
    other.freeze(False)
    one.follow_freeze(other.freezes)
    assert (one.frozen, one.freezes) == (False, 2)
    one.follow_freeze(1)
    assert not one.frozen
    assert one.told() == {"freezes": 2}


async def test_a_hold_ends(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator moved is left alone for its time, and the memory of such moves is bounded."""
    held = brain()
    held.hold(KEY, "local")
    move = Move(KEY, "", "the pool needs it", 1.0, 0.0)
    assert not held._may(move, trio.current_time())
    await trio.sleep(module.HOLD_SECONDS + 1)
    assert held._may(move, trio.current_time())
    monkeypatch.setattr(module, "MOST_HELD", 2)
    for name in "abc":
        held.hold(SessionKey("f", name), "remote")
    now = trio.current_time()
    assert [name for name in "abc" if held.held(SessionKey("f", name), now)] == ["b", "c"]


async def test_a_local_session_is_not_sent_after_its_client() -> None:
    """Whether sessions follow is their function's word, not the policy's."""
    node = brain()
    node._node.relay.seats[KEY] = cast(Any, SimpleNamespace(local=True))
    assert not node._may(Move(KEY, "n2", "its client calls through n2", 1.0, 0.0), trio.current_time())
    assert node._may(Move(KEY, "", "the pool needs it", 1.0, 0.0), trio.current_time())


@pytest.mark.parametrize(
    ("policy", "wanted", "room", "granted"),
    [
        ("application", "local", 0, True),
        ("application", "remote", 0, True),
        ("auto", "local", 1, True),
        ("auto", "local", 0, False),
        ("auto", "remote", 0, True),
        ("pinned-local", "remote", 5, False),
        ("pinned-remote", "local", 5, False),
    ],
)
async def test_which_wishes_are_granted(policy: str, wanted: Any, room: int, granted: bool) -> None:
    """Applications alone: always. The mesh: as far as its plan has room. Pinned: never. The wish is remembered anyway."""
    node = brain(policy)
    node._room = {"f": room}
    node._node.relay.seats[KEY] = cast(Any, SimpleNamespace(local=False, rests=Rests(), rules=SimpleNamespace(min_dwell=1.0)))
    assert node.grants(KEY, wanted) is granted
    assert node.ledger.wish(KEY) == wanted
    if policy == "auto" and wanted == "local":
        assert node.grants(KEY, wanted) is False


@pytest.mark.parametrize("error", [call_error(Code.MOVING, "it moves already"), KeyError("a defect")])
async def test_a_move_that_fails_ends_nothing(error: Exception) -> None:
    """It is told with its reason, and tried again when the session's dwell time is over; the node goes on."""
    node, told = brain(), list[tuple[str, dict[str, Any]]]()

    async def move(*_: object) -> None:
        raise error

    node._node.moves = cast(Any, SimpleNamespace(move=move))
    node._node.events = cast(Any, SimpleNamespace(note=lambda event, **about: told.append((event, about))))
    wanted = Move(KEY, "n1", "it is worth it", 1.0, 0.0)
    node._moving[KEY] = wanted
    began = trio.current_time()
    await node._make(wanted)
    assert not node._moving
    assert [made.failed for made in node.made] == [told[0][1]["why"]]
    assert (told[0][0], told[0][1]["cause"], told[0][1]["reason"]) == ("policy.failed", "network", "it is worth it")
    assert began <= node.ledger.session(KEY, "remote", trio.current_time()).moved <= trio.current_time()


async def test_an_answer_fits_into_a_frame() -> None:
    """Moves of sessions with the longest names, as many as are remembered: the newest are told, and that there are more."""
    node = brain()
    for number in range(module.MOST_MOVES):
        key = SessionKey("f" * MAX_NAME, f"{number:03}" + "s" * (MAX_SESSION_KEY - 3))
        node.made.append(Made("2026-01-01T00:00:00+00:00", Move(key, "n2", "it is worth it", 1.0, 0.0), "x" * 500))
    node._node.brain = node
    request = m.Request(1, "policy.explain", {"here": True})
    answer, _ = await policy_explain(node._node, cast(Any, None), request)
    frame = encode(m.Reply(1, answer, None))
    assert len(frame) < MAX_PLAIN
    assert len(answer["moves"]) > 10
    assert answer["moves"][-1]["session"].startswith(f"{module.MOST_MOVES - 1:03}")
    assert answer["more"] is True
