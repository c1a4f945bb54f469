"""Control verbs: who may send which, and what a mistake is answered with."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core import records as r
from edged.core.catalogue import Catalogue, Pointer
from edged.core.regression import Guard
from edged.daemon import verbs
from edged.daemon.link import Link
from edged.daemon.node import Node
from edged.daemon.session_verbs import PAGE
from edged_protocol import messages as m
from edged_protocol.codec import decode, pack
from edged_protocol.errors import Code
from edged_protocol.limits import MAX_NAME, MAX_PLAIN, MAX_SESSION_KEY

OF_NODES = sorted(set(verbs.NODE_VERBS) - set(verbs.VERBS))


class FakeLink:
    """A connection that remembers what is sent on it."""

    closed = False

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = "them"
        self.inflight = 1
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def flush(self) -> None:
        pass


class FakeStore:
    """Sessions in key order."""

    def __init__(self, keys: list[r.SessionKey]) -> None:
        self._keys = keys
        self.asked: list[r.ListSessions] = []

    def submit(self, op: r.ListSessions, done: Any) -> None:
        self.asked.append(op)
        rows = [
            (key, RECORD)
            for key in self._keys
            if (op.after is None or key > op.after) and op.function in (None, key.function)
        ]
        listed = r.Listed(tuple(rows[: op.limit]))
        trio.lowlevel.current_trio_token().run_sync_soon(done, listed)


RECORD = r.Record(
    epoch=2**40,
    mode="local",
    owner="n" * MAX_NAME,
    owner_boot="b",
    version=2**40,
    move=None,
    state=None,
    floor=False,
    schema=1,
    updated=0.0,
    alarms=None,
)


async def said(node: Any, role: str, verb: str, params: m.Map | None = None) -> m.Message:
    """The one answer to a verb, decoded from its frame."""
    link = FakeLink(role)
    request = m.Request(1, verb, params or {})
    await verbs.answer(cast(Node, node), cast(Link, link), request)
    assert link.inflight == 0
    [frame] = link.sent
    return decode(frame[4:])


def node_with(*keys: r.SessionKey, functions: tuple[str, ...] = ()) -> Any:
    catalogue = Catalogue()
    for name in functions:
        catalogue.merge(Pointer(name, 1, "n1", "0" * 64))
    deployments = SimpleNamespace(catalogue=catalogue)
    return SimpleNamespace(name="n1", store=FakeStore(list(keys)), deployments=deployments)


@pytest.mark.parametrize("verb", sorted(verbs.NODE_VERBS))
async def test_a_device_has_no_verbs(verb: str) -> None:
    """Every verb, whatever it carries, is refused with 203 before it is looked at."""
    refused = await said(None, "device", verb)
    assert isinstance(refused, m.Error)
    assert refused.code == Code.FORBIDDEN


@pytest.mark.parametrize("verb", [*OF_NODES, *verbs.AT_ONCE, "store.load", "nothing"])
@pytest.mark.parametrize("role", ["operator", "", "worker"])
async def test_the_nodes_own_verbs_are_for_nodes(role: str, verb: str) -> None:
    """An operator cannot speak for a node, nor can one that says no known role; unknown verbs are refused alike."""
    refused = await said(None, role, verb)
    assert isinstance(refused, m.Error)
    assert refused.code == Code.FORBIDDEN
    assert verb in refused.message


@pytest.mark.parametrize("role", ["operator", "node"])
@pytest.mark.parametrize("verb", sorted(verbs.VERBS))
async def test_operators_and_nodes_are_let_in(role: str, verb: str) -> None:
    """The operator's verbs are run for both: nodes pass them on to each other."""
    answer = await said(node_with(), role, verb)
    assert not isinstance(answer, m.Error) or answer.code != Code.FORBIDDEN


async def test_a_listing_is_paged() -> None:
    """Page by page every session comes once, `limit` makes pages smaller and never larger."""
    keys = [r.SessionKey("f", f"{n:04}") for n in range(2 * PAGE + 1)]
    node, got, after = node_with(*keys, functions=("f",)), [], None
    while True:
        params: m.Map = {} if after is None else {"after": after}
        reply = await said(node, "operator", "session.list", params)
        assert isinstance(reply, m.Reply)
        if not reply.result:
            break
        got += [(row["function"], row["session"]) for row in reply.result]
        after = list(got[-1])
    assert got == keys
    for limit, expected in ((1, 1), (PAGE + 1, PAGE), (0, 1)):
        reply = await said(node, "operator", "session.list", {"limit": limit})
        assert isinstance(reply, m.Reply)
        assert len(reply.result) == expected


