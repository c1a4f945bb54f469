"""What the cores need of chance; `random.Random` has it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """A source that a simulation can seed."""

    def random(self) -> float:
        """From 0 up to 1."""

    def uniform(self, a: float, b: float) -> float:
        """Between both."""

    def randint(self, a: int, b: int) -> int:
        """Between both, and either of them."""

    def choice(self, seq: Sequence[T]) -> T:
        """One of them."""

    def choices(self, population: Sequence[T], weights: Sequence[float]) -> list[T]:
        """One of them, by weight, in a list."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """So many of them, in any order."""
