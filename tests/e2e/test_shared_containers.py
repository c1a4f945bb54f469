"""Several local sessions in one container, on real nodes: what they share, and what is each one's own."""

import os
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from support.dense import dense, localized, shares, used
from support.nodes import COUNTER, Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

EIGHT = [f"s{n}" for n in range(8)]
FUNCTIONS = Path(__file__).parents[1] / "support" / "functions"


class Held:
    """A session's handler that keeps its container busy until `released`."""

    def __init__(self, root: Path, address: str, session: str) -> None:
        self._begun, self._until = root / f"begun-{session}", root / f"until-{session}"
        self._client = WireClient(address)
        self._call = self._client.send("keyed", session, "hold", str(self._begun), str(self._until), timeout_ms=60_000)
        until(self._begun.exists)

    def released(self) -> int:
        """Let it end; what it counted to."""
        self._until.touch()
        with closing(self._client):
            return int(self._client.outcome(self._call)[0])


@pytest.fixture
def client(nodes: Nodes, tmp_path: Path) -> Iterator[WireClient]:
    """Of a node of three slots, with the function four of whose sessions share a container."""
    address = nodes.start("n1", containers=3)
    deploy(address, dense(tmp_path, 4))
    with closing(WireClient(address)) as client:
        yield client


def test_sessions_fill_one_container_after_the_other(nodes: Nodes, client: WireClient) -> None:
    """Eight sessions, asked for all at once, are in two containers, and each has a state of its own; slots are counted in
    containers, and one is free again when the last session of its container has left."""
    address = nodes.addresses["n1"]
    with closing(WireClient(address, "operator")) as operator:
        asked = [operator.send_request("session.localize", {"function": "keyed", "session": one}) for one in EIGHT]
        for one in asked:
            operator.reply(one)
        assert used(address) == 2
        for number, session in enumerate(EIGHT):
            assert client.call("keyed", session, "incr", number) == number
        groups = shares(client, *EIGHT)
        assert [len(group) for group in groups] == [4, 4]
        for left, session in enumerate(groups[0], 1):
            operator.request("session.externalize", {"function": "keyed", "session": session})
            if left < 4:
                assert used(address) == 2
        until(lambda: used(address) == 1)
        assert shares(client, *groups[1]) == [groups[1]]
        localized(address, "another")
        assert len(shares(client, "another", *groups[1])) == 2, "a full container takes no fifth"
        for number, session in enumerate(EIGHT):
            assert client.call("keyed", session, "get", "n") == number


def test_a_node_is_full_when_its_places_are(nodes: Nodes, tmp_path: Path) -> None:
    """One slot holds four sessions; a fifth is refused with 104."""
    address = nodes.start("n1", containers=1)
    deploy(address, dense(tmp_path, 4))
    localized(address, *EIGHT[:4])
    with pytest.raises(CallError, match="all 1 container slots are taken") as caught:
        localized(address, EIGHT[4])
    assert caught.value.code == 104


def test_a_session_without_calls_waiting_has_its_turn(nodes: Nodes, client: WireClient, tmp_path: Path) -> None:
    """Behind a long call, forty calls of one session wait, then one of another: that one is the second to run."""
    address = nodes.addresses["n1"]
    localized(address, "long", "many", "one")
    held = Held(tmp_path, address, "long")
    with closing(WireClient(address, "operator")) as operator:
        many = [operator.send("keyed", "many", "incr", timeout_ms=60_000) for _ in range(40)]
        one = operator.send("keyed", "one", "incr", timeout_ms=60_000)
        operator.request("node.status", {})  # by then the node has them all
        assert held.released() == 1
        assert operator.outcome(one)[0] == 1
        assert [operator.outcome(call)[0] for call in many] == list(range(1, 41))
        order = [message.id for message in operator.answered]
        assert order.index(one) <= 2


def test_a_call_behind_anothers_keeps_its_deadline(nodes: Nodes, client: WireClient, tmp_path: Path) -> None:
    """One that is not begun by its deadline is answered 401 with `ran` false at that moment, and never runs."""
    address = nodes.addresses["n1"]
    localized(address, "long", "one")
    assert client.call("keyed", "one", "incr") == 1
    held = Held(tmp_path, address, "long")
    with pytest.raises(CallError) as caught:
        client.once("keyed", "one", "incr", timeout_ms=100)
    assert (caught.value.code, caught.value.meta) == (401, {"ran": False})
    assert held.released() == 1
    assert client.call("keyed", "one", "incr") == 2


def test_readers_go_by_a_long_call_of_another(nodes: Nodes, client: WireClient, tmp_path: Path) -> None:
    """A reader of a session is answered while its container runs another session's writer."""
    address = nodes.addresses["n1"]
    localized(address, "long", "one")
    assert client.call("keyed", "one", "incr") == 1
    held = Held(tmp_path, address, "long")
    assert client.once("keyed", "one", "get", "n", timeout_ms=60_000)[0] == 1
    assert held.released() == 1


