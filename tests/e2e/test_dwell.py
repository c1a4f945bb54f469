"""A session that wants to be elsewhere with every call (reliability §3, F45)."""

from pathlib import Path

from support.nodes import COUNTER, Nodes, deploy, edgectl, served_by, until

from edged_protocol.blocking import connect


def counter_that_rests(root: Path) -> Path:
    """The counter, whose sessions stay an hour where they are."""
    directory = root / "resting"
    directory.mkdir()
    (directory / "counter.py").write_bytes((COUNTER / "counter.py").read_bytes())
    (directory / "function.toml").write_text(
        '[function]\nname = "counter"\nentry = "counter:fn"\n[modes]\nmin_dwell = "1h"\n'
    )
    return directory


def test_a_session_rests_wherever_it_is_called(nodes: Nodes, tmp_path: Path) -> None:
    """Its first wish is granted at once; then it stays, whatever its client prefers and through whichever node, also
    when an operator has just made it remote-state and no node holds anything of it."""
    a = nodes.start("a")
    b = nodes.start("b")
    deploy(a, counter_that_rests(tmp_path))
    served_by(a, "counter", 2)
    wants = ["local", "remote", "remote", "local", "remote"]
    for_each = [(address, want) for want in wants for address in (a, b)]
    with connect([a], name="flapper") as mesh:
        mesh.session("counter", "s").call("incr", prefer="local")
        until(lambda: mesh.session("counter", "s").invoke("incr").mode == "local")
    for address, want in for_each:
        with connect([address], name="flapper") as mesh:
            assert mesh.session("counter", "s").invoke("incr", prefer=want).epoch == 1  # type: ignore[arg-type]
    edgectl(a, "session", "externalize", "counter/s")
    for address, _ in for_each:
        with connect([address], name="flapper") as mesh:
            answer = mesh.session("counter", "s").invoke("incr", prefer="local")
            assert (answer.mode, answer.epoch) == ("remote", 2)
