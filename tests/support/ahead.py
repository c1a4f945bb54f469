"""Tests that only compute begin when the session does, in processes that give way to everybody else: most other tests
wait for real processes, and leave the cores idle.

`pytest.mark.ahead` is for tests that need no fixture but `monkeypatch`. When its turn comes such a test has run; one that
failed runs once more in its place, where pytest tells why. `pytest.mark.ahead_of(call, arguments)` is for a module whose
tests look at what `call` returns for each of the arguments: the fixture `results`.
"""

import os
import signal
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import pytest

NICE = 19
"""Nothing else has less of a claim to a core."""


class Ahead:
    """What was begun, by test and by module, in processes that end with the session."""

    def __init__(self) -> None:
        # A fork would copy whatever threads and locks this process has.
        self._pool = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=give_way)
        self.tests: dict[str, Future[str]] = {}
        self.parts: dict[str, list[Future[Any]]] = {}

    def begin_test(self, item: pytest.Function) -> None:
        where = (item.module.__name__, item.originalname)
        self.tests[item.nodeid] = self._pool.submit(run_test, *where, own_arguments(item), "monkeypatch" in item.fixturenames)

    def begin_parts(self, module: str, mark: pytest.Mark) -> None:
        call, arguments = mark.args
        self.parts[module] = [self._pool.submit(call, argument) for argument in arguments]

    def end(self) -> None:
        """Whatever nobody waits for any more is not begun."""
        self._pool.shutdown(cancel_futures=True)


AHEAD = pytest.StashKey[Ahead]()


def give_way() -> None:
    """The processes' first words: to the scheduler, and about who interrupts the session."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_test(module: str, name: str, arguments: dict[str, Any], patched: bool) -> str:
    """In one of the processes; how it failed, if it did."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            getattr(import_module(module), name)(**arguments, **({"monkeypatch": patch} if patched else {}))
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, pytest will tell
        return traceback.format_exc()
    return ""


def own_arguments(item: pytest.Function) -> dict[str, Any]:
    """Those of this case of a test."""
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def module_of(node: pytest.Item) -> str:
    module = node.getparent(pytest.Module)
    assert module is not None
    return module.nodeid


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what was selected: the tests in their order, then what other tests look at."""
    tests = [item for item in session.items if item.get_closest_marker("ahead")]
    parts = {module_of(item): mark for item in session.items if (mark := item.get_closest_marker("ahead_of"))}
    if (tests or parts) and not session.config.option.collectonly:
        ahead = session.config.stash[AHEAD] = Ahead()
        for item in tests:
            assert isinstance(item, pytest.Function)
            ahead.begin_test(item)
        for module, mark in parts.items():
            ahead.begin_parts(module, mark)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """What passed has passed. What failed must fail here as well: all its chance is its seed's."""
    ahead = pyfuncitem.config.stash.get(AHEAD, None)
    begun = ahead.tests.get(pyfuncitem.nodeid) if ahead is not None else None
    if begun is None:
        return None
    failure = begun.result()
    if failure:
        patch = {name: value for name, value in pyfuncitem.funcargs.items() if name == "monkeypatch"}
        pyfuncitem.obj(**own_arguments(pyfuncitem), **patch)
        pytest.fail(f"passes here, but in another process:\n{failure}")
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    """The processes end with the session."""
    ahead = config.stash.get(AHEAD, None)
    if ahead is not None:
        ahead.end()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the calls of the module's `ahead_of` return, in the order of their arguments."""
    return (part.result() for part in request.config.stash[AHEAD].parts[request.node.nodeid])
