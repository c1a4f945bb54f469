"""The paper's experiment on real nodes: its arithmetic, and its load generator on one small mesh."""

import pytest
import trio


def test_outcomes_are_joined_call_by_call(bench: None) -> None:
    """A repetition with more calls weighs more; nothing that failed is forgotten."""
    from paper_live import Outcome, _joined

    joined = _joined([Outcome([1.0] * 30, 1.0, 1), Outcome([3.0] * 10, 0.0, 2)])
    assert (joined.mean, joined.local, joined.failed) == (1.5, 0.75, 3)
    assert (joined.within(0.5), joined.within(0.99)) == (1.0, 3.0)


def test_the_model_is_told_how_the_mesh_differs(bench: None) -> None:
    """Slower by the store and by calls in turn, in the paper's proportions otherwise."""
    from paper_live import Pace, model_of

    pace = Pace()
    plain, stored = model_of(pace, 70, 0.0), model_of(pace, 70, 0.01)
    assert len(plain) == 41
    assert plain[0].mean == pytest.approx(pace.remote / (1 - 0.225), rel=1e-3)
    assert stored[0].mean > plain[0].mean + 0.01
    assert plain[30].stable and not plain[31].stable  # the pool would keep up, but no session with its own calls
    assert plain[25].prediction.mean_of("local") == pytest.approx(pace.local / 0.925)


def test_clients_call_whether_answered_or_not(bench: None) -> None:
    """Four nodes, sessions with a container beside others: calls come at the clients' rate, all are answered, and those of
    local sessions in local-state."""
    from paper_live import Pace, load, mesh_of_four, operator_of, session_of

    with mesh_of_four() as addresses, operator_of(addresses[0]) as mesh:
        mesh.request("policy.freeze", {})
        for client in range(4):
            mesh.request("session.localize", {"function": "paper", "session": session_of(client), "to": f"n{client}"})
        seen = trio.run(load, Pace(), addresses, 8, 1.0, 2.0, 1)
    assert seen.failed == 0
    assert 0.5 < len(seen.latencies) / (8 * Pace().rate * 2) < 1.5
    assert 0.3 < seen.local < 0.7
