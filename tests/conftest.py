"""For all tests: properties are tried without a deadline, since time is not asserted on a machine with other work."""

from hypothesis import settings

settings.register_profile("edged", deadline=None)
settings.load_profile("edged")
