"""For all tests: properties are tried without a deadline, since time is not asserted on a machine with other work; and
SIGINT means what it says for the programs that tests start, also when a script has started the tests behind it (`&`)."""

import signal

from hypothesis import settings

pytest_plugins = ["support.ahead"]

settings.register_profile("edged", deadline=None)
settings.load_profile("edged")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
