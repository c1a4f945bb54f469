"""The example functions, each through the real serve loop, in both modes."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from support.containers import InThread, Peer, value_of

from edged.core.manifest import parse_manifest
from edged.sdk import Function
from edged_protocol import messages as m

FUNCTIONS = Path(__file__).parents[2] / "configs" / "functions"
MODES = ("remote", "local")


def example(name: str) -> Function:
    """The Function object the manifest of an example names."""
    manifest = parse_manifest((FUNCTIONS / name / "function.toml").read_text())
    assert manifest.name == name
    module, attribute = manifest.entry.split(":")
    spec = importlib.util.spec_from_file_location(f"example_{module}", FUNCTIONS / name / f"{module}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    function = getattr(loaded, attribute)
    assert isinstance(function, Function)
    return function


class Client:
    """Calls one session in one mode, carrying the state as the daemon would."""

    def __init__(self, peer: Peer, mode: str) -> None:
        self._peer, self._mode = peer, mode
        self._state: bytes | None = None
        self.wish: str | None = None
        if mode == "local":
            peer.ask("worker.load", None, session="k", epoch=1, version=0)

    def __call__(self, method: str, *arguments: Any) -> Any:
        blob = self._state if self._mode == "remote" else None
        answer = self._peer.call(method, *arguments, meta={"mode": self._mode}, blob=blob)
        assert isinstance(answer, m.Result), answer
        self._state = answer.blob or self._state
        self.wish = (answer.meta or {}).get("prefer")
        return value_of(answer)


@pytest.mark.parametrize("mode", MODES)
def test_counter_counts(mode: str) -> None:
    """incr adds, by one or by what it is told; get reads, also before the first incr."""
    with InThread(example("counter")) as peer:
        call = Client(peer, mode)
        assert [call("get"), call("incr"), call("incr", 5), call("get")] == [0, 1, 6, 6]


@pytest.mark.parametrize("mode", MODES)
def test_arm_monitor_asks_for_its_own_container_while_abnormal(mode: str) -> None:
    """A reading far off the arm's own habit is an alarm and a wish for local; calm readings take it back."""
    with InThread(example("arm-monitor")) as peer:
        call = Client(peer, mode)
        for n in range(40):
            assert call("sample", 0.5 + 0.01 * (-1) ** n)["alarm"] is False
            assert call.wish is None
        odd = call("sample", 1.5)
        assert (odd["n"], odd["alarm"], odd["mode"], odd["node"], call.wish) == (41, True, mode, "here", "local")
        assert odd["mean"] == pytest.approx(0.5, abs=0.01)
        wishes = []
        for _ in range(50):
            assert call("sample", 0.5)["alarm"] is False
            wishes.append(call.wish)
        assert wishes == [None] * 49 + ["remote" if mode == "local" else None]
        assert call("report")["alarms"] == 1


def test_arm_monitor_knows_an_absolute_limit() -> None:
    """A reading beyond the arm's own limit is an alarm whatever the history."""
    with InThread(example("arm-monitor")) as peer:
        assert Client(peer, "remote")("sample", 3.5)["alarm"] is True


@pytest.mark.parametrize("mode", MODES)
def test_adas_parks_with_local_state(mode: str) -> None:
    """Driving wishes for nothing; parking wishes for local until the car stands, then for remote."""
    with InThread(example("adas")) as peer:
        call = Client(peer, mode)
        assert call("where") == "idle"
        assert call("drive", 20.0, 30.0)["speed"] == 15.0
        assert call.wish is None
        advice = {"speed": 1.5, "done": False, "phase": "parking", "steps": 2}
        assert call("park", 2.0) == {**advice, "mode": mode, "node": "here"}
        assert call.wish == "local"
        assert call("where") == "parking"
        assert call("park", 0.1)["done"] is True
        assert call.wish == "remote"
        assert call("where") == "parked"


def test_echo_needs_no_session() -> None:
    """echo gives back its argument, and nothing for nothing."""
    with InThread(example("echo")) as peer:
        for value in (None, 1.5, "x", {"a": [b"b", True]}):
            answer = peer.call("", value, session=None, call_id=None, meta=None)
            assert value_of(answer) == value
            assert isinstance(answer, m.Result) and answer.blob is None