def test_a_session_that_ends_leaves_the_others(nodes: Nodes, client: WireClient) -> None:
    """It begins anew with the next call, and may come back into the container in which the others have gone on."""
    address = nodes.addresses["n1"]
    localized(address, "one", "two")
    assert [client.call("keyed", session, "incr", 5) for session in ("one", "two")] == [5, 5]
    client.call("keyed", "one", "last")
    assert client.call("keyed", "one", "incr") == 1
    localized(address, "one")
    assert [client.call("keyed", session, "incr") for session in ("one", "two")] == [2, 6]
    assert len(shares(client, "one", "two")) == 1


def kill(client: WireClient) -> None:
    os.kill(client.call("keyed", "one", "pid"), signal.SIGKILL)


def overrun(client: WireClient) -> None:
    with pytest.raises(CallError) as caught:
        client.once("keyed", "two", "hold", "/dev/null", "/nowhere", timeout_ms=60_000)
    assert caught.value.code == 402


@pytest.mark.parametrize("ends", [kill, overrun])
def test_a_container_dies_for_all_its_sessions(nodes: Nodes, tmp_path: Path, ends: Callable[[WireClient], None]) -> None:
    """Killed from outside, or for one session's handler over the hard limit: each session goes back to what its durability
    says, and says so once; those of another container do not notice."""
    address = nodes.start("n1", containers=3)
    deploy(address, dense(tmp_path, 3, calls='hard_limit = "2s"'))
    sessions = ["one", "two", "three", "apart"]
    localized(address, *sessions)
    with closing(WireClient(address)) as client:
        assert [len(group) for group in shares(client, *sessions)] == [3, 1]
        for number, session in enumerate(sessions, 1):
            assert client.call("keyed", session, "incr", number) == number
        apart = client.call("keyed", "apart", "pid")
        ends(client)
        for number, session in enumerate(sessions, 1):
            assert client.call("keyed", session, "incr") == number + 1
        assert client.call("keyed", "apart", "pid") == apart
        dropped = [line for line in edgectl(address, "events") if "session.dropped" in line]
        assert len(dropped) == 3


def test_only_the_call_that_ran_is_unknown(nodes: Nodes, client: WireClient, tmp_path: Path) -> None:
    """When a shared container dies, the calls of its other sessions that waited for their turn run elsewhere."""
    address = nodes.addresses["n1"]
    localized(address, "long", "one", "two")
    dies = client.call("keyed", "one", "pid")
    held = Held(tmp_path, address, "long")
    with closing(WireClient(address, "operator")) as operator:
        waiting = [operator.send("keyed", session, "incr", timeout_ms=60_000) for session in ("one", "two")]
        operator.request("node.status", {})
        os.kill(dies, signal.SIGKILL)
        assert [operator.outcome(call)[0] for call in waiting] == [1, 1]
    with pytest.raises(CallError) as caught:
        held.released()
    assert caught.value.code == 402


def test_a_session_is_not_called_from_its_own_container(nodes: Nodes, client: WireClient) -> None:
    """A handler that calls a session which shares its container is told so at once; of another container it may."""
    localized(nodes.addresses["n1"], *EIGHT[:5])
    with pytest.raises(CallError, match="in one container with a call that waits for it"):
        client.once("keyed", "s0", "ask", "s1", timeout_ms=60_000)
    assert client.once("keyed", "s0", "ask", "s4", timeout_ms=60_000)[0] == 1
    assert client.once("keyed", "s1", "incr")[0] == 1


def test_a_whole_container_gives_way(nodes: Nodes, tmp_path: Path) -> None:
    """A call of a function without a slot empties the container with the fewest sessions, and no count is lost."""
    address = nodes.start("n1", containers=2)
    deploy(address, dense(tmp_path, 4, start="local"))
    sessions = EIGHT[:6]
    with closing(WireClient(address)) as client:
        for session in sessions:
            assert client.call("keyed", session, "incr") == 1
        deploy(address, COUNTER)
        assert client.once("counter", "c", "incr", timeout_ms=60_000)[0] == 1
        modes = {row["session"]: row["mode"] for row in edgectl(address, "sessions", "keyed")}
        assert [modes[session] for session in sessions] == ["local"] * 4 + ["remote"] * 2
        for session in sessions:
            assert client.call("keyed", session, "incr") == 2


@pytest.mark.parametrize(("program", "containers"), [("exec-python", 1), ("exec-c", 3)])
def test_a_program_shares_if_it_says_that_it_can(nodes: Nodes, tmp_path: Path, program: str, containers: int) -> None:
    """An exec program that says `several` gets three sessions; one that does not has each in a container of its own."""
    address = nodes.start("n1", containers=4)
    bundle = tmp_path / program
    shutil.copytree(FUNCTIONS / program, bundle)
    if program == "exec-c":
        subprocess.run(["gcc", "-o", bundle / "counter", bundle / "counter.c"], check=True)
    with (bundle / "function.toml").open("a") as manifest:
        manifest.write("[modes]\nsessions_per_container = 3\n")
    deploy(address, bundle)
    sessions = ["a", "b", "c"]
    with closing(WireClient(address, "operator")) as operator:
        for reply in [operator.send_request("session.localize", {"function": program, "session": one}) for one in sessions]:
            operator.reply(reply)
        assert used(address) == containers
        for number, session in enumerate(sessions, 1):
            assert operator.once(program, session, "incr", number)[0] == number
        operator.request("session.externalize", {"function": program, "session": "b"})
        assert [operator.once(program, session, "incr")[0] for session in sessions] == [2, 3, 4]


