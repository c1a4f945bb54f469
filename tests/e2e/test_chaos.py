"""Calls under every fault at once, on real processes and a real Redis; `make soak-chaos` is the same, larger."""

from pathlib import Path

from support.chaos import Chaos, Size


async def test_every_acknowledged_increment_is_there_once(tmp_path: Path) -> None:
    """Sessions with `sync` are called while they move, each node is killed and started again, and Redis pauses."""
    account = await Chaos(tmp_path, Size(12, 60, 16, 1, 1, 1.0), seed=7).run()
    assert account.wrong() == []
    assert sum(map(len, account.acknowledged)) >= 0.9 * 12 * 60, account.refused
    assert any(said.endswith("done") for said in account.moves)
