"""Nodes that are killed or paused at every step of a move, while the session is called (reliability §3, F1 to F4)."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, served_by, until
from support.witness import FUNCTION, Witness

from edged_protocol.blocking import connect
from edged_protocol.errors import CallError, Code

LEDGER = Path(__file__).parents[1] / "support" / "functions" / FUNCTION
LEASE = "3s"

LOCALIZE = ["starting", "fetching", "claiming", "claiming+", "restoring", "local"]
EXTERNALIZE = ["draining", "flushing", "releasing", "releasing+"]
MIGRATE = ["inviting", "copying", "draining", "flushing", "offering", "releasing", "releasing+"]
RECEIVE = ["invited", "sealing", "sealed", "local"]

MOVES = [
    pytest.param("localize", "a", LOCALIZE, id="localize"),
    pytest.param("externalize", "a", EXTERNALIZE, id="externalize"),
    pytest.param("migrate", "a", MIGRATE, id="migrate-source"),
    pytest.param("migrate", "b", RECEIVE, id="migrate-target"),
]


class Stage:
    """A node that serves the store and runs nothing, two that run the ledger, and one session under load."""

    def __init__(self, nodes: Nodes, victim: str, stop_at: str) -> None:
        self.nodes = nodes
        self.start("store", "")
        for name in ("a", "b"):
            self.start(name, stop_at if name == victim else "")
        deploy(nodes.addresses["store"], LEDGER)
        served_by(nodes.addresses["store"], FUNCTION, 2)
        self.witness = Witness(list(nodes.addresses.values()), "s")
        until(self.witness.goes_on())

    def start(self, name: str, stop_at: str) -> None:
        """For the first time or again."""
        self.nodes.start(name, containers=0 if name == "store" else 8, lease=LEASE, stop_at=stop_at)

    def ask(self, move: str, to: str = "") -> None:
        """Have it moved; what becomes of that is not asked here."""
        params = {"function": FUNCTION, "session": "s", **({"to": to} if to else {})}
        brokers = [self.nodes.addresses[name] for name in ("store", "b", "a")]
        with suppress(CallError), connect(brokers, name="operator", role="operator") as mesh:
            mesh.request(f"session.{move}", params, timeout=20.0)

    def mode(self) -> tuple[str, str | None]:
        """Mode and node of the answer that came last."""
        answer = self.witness.acknowledged[-1][1]
        return answer.mode or "", answer.node

    def prepare(self, move: str) -> None:
        """Bring the session to where `move` begins."""
        if move == "localize":
            self._until(lambda: self.mode()[0] == "remote", "externalize")
        else:
            self._until(lambda: self.mode() == ("local", "a"), "localize", "migrate", to="a")

    def _until(self, holds: Callable[[], bool], *moves: str, to: str = "") -> None:
        while not holds():
            for move in moves:
                self.ask(move, to)
            until(self.witness.goes_on())

    @contextmanager
    def stopped(self, move: str, victim: str) -> Iterator[None]:
        """While `victim` stands still at its next step of the move. One that is refused, or passes the step without
        being there (nothing to drain), is asked for again."""
        reached = threading.Event()
        asking = threading.Thread(target=self._insist, args=(move, reached), daemon=True)
        asking.start()
        until(lambda: self.nodes.stopped(victim))
        reached.set()
        try:
            yield
        finally:
            asking.join(60)

    def _insist(self, move: str, reached: threading.Event) -> None:
        to = {"localize": "a", "migrate": "b"}.get(move, "")
        while not reached.is_set():
            self.prepare(move)
            if not reached.is_set():
                self.ask(move, to)

    def check(self) -> None:
        """Nothing that was acknowledged is lost, nothing took effect twice; only what is too old to be remembered
        was not answered (DESIGN 5.1)."""
        assert self.witness.check(self.nodes.addresses["store"]) == []
        assert {error.code for _, error in self.witness.failed} <= {Code.OUTCOME_FORGOTTEN}


@pytest.mark.parametrize(("move", "victim", "steps"), MOVES)
def test_a_node_killed_at_any_step_of_a_move(nodes: Nodes, move: str, victim: str, steps: list[str]) -> None:
    """Whoever is killed wherever: the session is served again, each acknowledged call counts once. Every other time
    the dead node stays away until others have taken over; else it is back at once."""
    stage = Stage(nodes, victim, steps[0])
    for number, following in enumerate([*steps[1:], ""]):
        with stage.stopped(move, victim):
            nodes.signal(victim, signal.SIGKILL)
            nodes.ended(victim)
            if number % 2:
                until(stage.witness.goes_on())
        stage.start(victim, following)
        until(stage.witness.goes_on())
    stage.check()


@pytest.mark.soak
@pytest.mark.parametrize(("move", "victim", "steps"), MOVES)
def test_a_node_paused_at_any_step_of_a_move(nodes: Nodes, move: str, victim: str, steps: list[str]) -> None:
    """A node that stands still for longer than its lease, wherever: others serve the session, and what it does when
    it wakes has no effect."""
    stage = Stage(nodes, victim, ",".join(steps))
    for _ in steps:
        with stage.stopped(move, victim):
            until(stage.witness.goes_on())
            nodes.signal(victim, signal.SIGCONT)
        until(stage.witness.goes_on())
    stage.check()


@pytest.mark.soak
@pytest.mark.parametrize(("move", "victim", "steps"), MOVES)
def test_the_store_killed_at_any_step_of_a_move(nodes: Nodes, move: str, victim: str, steps: list[str]) -> None:
    """The node that serves the store dies while another is at a step and comes back: the session goes on."""
    stage = Stage(nodes, victim, ",".join(steps))
    for _ in steps:
        with stage.stopped(move, victim):
            nodes.signal("store", signal.SIGKILL)
            nodes.ended("store")
            nodes.signal(victim, signal.SIGCONT)
            stage.start("store", "")
        until(stage.witness.goes_on())
    stage.check()
