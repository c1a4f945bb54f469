"""Since when sessions rest: when each last changed its mode or owner, as far as this node can know (DESIGN §5, dwell time).

Decides what counts as a change: the first record of a session with another epoch than was known of it. One that was
never met here, but has moved before, counts as having moved just now, so that two nodes do not each let it move at
once; one that has never moved (epoch 0) has always rested. To write the time into the record was the alternative: it
would be another machine's clock.
"""

from collections import OrderedDict

from .records import SessionKey

MOST = 16384
"""Sessions that have moved and are remembered, a few MB; one that was forgotten has to rest anew."""


class Rests:
    """`seen` for each epoch that is read or heard of; one object for all sessions of a node."""

    def __init__(self) -> None:
        self._since: OrderedDict[SessionKey, tuple[int, float]] = OrderedDict()

    def seen(self, key: SessionKey, epoch: int, now: float) -> None:
        """The session is at `epoch`, and was so at `now`: the earliest such time counts."""
        known, since = self._since.get(key, (0, float("-inf")))
        if epoch < known or (epoch == known and now >= since):
            return
        self._since[key] = epoch, now
        self._since.move_to_end(key)
        if len(self._since) > MOST:
            self._since.popitem(last=False)

    def since(self, key: SessionKey) -> float:
        """Monotonic seconds; -inf for one that has never moved."""
        return self.known(key)[1]

    def known(self, key: SessionKey) -> tuple[int, float]:
        """The epoch since which it rests, and since when; 0 for one that has never moved."""
        return self._since.get(key, (0, float("-inf")))

    def left(self, key: SessionKey, dwell: float, now: float) -> float:
        """Seconds that it has to rest yet; none once they are not above 0."""
        return self.since(key) + dwell - now
