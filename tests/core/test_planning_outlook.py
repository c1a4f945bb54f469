"""The operator's questions to the policy's model: where a mesh stands on the paper's curve."""

from dataclasses import replace
from math import inf, isclose

import pytest

from edged.core.planning.figures import figures
from edged.core.planning.latency import Setting, best, curve, last_stable
from edged.core.planning.outlook import freed, outlook, sight, threshold, why
from edged.core.planning.target import Mesh
from edged.core.planning.view import Figures, Function, Peer, Policy, Session, Settings, View
from edged.core.records import Mode, SessionKey


def sessions(node: str, many: int, local: int, rate: float = 0.075) -> tuple[Session, ...]:
    """So many of a node, the first ones local, all known for long."""
    modes: list[Mode] = ["local" if i < local else "remote" for i in range(many)]
    return tuple(Session(SessionKey("f", f"{node}-{i}"), mode, rate, 50.0) for i, mode in enumerate(modes))


def function(node: str, many: int, local: int, policy: Policy = "auto", name: str = "f") -> Function:
    """As the paper's."""
    return Function(name, sessions(node, many, local), policy=policy, service_local=1.0, service_remote=3.0)


def mesh(clients: int, local: int, policy: Policy = "auto", nodes: int = 1) -> View:
    """So many nodes with forty containers in all, seen by the first one, in the paper's way: calls of a session beside
    each other."""
    parts = [(clients // nodes + (i < clients % nodes), local // nodes + (i < local % nodes)) for i in range(nodes)]
    rows = [function(f"n{i + 1}", *part, policy) for i, part in enumerate(parts)]
    peers = tuple(Peer(f"n{i + 1}", 40 // nodes, {"f": figures(row)}) for i, row in enumerate(rows) if i)
    return View("n1", 40 // nodes, (rows[0],), peers, settings=Settings(guard=0.99, serial=False))


@pytest.mark.parametrize("clients", [50, 70, 90, 110])
@pytest.mark.parametrize("policy", ["auto", "application", "pinned-remote"])
def test_a_measured_mesh_is_on_the_papers_curve(clients: int, policy: Policy) -> None:
    """What if the mesh chose: the optimum and the cliff of Fig. 3, whoever chooses now."""
    found = outlook(mesh(clients, 4, policy))
    points = list(curve(Setting(clients)))
    lowest, edge = best(points), last_stable(points)
    assert lowest is not None
    assert edge is not None
    assert (found.sessions, found.containers, found.now) == (clients, 40, 4)
    assert (found.best, found.cliff) == (lowest.k, edge.k)
    for k, seen in found.points:
        assert (seen.mean == points[k].mean == inf) or isclose(seen.mean, points[k].mean, rel_tol=1e-4), k


@pytest.mark.parametrize("clients", [50, 70, 90, 110])
def test_four_nodes_are_nearly_one(clients: int) -> None:
    """Seen from one of four nodes: the same cliff, as far as nodes have slots, and an optimum a little below the paper's,
    since calls wait on one node while another has a container free."""
    found, one = outlook(mesh(clients, 8, nodes=4)), outlook(mesh(clients, 8))
    assert found.best is not None
    assert one.best is not None
    assert one.cliff is not None
    assert (found.now, found.containers, found.cliff) == (8, 40, min(one.cliff, 36))
    assert one.best - 4 <= found.best <= one.best


def test_the_guard_is_kept() -> None:
    """What the policy aims at keeps the pool below its guard, which the least mean alone need not."""
    view = mesh(70, 0)
    guarded = outlook(replace(view, settings=Settings(guard=0.6, serial=False)))
    assert guarded.best == 25
    assert guarded.planned < 25
    assert dict(guarded.points)[guarded.planned].utilisation <= 0.6


def test_a_mesh_that_cannot_keep_up() -> None:
    """No best number and no cliff; the curve is there all the same."""
    found = outlook(mesh(400, 0))
    assert (found.best, found.cliff) == (None, None)
    assert not any(seen.stable for _, seen in found.points)


def test_an_empty_mesh_has_an_outlook() -> None:
    """Nobody calls and nothing runs: zero sessions, zero local ones, no error."""
    found = outlook(View("n1", 8, ()))
    assert (found.sessions, found.now, found.planned) == (0, 0, 0)


def test_one_function_among_others() -> None:
    """Only that one's sessions are in question; the other's stay where their applications want them."""
    view = mesh(40, 8, "application")
    other = replace(function("n1", 6, 3, "application", "g"))
    both = replace(view, functions=(*view.functions, other))
    assert outlook(both, "f").sessions == 40
    assert outlook(both, "g").sessions == 6
    assert outlook(both).sessions == 46


def test_sessions_that_are_freed_call_as_before() -> None:
    """Held and fixed ones join the free ones with their rates; none is lost."""
    row = Figures(local=3, held=2, granted=2, fixed=3, free=4, held_rate=4.0, fixed_rate=0.3, rates=(1.0, 0.5))
    found = freed(row)
    assert (found.free, found.held, found.granted, found.fixed, found.local) == (9, 0, 0, 0, 3)
    sizes = [9 // len(found.rates) + (i < 9 % len(found.rates)) for i in range(len(found.rates))]
    assert isclose(sum(n * rate for n, rate in zip(sizes, found.rates, strict=True)), 4.0 + 0.3 + 3.0)
    assert list(found.rates) == sorted(found.rates, reverse=True)


def test_what_a_sessions_calls_would_take() -> None:
    """Local: a queue of its own; remote: the pool as it is now. One that seems to call more often than its container can
    answer is a client that waits for its answers: busy, but not without end."""
    view = mesh(70, 24)
    target = Mesh(view, {"f": figures(view.functions[0])}).target()
    usual = sight(target, view.functions[0], view.functions[0].sessions[0])
    assert isclose(usual.local, 1 / 0.925, rel_tol=1e-6)
    assert 3.0 / 0.775 < usual.remote < 4.0
    eager = replace(view.functions[0].sessions[0], rate=1.5)
    assert sight(target, view.functions[0], eager).local < inf


def test_which_sessions_are_to_be_local() -> None:
    """A number an operator can compare with a session's rate; words where none is to be."""
    view = mesh(70, 24)
    row = view.functions[0]
    assert "from about 0.0" in threshold(Mesh(view, {"f": figures(row)}).target(), row)
    overloaded = mesh(400, 0)
    found = threshold(Mesh(overloaded, {"f": figures(overloaded.functions[0])}).target(), row)
    assert found == "no session of the mesh's own choice is to be local"


@pytest.mark.parametrize(
    ("policy", "wish", "held", "expected"),
    [
        ("auto", None, None, ["the plan's line"]),
        ("auto", "local", None, ["its application asked for local last", "the plan's line"]),
        ("auto", "local", 30.0, ["an operator moved it; the mesh leaves it there for 30 s more", "the plan's line"]),
        ("pinned-local", "remote", None, ["its function's policy is pinned-local"]),
        ("application", None, None, ["its function leaves the mode to applications and operators, and none asked for another"]),
    ],
)
def test_why_a_session_is_where_it_is(policy: Policy, wish: Mode | None, held: float | None, expected: list[str]) -> None:
    """The strongest rule first, and none that does not apply."""
    session = Session(SessionKey("f", "a"), "local", 1.0, 10.0, wish=wish)
    assert list(why(function("n1", 1, 1, policy), session, held, "the plan's line")) == expected