async def test_a_full_page_fits_into_a_frame() -> None:
    """The longest keys and names, and numbers of many digits: a listing is never too large to send."""
    function, text = "f" * MAX_NAME, "k" * (MAX_SESSION_KEY - 4)
    keys = [r.SessionKey(function, f"{text}{n:04}") for n in range(PAGE)]
    reply = await said(node_with(*keys), "operator", "session.list")
    assert isinstance(reply, m.Reply)
    assert len(reply.result) == PAGE
    assert len(pack(reply.result)) < MAX_PLAIN - 1000


async def test_sessions_of_a_function_nobody_deployed_are_a_mistake() -> None:
    """204 where there are none; those of a function that was removed are still listed."""
    node = node_with(r.SessionKey("gone", "s"), functions=("empty",))
    refused = await said(node, "operator", "session.list", {"function": "typo"})
    assert isinstance(refused, m.Error)
    assert refused.code == Code.NO_SUCH_FUNCTION
    for function, count in (("gone", 1), ("empty", 0)):
        reply = await said(node, "operator", "session.list", {"function": function})
        assert isinstance(reply, m.Reply)
        assert len(reply.result) == count


@pytest.mark.parametrize(
    ("verb", "params", "word"),
    [
        ("session.list", {"after": "f"}, "after"),
        ("session.list", {"after": ["f"]}, "after"),
        ("session.list", {"after": ["f", 1]}, "after"),
        ("session.list", {"limit": -1}, "limit"),
        ("session.list", {"limit": True}, "limit"),
        ("session.list", {"function": 7}, "function"),
        ("session.get", {"function": "f"}, "session"),
        ("session.migrate", {"function": "f", "session": "s"}, "to"),
        ("session.migrate", {"function": "f", "session": "s", "to": []}, "to"),
        ("function.upload", {"hash": "0" * 64, "offset": 0}, "total"),
        ("function.upload", {"hash": "0" * 64, "offset": "0", "total": 1}, "offset"),
        ("function.remove", {"name": ""}, "name"),
        ("function.logs", {}, "name"),
    ],
)
async def test_a_wrong_parameter_is_named(verb: str, params: m.Map, word: str) -> None:
    """201, with the name of the parameter and never a defect's 500."""
    refused = await said(node_with(functions=("f",)), "operator", verb, params)
    assert isinstance(refused, m.Error)
    assert refused.code == Code.BAD_REQUEST
    assert word in refused.message


async def test_a_defect_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A verb that fails in a way nobody thought of is 500 for its caller, with a traceback in the log."""
    answer = await said(SimpleNamespace(), "operator", "session.list")
    assert isinstance(answer, m.Error)
    assert answer.code == Code.INTERNAL
    assert "Traceback" in caplog.text


async def test_a_verb_that_hangs_is_answered(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """401 after the verbs' deadline, whatever it waits for."""

    async def hang(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setitem(verbs.VERBS, "node.status", hang)
    answer = await said(None, "operator", "node.status")
    assert isinstance(answer, m.Error)
    assert answer.code == Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("wrong", [{"seen": None}, {"found": [1]}, {"seen": [1, "2"]}, {"session": ""}, {}])
def test_a_node_freezes_what_another_one_has_found_to_have_gone_back(wrong: m.Map) -> None:
    """With both points, as numbers; else it is refused and nothing is frozen."""
    node = SimpleNamespace(guard=Guard())
    params = {"function": "f", "session": "s", "seen": [0, 3], "found": [0, 2], **wrong}
    answer = verbs.AT_ONCE["session.freeze"](cast(Any, node), m.Request(1, "session.freeze", params))
    if wrong:
        assert isinstance(answer, m.Error)
        assert (answer.code, node.guard.frozen) == (Code.BAD_REQUEST, {})
    else:
        assert [one.seen for one in node.guard.frozen.values()] == [(0, 3)]
