"""Every state store, whichever driver it is."""

from pathlib import Path

import pytest
from support.stores import DRIVERS, Open


@pytest.fixture(params=sorted(DRIVERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the driver's store; a second time, what the first left behind."""
    return lambda: DRIVERS[request.param](tmp_path)
