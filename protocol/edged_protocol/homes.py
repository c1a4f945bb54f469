"""Where a client's sessions are served, as the answers say (SPEC "RESULT", `home`).

Decides when that is worth another broker: after many answers in a row that named the same one. A client of several
sessions in different places gets no such row, and stays. Refuses to know addresses and connections.
"""

MANY = 20
"""Answers in a row; each paid a hop between nodes, a new connection costs several."""


class Homes:
    """Told of each answer of a session."""

    def __init__(self) -> None:
        self._home = ""
        self._row = 0

    def told(self, home: object) -> str | None:
        """`home` of an answer, None when it was served where it was asked; the node to go to, once in MANY answers."""
        if type(home) is not str or home != self._home:
            self._home, self._row = home if type(home) is str else "", 0
        self._row += 1
        if not self._home or self._row < MANY:
            return None
        self._row = 0
        return self._home
