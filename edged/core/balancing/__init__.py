"""Which node runs a call (DESIGN §6): start reading at `balancer`."""

from .balancer import MAX_FIGURES, Balancer
from .budget import Budget
from .load import Load, figures, loads
from .policies import POLICIES
from .under_way import UnderWay

__all__ = ["MAX_FIGURES", "POLICIES", "Balancer", "Budget", "Load", "UnderWay", "figures", "loads"]
