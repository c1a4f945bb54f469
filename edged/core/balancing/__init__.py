"""Which node runs a call (DESIGN §6): start reading at `balancer`."""

from .balancer import MAX_FIGURES, Balancer
from .budget import Budget
from .load import Load, figures, loads
from .policies import POLICIES

__all__ = ["MAX_FIGURES", "POLICIES", "Balancer", "Budget", "Load", "figures", "loads"]
