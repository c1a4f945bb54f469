"""Which stored states a version of a function takes (DESIGN §8 `[state] schema`).

Decides by the number of the form a state was stored in, and whether the version can make its own form of an older one.
Refuses to know what is in a state. To hand any state to any version and let it find out was the alternative: what it did not
understand it would have overwritten.
"""

from typing import NamedTuple


class Takes(NamedTuple):
    """A version that has `schema`. `upgrades`: whether it has code for older ones; None: it has not said so yet."""

    schema: int = 1
    upgrades: bool | None = False

    def refusal(self, schema: int) -> str:
        """Why it does not take a state of that schema, 0 being none; "" when it does, or may."""
        if schema in (0, self.schema):
            return ""
        if schema > self.schema:
            return f"the session's state has schema {schema}, this version of its function {self.schema}"
        if self.upgrades is False:
            return f"the session's state has schema {schema}; this version of its function has {self.schema} and no upgrade"
        return ""


FIRST_FORM = Takes()
"""Of a function that says nothing of it."""
