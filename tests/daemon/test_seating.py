"""The effects of sessions on the node around them."""

from typing import get_args

from edged.core import effects as fx
from edged.daemon.seating import PERFORM


def test_every_effect_is_carried_out() -> None:
    """The table has a row for each effect a session may have, and for nothing else."""
    assert set(PERFORM) == set(get_args(fx.Effect))
