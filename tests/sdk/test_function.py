"""Declaring a function: which method a name means, which arguments fit, which hooks there are."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from edged.sdk import Function, Session


def declared(*names: str) -> Function:
    """A function with handlers of those names."""
    fn = Function("f")
    for name in names:
        handler: Any = lambda s: None  # noqa: E731 - it gets its name in the next line
        handler.__name__ = name
        fn.handler(handler)
    return fn


@pytest.mark.parametrize(("names", "default"), [(("a", "b"), "a"), (("a", "call"), "call"), ((), "")])
def test_the_default_method(names: tuple[str, ...], default: str) -> None:
    """The default is the method named call, else the first."""
    assert declared(*names).default == default


def test_methods_are_described_for_hello() -> None:
    """Each method says whether it only reads."""
    fn = declared("a")

    @fn.shared
    def peek(s: Session) -> None: ...

    assert fn.described() == {"a": {"shared": False}, "peek": {"shared": True}}


def test_arguments_are_counted_without_the_session() -> None:
    """A handler takes as many arguments as its signature has beside the session."""
    fn = Function("f")

    @fn.handler
    def two(s: Session, a: int, b: int = 1) -> None: ...

    @fn.handler
    def many(s: Session, *rest: int) -> None: ...

    @fn.handler
    def bare(*everything: Any) -> None: ...

    fits = {name: [method.least <= n <= method.most for n in range(4)] for name, method in fn.methods.items()}
    assert fits == {
        "two": [False, True, True, False],
        "many": [True] * 4,
        "bare": [True] * 4,
    }
    assert fn.methods["two"].signature == "two(a: int, b: int = 1)"


def test_impossible_handlers_are_refused() -> None:
    """Handlers that no call could reach are named when they are declared."""
    fn = declared("a")
    with pytest.raises(ValueError, match="two handlers are named a"):
        fn.handler(declared("a").methods["a"].run)
    with pytest.raises(TypeError, match="first argument is the session"):
        fn.handler(test_impossible_handlers_are_refused)

    def keyword(s: Session, *, unit: str) -> None: ...

    with pytest.raises(TypeError, match="unit has no default"):
        fn.handler(keyword)

    def piecemeal(s: Session) -> Iterator[int]:
        yield 1

    async def slowly(s: Session) -> AsyncIterator[int]:
        yield 1

    for run in (piecemeal, slowly):
        with pytest.raises(TypeError, match="yields none"):
            fn.handler(run)
    with pytest.raises(ValueError, match="'<lambda>' cannot be called"):
        fn.shared(lambda s: 1)


def test_a_hook_is_given_once_and_never_async() -> None:
    """Each hook has one plain function."""
    fn = Function("f")
    fn.load(dict)
    with pytest.raises(ValueError, match="twice"):
        fn.load(dict)

    async def dump(state: Any) -> None: ...

    with pytest.raises(TypeError, match="async"):
        fn.dump(dump)


def test_a_preference_is_one_of_two() -> None:
    """A handler may ask for local or remote, nothing else."""
    session = Session(None)
    session.prefer("local")
    assert session.preference == "local"
    with pytest.raises(ValueError, match="anywhere"):
        session.prefer("anywhere")  # type: ignore[arg-type]


def test_a_stateless_call_has_no_state() -> None:
    """Touching the state of a call without session is an error, never a state that is thrown away."""
    with pytest.raises(RuntimeError, match="no state"):
        _ = Session(None).state
    with pytest.raises(RuntimeError, match="no state"):
        Session(None).state = {}
