"""The comparison of stores: its rows and its table."""

from typing import Any

import pytest


@pytest.fixture
def stores(bench: None) -> Any:
    """The program."""
    import stores

    return stores


def test_a_row_shows_the_medians_of_its_rounds(stores: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mode has its own figures, and the table has a line for each store."""
    row = stores.Row("sqlite", None)
    for p50 in (3000.0, 1000.0, 9000.0):
        row.samples["remote"].append(stores.Sample(p50, 2 * p50, 500.0))
        row.samples["local"].append(stores.Sample(p50 / 10, p50 / 5, 12_345.0))
    stores.show([row])
    assert capsys.readouterr().out.splitlines()[2] == "| sqlite | 3.00 / 6.00 ms | 500 | 0.30 / 0.60 ms | 12,345 |"


def test_a_round_measures_both_loads(stores: Any) -> None:
    """Against a raw chain: one sample for each round, with latencies and a rate."""
    with stores.Children() as children:
        row = stores.Row("chain", stores.Node("chain", children.chain(0), None))
        row.measure("remote", 0.05)
    [sample] = row.samples["remote"]
    assert 0 < sample.p50 <= sample.p99
    assert sample.rate > 0
