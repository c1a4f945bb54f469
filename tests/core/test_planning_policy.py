"""The policy: which sessions of a node change their place, and why."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.core.planning.figures import believed, figures, sizes
from edged.core.planning.latency import Setting, best, curve, last_stable
from edged.core.planning.policy import OFF, plan
from edged.core.planning.target import Mesh
from edged.core.planning.view import Function, Peer, Plan, Session, Settings, View
from edged.core.records import SessionKey

RATE = 0.075
NOW = 1000.0
PAPER = Settings(serial=False)


def a_session(name: str, mode: str = "remote", rate: float = RATE, calls: float = 20.0, **more: object) -> Session:
    return Session(SessionKey("f", name), mode, rate, calls, **more)  # type: ignore[arg-type]


def a_function(sessions: list[Session], **more: object) -> Function:
    """The paper's times, unless told otherwise."""
    words = {"service_local": 1.0, "service_remote": 3.0, "containers": 1, "transition": 0.05, **more}
    return Function(str(more.get("name", "f")), tuple(sessions), **{k: v for k, v in words.items() if k != "name"})  # type: ignore[arg-type]


def a_peer(node: str, slots: int, *functions: Function) -> Peer:
    return Peer(node, slots, {function.name: figures(function) for function in functions})


def meet(rows: dict[str, list[Session]], slots: int = 10, chosen: Settings = PAPER, **more: object) -> dict[str, View]:
    """What each node knows when all have told all."""
    functions = {node: a_function(sessions, **more) for node, sessions in rows.items()}
    peers = {node: a_peer(node, slots, function) for node, function in functions.items()}
    return {
        node: View(node, slots, (function,), tuple(p for n, p in peers.items() if n != node), settings=chosen)
        for node, function in functions.items()
    }


def clients(count: int, local: int = 0, nodes: int = 4) -> dict[str, list[Session]]:
    """So many sessions, alike, by turns on the nodes."""
    rows: dict[str, list[Session]] = {f"n{number + 1}": [] for number in range(nodes)}
    for number in range(count):
        rows[f"n{number % nodes + 1}"].append(a_session(f"s{number}", "local" if number < local else "remote"))
    return rows


def obey(rows: dict[str, list[Session]], plans: dict[str, Plan], now: float) -> int:
    """All moves succeed at once; how many there were."""
    moves = {move.session: move for one in plans.values() for move in one.moves}
    for sessions in rows.values():
        for at, session in enumerate(sessions):
            if session.key in moves:
                mode = "local" if moves[session.key].to else "remote"
                sessions[at] = replace(session, mode=mode, moved=now)  # type: ignore[arg-type]
    return len(moves)


def locals_in(rows: dict[str, list[Session]]) -> int:
    return sum(session.mode == "local" for sessions in rows.values() for session in sessions)


