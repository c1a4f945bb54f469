"""A first try that lies in a stopped node's socket until it was repeated elsewhere, took effect, and was forgotten."""

import os
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.counters import a_counter, localized
from support.nodes import Nodes, deploy, served_by, until
from support.wire_client import WireClient

from edged.daemon.hub import AWAY
from edged_protocol.errors import CallError

LEASE = "3s"


@pytest.mark.parametrize("local", [False, True])
def test_a_call_from_before_a_pause_does_not_run_again(nodes: Nodes, tmp_path: Path, local: bool) -> None:
    """Through the stopped node, or to the stopped owner of the session: it is refused (103), and who says it again later
    is told that it is too old (404); calls that are new are served at once."""
    for name in ("n1", "n2", "n3"):
        nodes.start(name, lease=LEASE, containers=0 if name == "n1" else 32)
    function = a_counter(tmp_path, "counter", 'local = "sync"\n[calls]\ndedup = 4')
    deploy(nodes.addresses["n1"], function)
    served_by(nodes.addresses["n1"], "counter", 2)
    with ExitStack() as stack:
        here, there = (stack.enter_context(closing(WireClient(nodes.addresses[name]))) for name in ("n2", "n3"))
        assert here.call("counter", "s", "incr") == 1
        if local:
            localized(nodes, "counter", "n2")
        nodes.signal("n2", signal.SIGSTOP)
        stopped, call_id = time.monotonic(), os.urandom(16)
        first = here.send("counter", "s", "incr", call_id=call_id, timeout_ms=60_000)

        def repeated() -> bool:
            try:
                return there.once("counter", "s", "incr", call_id=call_id, attempt=1, timeout_ms=1000)[0] == 2
            except CallError as error:
                assert error.code in (105, 401, 403), error
                return False

        until(repeated)
        count = 2
        while count < 8 or time.monotonic() < stopped + 1.5 * AWAY:
            count += 1
            assert there.call("counter", "s", "incr") == count
        nodes.signal("n2", signal.SIGCONT)
        with pytest.raises(CallError, match="away") as caught:
            here.outcome(first)
        assert caught.value.code == 103

        def told() -> int:
            with pytest.raises(CallError) as caught:
                here.once("counter", "s", "incr", call_id=call_id, attempt=1)
            return caught.value.code

        until(lambda: told() == 404)  # its own copy of the session is out of date, which it has to find out
        assert here.call("counter", "s", "incr") == count + 1
