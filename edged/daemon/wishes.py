"""What a container's answer asks for besides, checked and given a time of day (SPEC "Containers").

Decides what of it counts. A container is the function's own code, in any language: what makes no sense is logged and
dropped, the call it came with counts.
"""

import logging
import time

from edged.core.alarms import changes_of
from edged.core.calls import Call
from edged_protocol import messages as m

log = logging.getLogger(__name__)


def asked_alarms(call: Call, meta: m.Map) -> m.Map:
    """The meta with its `alarms` as changes, due by this node's wall clock."""
    now = time.time()  # noqa: TID251 - alarms are due by the wall clock: they outlive every other one
    try:
        return {**meta, "alarms": changes_of(meta["alarms"], now)}
    except ValueError as error:
        log.warning("%s/%s asked for alarms that make no sense: %s", call.function, call.session, error)
        return {name: value for name, value in meta.items() if name != "alarms"}
