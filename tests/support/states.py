"""States, and whatever a handler may do to one: strategies for the tests of those who follow it."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

ROOMY = 1 << 20
KEYS = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
STATES = st.dictionaries(KEYS, VALUES, max_size=4)
Step = Callable[[Any], Any]


def mutate(value: Any) -> None:
    """Change whatever can be changed inside a value, as deep as it goes."""
    if isinstance(value, list):
        for item in value:
            mutate(item)
        value.append("new")
    elif isinstance(value, dict):
        for item in value.values():
            mutate(item)
        value["new"] = 1


def alias(state: Any, source: str, target: str) -> None:
    """Let two keys share one object."""
    if source in state:
        state[target] = state[source]


UNORDERED: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda k, v: lambda s: s.__setitem__(k, copy.deepcopy(v)), KEYS, VALUES),
    st.builds(lambda k: lambda s: mutate(s[k]) if k in s else None, KEYS),
    st.builds(lambda k: lambda s: mutate(s.get(k)), KEYS),
    st.builds(lambda k: lambda s: s.pop(k, None), KEYS),
    st.builds(lambda k: lambda s: s.__delitem__(k) if k in s else None, KEYS),
    st.builds(lambda k, v: lambda s: mutate(s.setdefault(k, copy.deepcopy(v))), KEYS, VALUES),
    st.builds(lambda v: lambda s: s.update(copy.deepcopy(v)), STATES),
    st.builds(lambda v: lambda s: s.__ior__(copy.deepcopy(v)), STATES),
    st.builds(lambda a, b: lambda s: alias(s, a, b), KEYS, KEYS),
    st.just(lambda s: s.clear()),
    st.just(lambda s: [mutate(v) for v in s.values()]),
    st.just(lambda s: [mutate(v) for _, v in s.items()]),
    st.just(lambda s: [mutate(s[k]) for k in s]),
    st.just(lambda s: mutate({**s})),
    st.just(lambda s: mutate(dict(s))),
    st.just(lambda s: mutate(s.copy())),
    st.just(lambda s: mutate(copy.copy(s))),
    st.just(lambda s: mutate(s | {"z": 1})),
    st.just(lambda s: mutate({"z": 1} | s)),
)
STEPS = UNORDERED | st.just(lambda s: s.popitem() if s else None)
