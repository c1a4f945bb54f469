"""How much of the traffic may be second tries (reliability §2.8): a bounded share, or overload feeds itself."""

FULL = 10.0
CLOSED = 5.0
EARNED = 0.1


class Budget:
    """Tokens: a second try costs one, a success earns a tenth, none is given from half down."""

    def __init__(self) -> None:
        self._tokens = FULL

    def succeeded(self, calls: int = 1) -> None:
        """Calls were answered."""
        if self._tokens < FULL:
            self._tokens = min(FULL, self._tokens + calls * EARNED)

    def take(self) -> bool:
        """Whether one more second try may be made; then it is paid for."""
        if self._tokens <= CLOSED:
            return False
        self._tokens -= 1.0
        return True
