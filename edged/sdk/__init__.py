"""What a function imports: `from edged.sdk import Function, Session` (DESIGN §8)."""

from edged_protocol.errors import CallError, Defect, NotRun, NotRunRetry, RanError, UnknownOutcome

from .function import Function
from .session import Session

__all__ = ["CallError", "Defect", "Function", "NotRun", "NotRunRetry", "RanError", "Session", "UnknownOutcome"]
