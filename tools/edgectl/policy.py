"""`edgectl policy …` and `edgectl session explain`: what the mesh does by itself, and why (DESIGN §7, §9).

Decides what of the answers is shown to a person. Refuses to know how anything is decided.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from . import arguments
from .plot import Mark, Series, draw, foot_of_cliffs
from .render import listing, printable, table

if TYPE_CHECKING:
    from .commands import Desk

GET = ("function", "node", "policy", "local", "remote", "rate", "local_ms", "remote_ms", "store_ms", "switch_ms")
MOVES = ("at", "function", "session", "node", "to", "reason", "gain_ms_per_s", "failed")
CURVE = ("k", "mean_ms", "p99_ms", "pool_busy", "what")

LAST = 20
"""Moves that a person is shown."""

NEAR = 3
"""Points of the curve shown on either side of those that matter."""


def get(desk: "Desk") -> None:
    """`edgectl policy get`."""
    desk.show(_asked(desk, "policy.get", {}), _get_text)


def _get_text(said: Any) -> str:
    head = {"frozen": said.get("frozen"), **said.get("settings", {})}
    return "\n".join([listing(head), "", table(GET, said.get("functions", [])), *_silent(said)])


def explain(desk: "Desk", function: str | None) -> None:
    """`edgectl policy explain [FN]`."""
    params = {} if function is None else {"function": arguments.function_name(function)}
    desk.show(_asked(desk, "policy.explain", params), _explain_text)


def _explain_text(said: Any) -> str:
    lines = [f"{row.get('function')} on {row.get('node')}: {row.get('reason')}" for row in said.get("functions", [])]
    moves = said.get("moves", [])[-LAST:]
    shown = [table(MOVES, [{**row, "to": row.get("to") or "the store"} for row in moves])] if moves else ["no moves yet"]
    return "\n".join([*map(printable, lines), "", *shown, *_silent(said)])


def still(verb: str, desk: "Desk") -> None:
    """`edgectl policy freeze`, `edgectl policy thaw`."""
    desk.show(_asked(desk, verb, {}), lambda said: "\n".join([listing({k: v for k, v in said.items() if k != "silent"}), *_silent(said)]))


def what_if(desk: "Desk", function: str | None, plot: bool) -> None:
    """`edgectl policy what-if [FN] [--plot]`."""
    params = {} if function is None else {"function": arguments.function_name(function)}
    said = _asked(desk, "policy.what_if", params)
    desk.show(said, _what_if_text)
    if plot:
        from rich.console import Console

        Console(stderr=desk.json).print(_curve(said))


def _what_if_text(said: Any) -> str:
    head = {name: said.get(name) for name in ("sessions", "containers", "rate", "times")}
    return "\n".join([listing(head), "", table(CURVE, _points(said)), "", *_standing(said)])


SIGNS = {"now": "now", "best": "least latency", "planned": "the policy's aim", "cliff": "the last that is stable"}


def _points(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    marks = {said.get(name) for name in SIGNS} - {None}
    points = [point for point in said.get("points", []) if isinstance(point, dict)]
    step = max(1, len(points) // 20)
    chosen = [p for i, p in enumerate(points) if i % step == 0 or any(abs(p.get("k", 0) - k) <= NEAR for k in marks)]
    return [{**p, "what": ", ".join(text for name, text in SIGNS.items() if said.get(name) == p.get("k"))} for p in chosen]


def _standing(said: Mapping[str, Any]) -> list[str]:
    """In words: where it stands, and what would be better."""
    if not said.get("rate"):
        return ["nothing is called: no number of local sessions is better than another"]
    by_k = {p.get("k"): p for p in said.get("points", []) if isinstance(p, dict)}
    now, best, cliff = said.get("now"), said.get("best"), said.get("cliff")
    if best is None:
        return ["with no number of local sessions does the pool keep up: more containers or fewer calls"]
    is_, might = by_k.get(now, {}).get("mean_ms"), by_k.get(best, {}).get("mean_ms")
    here = f"{now} sessions are local" + (f", {is_} ms a call is expected" if is_ is not None else ": the pool does not keep up")
    further = isinstance(cliff, int) and any(isinstance(k, int) and k > cliff for k in by_k)
    edge = f"; beyond {cliff} the pool does not keep up" if further else ""
    return [f"{here}; with {best} it would be {might} ms{edge}"]


def _curve(said: Mapping[str, Any]) -> Any:
    rows = [p for p in said.get("points", []) if isinstance(p, dict) and isinstance(p.get("mean_ms"), int | float)]
    by_k = {p["k"]: p["mean_ms"] for p in rows}
    marks = [Mark(said[name], by_k[said[name]], sign) for name, sign in (("best", "▼"), ("now", "●")) if said.get(name) in by_k]
    top = foot_of_cliffs([by_k.values()], [mark.y for mark in marks])
    series = [Series("mean", sorted(by_k.items()))]
    return draw(series, marks, x="local sessions   (● now  ▼ least latency)", y="mean latency, ms", top=top)


def session_explain(desk: "Desk", target: str) -> None:
    """`edgectl session explain FN/SESSION`."""
    params = arguments.session_key(target)
    with desk.about(params["function"], params["session"]) as mesh:
        said = mesh.request("session.explain", params)[0]
    desk.show(said, _session_text)


def _session_text(said: Any) -> str:
    head = {key: value for key, value in said.items() if key != "why"}
    return "\n".join([listing(head), "", *(printable(f"- {line}") for line in said.get("why", []))])


def _asked(desk: "Desk", verb: str, params: dict[str, Any]) -> dict[str, Any]:
    with desk.about(params["function"]) if params else desk.connect() as mesh:
        said = mesh.request(verb, params)[0]
    if not isinstance(said, dict):
        raise click.ClickException("the node did not answer with a map")
    return said


def _silent(said: Mapping[str, Any]) -> list[str]:
    names = said.get("silent") or []
    told = [f"no answer from {', '.join(map(printable, names))}"] if names else []
    return [*told, "there is more than fits into an answer"] if said.get("more") else told