@pytest.mark.parametrize("n", [50, 70, 90, 110])
@pytest.mark.parametrize("start", ["none", "cliff"])
def test_nodes_that_all_act_at_once_on_old_figures_stop_at_the_optimum(n: int, start: str) -> None:
    """Each on its share, with the others' figures a round old, they come to the best number and never go beyond it
    from below, and then none moves any more."""
    points = list(curve(Setting(n)))
    edge = last_stable(points)
    assert edge is not None
    rows = clients(n, edge.k if start == "cliff" else 0)
    told = meet(rows)
    wanted = next(iter(told.values()))
    goal = Mesh(wanted, {"f": figures(wanted.functions[0])}).target().best
    moved = 1
    for step in range(40):
        now = NOW + 10 * step
        views = {
            node: replace(told[node], functions=meet(rows)[node].functions) for node in rows
        }  # own sessions as they are, the others' as they were
        told = meet(rows)
        moved = obey(rows, {node: plan(view, now) for node, view in views.items()}, now)
        if start == "none":
            assert locals_in(rows) <= goal
        assert points[min(locals_in(rows), len(points) - 1)].stable
    assert moved == 0
    lowest = best(points)
    assert lowest is not None
    assert points[locals_in(rows)].mean <= 1.03 * lowest.mean


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    slots=st.integers(2, 12),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_the_shares_of_all_nodes_add_up(counts: list[int], slots: int, seed: int) -> None:
    """From the same figures every node computes the same best number, and their shares are together exactly that."""
    chance = Random(seed)
    rows = {
        f"n{at}": [a_session(f"s{at}-{i}", rate=chance.choice((0.02, 0.075, 0.3)), calls=50) for i in range(count)]
        for at, count in enumerate(counts)
    }
    targets = [Mesh(view, {"f": figures(view.functions[0])}).target() for view in meet(rows, slots).values()]
    assert len({target.best for target in targets}) == 1
    assert sum(target.share["f"] for target in targets) == targets[0].best
    assert all(target.share["f"] <= slots - 1 for target in targets)


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_plan_keeps_to_budget_and_dwell(seed: int, budget: int) -> None:
    """No more moves than the budget, none of a session that has just moved, no session twice; the same view, the same plan."""
    chance = Random(seed)
    rows = {
        f"n{at}": [
            a_session(
                f"s{at}-{i}",
                chance.choice(("local", "remote")),
                chance.choice((0.01, 0.075, 0.5, 3.0)),
                chance.choice((0, 3, 40)),
                moved=NOW - chance.choice((0.1, 4.9, 5.0, 100.0)),
                wish=chance.choice((None, None, "local", "remote")),
                entrance=chance.choice(("", "", "n0", "n1")),
            )
            for i in range(chance.randrange(12))
        ]
        for at in range(3)
    }
    for view in meet(rows, 8, Settings(budget=budget)).values():
        found = plan(view, NOW)
        assert found == plan(view, NOW)
        keys = [move.session for move in found.moves]
        assert len(keys) == len(set(keys)) <= budget
        own = {session.key: session for session in view.functions[0].sessions}
        assert all(NOW - own[key].moved >= 5.0 for key in keys)
        assert plan(replace(view, settings=Settings(frozen=True)), NOW).moves == ()


def test_at_the_optimum_noise_moves_nobody() -> None:
    """Seventy sessions alike, measured as well as twenty calls allow, the best number of them local: nothing moves."""
    chance = Random(5)
    rows = clients(70, 25)
    for sessions in rows.values():
        for at, session in enumerate(sessions):
            calls = sum(chance.expovariate(1.0) for _ in range(20))
            sessions[at] = replace(session, rate=RATE * 20 / calls)
    assert [plan(view, NOW).moves for view in meet(rows).values()] == [()] * 4


def test_the_pool_takes_back_containers_before_it_breaks() -> None:
    """With as many local as were right for fifty, 110 sessions would never be served: every node gives containers back."""
    rows = clients(110, 32)
    for view in meet(rows).values():
        moves = plan(view, NOW).moves
        assert len(moves) == view.settings.budget
        assert {move.to for move in moves} == {""}


def test_a_busy_session_takes_the_place_of_a_quiet_one() -> None:
    """The number being right, one that calls forty times as often becomes local, one of the others does not stay."""
    rows = clients(40, 24)
    rows["n1"].append(a_session("busy", rate=0.3, calls=60))
    moves = plan(meet(rows)["n1"], NOW).moves
    assert (moves[0].session.session, moves[0].to) == ("busy", "n1")
    assert moves[0].gain > moves[0].cost


def test_equal_sessions_are_believed_to_be_equal() -> None:
    """What differs as chance makes it differ is one rate; what differs more keeps most of its difference."""
    chance = Random(3)
    alike = [a_session(f"s{i}", rate=RATE * 20 / sum(chance.expovariate(1.0) for _ in range(20))) for i in range(20)]
    assert len(set(believed(alike))) == 1
    busy = believed([*alike, a_session("busy", rate=0.75, calls=50)])
    assert busy[-1] > 0.6
    assert max(busy[:-1]) < 0.12
    fresh = believed([*alike, a_session("fresh", rate=0.0, calls=0.0)])
    assert fresh[-1] == fresh[0]


def test_groups_have_every_session() -> None:
    """Equal parts of any number of sessions, none lost."""
    assert sizes(10, 4) == [3, 3, 2, 2]
    assert all(sum(sizes(n, g)) == n for n in range(30) for g in range(1, 9))
    assert sizes(0, 0) == []


