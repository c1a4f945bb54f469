"""For all tests: properties are tried without a deadline, since time is not asserted on a machine with other work, and with the
same examples each time (`make soak-properties` tries others, and more of them: what it finds is written down as an example); and
SIGINT means what it says for the programs that tests start, also when a script has started the tests behind it (`&`)."""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["support.ahead"]

SLOW = [HealthCheck.too_slow]  # it goes by the clock as well
settings.register_profile("edged", deadline=None, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("others", deadline=None, suppress_health_check=SLOW, max_examples=5000)
settings.load_profile("edged")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