def test_a_large_state_leaves_while_the_others_are_called(nodes: Nodes, tmp_path: Path) -> None:
    """A session of some MiB migrates in rounds out of a container in which two others are counted, and into one where another
    is: none of their calls is lost, and each has its own state afterwards."""
    first = nodes.start("n1")
    second = nodes.start("n2")
    deploy(first, dense(tmp_path, 4, state='max_bytes = "16MiB"', limits='memory = "512MiB"'))
    served_by(first, "keyed", 2)
    localized(first, "large", "one", "two")
    localized(second, "three")
    counting = [Counting(first, session) for session in ("one", "two", "three")]
    with closing(WireClient(first, "operator")) as operator:
        for part in range(8):
            assert operator.call("keyed", "large", "noise", 64 * part, 64, 16 * 1024) == 64 * (part + 1)
        for one in counting:
            one.start()
        key = {"function": "keyed", "session": "large"}
        moves = [operator.request("session.migrate", {**key, "to": to}) for to in ("n2", "n1")]
        assert [move["node"] for move in moves] == ["n2", "n1"]
        for one in counting:
            one.join(60)
            assert (one.wrong, one.counted) == ("", INCREMENTS)
            assert operator.call("keyed", one.session, "get", "n") == INCREMENTS
        assert operator.call("keyed", "large", "incr") == 1
        assert len(operator.call("keyed", "large", "get", "k511")) == 16 * 1024
        assert shares(operator, "large", "one", "two") == [["large", "one", "two"]]


INCREMENTS = 120
ROUNDS = 6


class Counting(threading.Thread):
    """A device that counts one session without a break, each call repeated until it is answered."""

    def __init__(self, address: str, session: str) -> None:
        super().__init__()
        self._address, self.session = address, session
        self.counted = 0
        self.wrong = ""

    def run(self) -> None:
        with closing(WireClient(self._address)) as client:
            while self.counted < INCREMENTS and not self.wrong:
                value = client.call("keyed", self.session, "incr")
                if value != self.counted + 1:
                    self.wrong = f"{self.session}: {value} after {self.counted}"
                self.counted += 1


def test_no_count_is_lost_or_doubled(nodes: Nodes, tmp_path: Path) -> None:
    """Eight `sync` sessions in containers of four, counted without a break while they migrate, externalize and localize
    and their containers are killed: each ends exact, and each answer is the one after the last."""
    first = nodes.start("n1", containers=6)
    nodes.start("n2", containers=6)
    deploy(first, dense(tmp_path, 4))
    served_by(first, "keyed", 2)
    localized(first, *EIGHT)
    counting = [Counting(first, session) for session in EIGHT]
    for one in counting:
        one.start()
    killed = []
    with closing(WireClient(first, "operator")) as operator:
        for number in range(ROUNDS):
            until(partial(_all_beyond, counting, number * INCREMENTS // ROUNDS))
            killed.append(_kill_the_fullest(operator))
            for at, session in enumerate(EIGHT):
                _moved(operator, session, ("migrate", "externalize", "localize")[(at + number) % 3], f"n{1 + (at + number) % 2}")
            for at, session in enumerate(EIGHT):
                _moved(operator, session, "localize", f"n{1 + (at // 4 + number) % 2}")
        for one in counting:
            one.join(60)
            assert not one.is_alive()
            assert not one.wrong
        assert [operator.call("keyed", session, "get", "n") for session in EIGHT] == [INCREMENTS] * len(EIGHT)
    assert killed[0] == 4


def _all_beyond(counting: list[Counting], count: int) -> bool:
    return all(one.counted > count or not one.is_alive() for one in counting)


def _kill_the_fullest(client: WireClient) -> int:
    """The container with most local sessions; how many it had."""
    found: Counter[int] = Counter()
    for session in EIGHT:
        value, meta = client.once("keyed", session, "pid", timeout_ms=60_000)
        found[value] += meta["mode"] == "local"
    [(pid, many)] = found.most_common(1)
    os.kill(pid, signal.SIGKILL)
    return many


def _moved(operator: WireClient, session: str, move: str, to: str) -> None:
    """A move; one that the session's state or a death does not allow now is none."""
    target = {} if move == "externalize" else {"to": to}
    try:
        operator.request(f"session.{move}", {"function": "keyed", "session": session, **target})
    except CallError as error:
        assert error.code < 500, error
