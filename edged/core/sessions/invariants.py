"""What holds in each state of a session, asserted whenever it has stepped to another one (DESIGN §5, reliability §2.5).

Decides nothing. The comments of `core.transition` say it in words. A state that breaks one of these is a defect, and what
it would do next could cost somebody's calls: better that the step fails where it was taken.
"""

from ..transition import HELD_BACK, OWNING, SERVING_REMOTE, S
from .actor import Actor
from .fencing import may_serve

WITHOUT_CONTAINER = SERVING_REMOTE | {S.ASKING, S.RECLAIMING, S.STARTING}
WITH_CONTAINER = OWNING | HELD_BACK | {S.RESTORING, S.KEEPING, S.SEALING, S.SEALED}
WITH_HEAD = frozenset({S.READING, S.RUNNING, S.COMMITTING, S.YIELDING, S.ASKING, S.RECLAIMING})
WRITING = frozenset({S.OFFERING, S.RELEASING, S.DOUBT, S.KEEPING, S.REGAINING})


def check(actor: Actor) -> None:
    """Cheap: a few sets are asked."""
    state = actor.state
    if state in WITHOUT_CONTAINER:
        assert actor.container is None, "remote-state, and a container is held"
        assert not actor.own, "remote-state, and calls in a container of its own"
        assert not actor.held, "remote-state, and answers held back"
    if state in WITH_CONTAINER:
        assert actor.container is not None, "the state is in no container"
    if state in OWNING:
        assert actor.epoch > 0, "owned without a record"
        assert may_serve(actor), "served without a lease, or without having read the record under it"
    if state in WRITING:
        assert actor.saving is None, "two writes of one session under way"
        assert not actor.own, "a call runs whose effect is not in what is handed over"
    if state not in WITH_HEAD:
        assert actor.head is None, "a call is being run remote-state by nobody"
