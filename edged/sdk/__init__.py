"""What a function imports: `from edged.sdk import Function, Session` (DESIGN §8)."""

from .function import Function
from .session import Session

__all__ = ["Function", "Session"]