def test_wishes_are_granted_first_and_leave_the_pools_a_slot() -> None:
    """A session that wants local gets it before any that does not; where only the last slot is left, on the node with most."""
    rows = clients(8)
    rows["n1"][0] = replace(rows["n1"][0], wish="local", rate=0.001)
    move = plan(meet(rows)["n1"], NOW).moves[0]
    assert (move.session, move.to) == (rows["n1"][0].key, "n1")
    full = {"n1": [a_session(f"a{i}", "local", wish="local") for i in range(3)], "n2": [], "n3": [a_session("b", "local")]}
    full["n1"].append(a_session("late", wish="local"))
    assert [move.to for move in plan(meet(full, slots=4)["n1"], NOW).moves] == ["n2"]


def test_wishes_end_where_the_pools_could_not_bear_them() -> None:
    """Ten sessions in seven containers: five or six may be local, as the provisioning formula says, and no seventh."""
    rows = {"n1": [a_session(f"s{i}", "local" if i < 6 else "remote", wish="local") for i in range(10)]}
    found = plan(meet(rows, slots=7)["n1"], NOW)
    assert all(move.to == "" for move in found.moves)
    assert found.room == {"f": 0}


@pytest.mark.parametrize(
    ("words", "mode", "expected"),
    [
        ({"policy": "pinned-local"}, "remote", "n1"),
        ({"policy": "pinned-remote"}, "local", ""),
        ({"allow": ("remote",)}, "local", ""),
        ({"policy": "application"}, "remote", None),
        ({"policy": "application"}, "local", None),
    ],
)
def test_a_manifest_may_choose(words: dict[str, object], mode: str, expected: str | None) -> None:
    """Pinned sessions go where they belong, without a wish those of `application` stay as they are."""
    rows = {"n1": [a_session("s", mode), *(a_session(f"o{i}", mode) for i in range(2))]}
    moves = plan(meet(rows, **words)["n1"], NOW).moves  # type: ignore[arg-type]
    assert {move.to for move in moves} == (set() if expected is None else {expected})


def test_short_memory_sends_away_the_largest_for_their_calls() -> None:
    """Above nine tenths of the memory those leave that are called least for the bytes they hold, and nobody comes."""
    mb = 1 << 20
    sessions = [a_session(f"s{i}", "local", size=(20 if i == 2 else 1) * mb) for i in range(4)] + [a_session("r")]
    view = meet({"n1": sessions}, memory=10 * mb)["n1"]
    view = replace(view, memory=100 * mb, memory_used=95 * mb)
    moves = plan(view, NOW).moves
    assert [(move.session.session, move.to, move.reason) for move in moves] == [("s2", "", "memory is short")]


def test_calls_that_wait_without_any_container_get_one() -> None:
    """A node all of whose slots are sessions' own gives one back when calls wait there."""
    rows = {"n1": [a_session(f"s{i}", "local", wish="local") for i in range(3)], "n2": []}
    view = meet(rows, slots=3, containers=0, queued=1)["n1"]
    assert [move.to for move in plan(view, NOW).moves] == [""]


def test_a_session_follows_its_client_where_there_is_room() -> None:
    """A local session whose calls come through another node goes there, not to a node that is full."""
    rows = {"n1": [a_session("s", "local", entrance="n2"), a_session("t", "local", entrance="n3")], "n2": []}
    rows["n3"] = [a_session(f"o{i}", "local") for i in range(5)]
    moves = plan(meet(rows, slots=6)["n1"], NOW).moves
    assert [(move.session.session, move.to) for move in moves] == [("s", "n2")]


def test_no_function_is_starved() -> None:
    """Of two functions the one whose calls are worth less still gets half of what its sessions make of all."""
    dear = a_function([a_session(f"d{i}", rate=0.2, calls=50) for i in range(20)])
    cheap = a_function(
        [replace(a_session(f"c{i}", rate=0.02, calls=50), key=SessionKey("g", f"c{i}")) for i in range(20)], name="g"
    )
    view = View("n1", 24, (dear, cheap), settings=PAPER)
    target = Mesh(view, {"f": figures(dear), "g": figures(cheap)}).target()
    assert target.share["g"] >= target.best // 4
    assert target.share["f"] > target.share["g"]


