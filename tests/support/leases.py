"""A lease for tests of anything else: won once, and good for as long as nobody looks."""

from edged.core.leases import Leases
from edged.core.records import Leased, Renew


def good_lease(node: str = "a", boot: str = "boot-a") -> Leases:
    """As after the first renewal."""
    leases = Leases(node, boot, 15.0)
    leases.lapsed(0.0)
    (renewal,) = [op for op in leases.turn(0.0) if isinstance(op, Renew)]
    assert leases.renewed(0.0, Leased(True, renewal.seq), 0.0)
    return leases