def test_a_node_far_off_its_share_gives_up_what_others_lack() -> None:
    """The number is right, but one node has it all: it gives up a few, and the others take some."""
    rows = clients(60, 0)
    rows["n1"] = [replace(session, mode="local") for session in rows["n1"][:9]]
    rows["n2"] = [replace(session, mode="local" if at < 9 else "remote") for at, session in enumerate(rows["n2"])]
    rows["n3"] = [replace(session, mode="local" if at < 9 else "remote") for at, session in enumerate(rows["n3"])]
    views = meet(rows)
    targets = {node: Mesh(view, {"f": figures(view.functions[0])}).target() for node, view in views.items()}
    assert targets["n4"].share["f"] >= OFF
    assert [move.to for move in plan(views["n4"], NOW).moves][:1] == ["n4"]


def test_a_move_that_costs_more_than_it_wins_is_not_made() -> None:
    """Where a move takes minutes nobody moves for a better mean."""
    rows = clients(30)
    assert plan(meet(rows)["n1"], NOW).moves
    assert plan(meet(rows, transition=300.0)["n1"], NOW).moves == ()


def test_slots_are_counted_in_containers() -> None:
    """Of three slots one is kept for the pools: with four sessions in a container eight sessions that want to be local may
    be, with one in each two."""
    for sharing, granted in ((1, 2), (4, 8)):
        sessions = [a_session(f"s{number}", wish="local", rate=0.01) for number in range(12)]
        function = a_function(sessions, sharing=sharing, policy="auto")
        found = plan(View("n1", 3, (function,), settings=replace(PAPER, budget=20)), NOW)
        assert [move.to for move in found.moves] == ["n1"] * granted


def test_the_others_slots_are_containers_too() -> None:
    """A session that finds no place here goes to a node that has a slot left, though it has more sessions than slots."""
    here = a_function([a_session(f"s{n}", "local") for n in range(8)] + [a_session("more", wish="local", rate=0.01)], sharing=4)
    there = a_function([a_session(f"t{n}", "local") for n in range(8)], sharing=4)
    view = View("n1", 3, (here,), (a_peer("n2", 4, there),), settings=PAPER)
    assert [move.to for move in plan(view, NOW).moves] == ["n2"]


def test_a_session_frees_its_part_of_a_container() -> None:
    """Where memory is short, as many leave as their parts of the containers and their states make up."""
    sessions = [a_session(f"s{n}", "local", size=10) for n in range(8)]
    function = a_function(sessions, sharing=4, memory=400)
    view = View("n1", 8, (function,), memory=1000, memory_used=1100, settings=replace(PAPER, budget=20))
    assert len(plan(view, NOW).moves) == 2


@given(st.integers(1, 6), st.integers(2, 40), st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_a_plan_never_takes_a_slot_that_is_not_there(sharing: int, count: int, slots: int) -> None:
    """Whatever the numbers, the sessions that a node has local when it has obeyed its plans fit into its slots, and the pool
    keeps one."""
    rows = {"n1": [a_session(f"s{number}") for number in range(count)]}
    for number in range(40):
        now = NOW + 100 * number
        plans = {node: plan(view, now) for node, view in meet(rows, slots, sharing=sharing).items()}
        obey(rows, plans, now)
        local = sum(session.mode == "local" for session in rows["n1"])
        assert -(-local // sharing) < slots


@pytest.mark.parametrize(("sharing", "local", "left"), [(1, 5, 35), (4, 5, 38), (4, 8, 38), (8, 64, 32)])
def test_a_pool_has_what_the_local_containers_leave(sharing: int, local: int, left: int) -> None:
    """So many local sessions take their whole number of containers from the forty there are."""
    function = a_function([a_session(f"s{n}") for n in range(70)], sharing=sharing, policy="auto")
    view = View("n1", 40, (function,), settings=PAPER)
    seen = Mesh(view, {"f": figures(function)}).target().predict(local)
    assert seen.utilisation == pytest.approx(3.0 * RATE * (70 - local) / left)
