"""What each command asks of the node and what of the answer it shows (DESIGN §9).

Plain functions over one connection; refuses to know how options are declared and how failures end.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edged_protocol.blocking import Mesh, connect
from edged_protocol.bundle import pack_directory
from edged_protocol.client import Options, Prefer
from edged_protocol.errors import Code, UnknownOutcome, call_error

from . import arguments, hints, progress
from .addresses import Target
from .render import cell, listing, printable, table, to_json
from .upload import upload

if TYPE_CHECKING:
    from .top import Picture

CALL_SECONDS = 10.0
"""For a call, unless said otherwise: a person waits longer than a device."""

DRAIN_LOOK = 0.2
"""Seconds between two looks at a drain."""

TIMINGS = ("queue_us", "run_us", "state_us")
NODE_COLUMNS = ("name", "address", "state", "containers", "sessions", "labels")
FUNCTION_COLUMNS = ("name", "version", "hash", "nodes", "canary")
DEAD_COLUMNS = ("function", "session", "alarm", "method", "tries", "code", "message")
CONFLICT_COLUMNS = ("id", "function", "session", "epoch", "version", "stored", "bytes", "at")
FROZEN_COLUMNS = ("node", "function", "session", "seen_epoch", "seen_version", "epoch", "version")
SESSION_COLUMNS = ("function", "session", "mode", "node", "epoch", "version")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where to ask and how to show: what the global options say."""

    targets: tuple[Target, ...]
    json: bool

    def connect(self) -> AbstractContextManager[Mesh]:
        """The mesh, for one command. Raises Unreachable."""
        addresses = [target.address for target in self.targets]
        return connect(addresses, name="edgectl", role="operator")

    @contextmanager
    def about(self, function: str, session: str | None = None) -> Iterator[Mesh]:
        """The mesh; what is not found is told with what is there under a similar name."""
        with self.connect() as mesh, hints.hinting(mesh, function, session):
            yield mesh

    def show(self, value: Any, as_text: Callable[[Any], str]) -> None:
        """The command's one document on stdout."""
        click.echo(to_json(value) if self.json else as_text(value))

    def show_rows(self, rows: Any, columns: Sequence[str]) -> None:
        """A list, in JSON whole and as a table by `columns`. Raises CallError for anything else."""
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise call_error(Code.INTERNAL, "the node did not answer with a list of maps")
        self.show(rows, lambda _: table(columns, rows))

    def show_map(self, value: Any) -> None:
        """One object. Raises CallError for anything else."""
        if not isinstance(value, dict):
            raise call_error(Code.INTERNAL, "the node did not answer with a map")
        self.show(value, listing)


def _ask(desk: Desk, verb: str, params: dict[str, Any]) -> Any:
    with desk.connect() as mesh:
        return mesh.request(verb, params)[0]


def status(desk: Desk) -> None:
    """`edgectl status`."""
    desk.show_map(_ask(desk, "node.status", {}))


def nodes(desk: Desk) -> None:
    """`edgectl nodes`."""
    desk.show_rows(_ask(desk, "mesh.nodes", {}), NODE_COLUMNS)


def functions(desk: Desk) -> None:
    """`edgectl functions`."""
    desk.show_rows(_ask(desk, "function.list", {}), FUNCTION_COLUMNS)


def deploy(desk: Desk, directory: Path, canary: int | None) -> None:
    """`edgectl deploy DIR [--canary PERCENT]`."""
    if not (directory / "function.toml").is_file():
        raise click.ClickException(f"{directory} has no function.toml")
    try:
        data = pack_directory(directory)
    except (ValueError, OSError) as error:
        raise click.ClickException(f"{directory}: {error}") from error
    with desk.connect() as mesh:
        hash_ = _send(mesh, data)
        params = {"hash": hash_} if canary is None else {"hash": hash_, "canary": canary}
        said = mesh.request("function.deploy", params)[0]
    for warning in said.get("warnings", ()):
        click.echo(printable(f"warning: {warning}"), err=True)
    desk.show_map(said if desk.json else {name: value for name, value in said.items() if name != "warnings"})


def _send(mesh: Mesh, data: bytes) -> str:
    if not sys.stderr.isatty():
        return upload(mesh, data, lambda have: None)
    with click.progressbar(length=len(data), label="upload", file=sys.stderr) as bar:
        return upload(mesh, data, lambda have: bar.update(have - bar.pos))


def rollout(desk: Desk, verb: str, function: str) -> None:
    """`edgectl promote FN`, `edgectl rollback FN`."""
    name = arguments.function_name(function)
    with desk.about(name) as mesh:
        desk.show_map(mesh.request(verb, {"name": name})[0])


def remove(desk: Desk, function: str) -> None:
    """`edgectl remove FN`."""
    name = arguments.function_name(function)
    with desk.about(name) as mesh:
        mesh.request("function.remove", {"name": name})
    desk.show({"name": name}, lambda _: f"{name} removed")


def call(
    desk: Desk,
    target: str,
    method: str,
    words: tuple[str, ...],
    prefer: Prefer | None,
    id_: str | None,
    retry: bool,
    timeout: float,
) -> None:
    """`edgectl call FN[/SESSION] [METHOD] [ARG…]`."""
    function, session = arguments.function_session(target)
    args = arguments.values(arguments.unshield(words))
    call_id = arguments.call_id(id_, session, retry)
    method = arguments.method_name(method)
    # A person decides about a try that may have run; what certainly did not is repeated in time.
    options: Options = {"prefer": prefer, "call_id": call_id, "timeout": timeout, "once": True}
    options["attempt"] = int(retry)
    with desk.about(function) as mesh:
        try:
            chosen = mesh.function(function) if session is None else mesh.session(function, session)
            said = chosen.invoke(method, *args, **options)
        except UnknownOutcome:
            if call_id is not None:
                click.echo(f"repeating it with --id {call_id.hex()} --retry is safe", err=True)
            raise
    document = {
        "result": said.value,
        **{name: said.meta.get(name) for name in ("node", "mode", "epoch", "version")},
        "timings": {name: said.meta.get(name) for name in TIMINGS},
    }
    desk.show(document, lambda _: to_json(said.value))


def sessions(desk: Desk, function: str | None) -> None:
    """`edgectl sessions [FN]`."""
    params: dict[str, Any] = {"function": arguments.function_name(function)} if function else {}
    rows: list[dict[str, Any]] = []
    with desk.about(function) if function else desk.connect() as mesh:
        while page := mesh.request("session.list", params)[0]:
            last = [page[-1]["function"], page[-1]["session"]]
            if last == params.get("after"):
                break  # a node that does not know `after` says the same again
            rows += page
            params["after"] = last
    desk.show_rows(rows, SESSION_COLUMNS)


def session_get(desk: Desk, target: str) -> None:
    """`edgectl session get FN/SESSION`."""
    _session(desk, "session.get", arguments.session_key(target))


def session_end(desk: Desk, target: str) -> None:
    """`edgectl session end FN/SESSION`."""
    _session(desk, "session.end", arguments.session_key(target))


def session_move(desk: Desk, verb: str, target: str, to: str | None) -> None:
    """`edgectl session localize|externalize FN/SESSION [--to NODE]`."""
    params = arguments.session_key(target)
    if to is not None:
        params["to"] = arguments.node_name(to)
    _session(desk, verb, params)


def session_migrate(desk: Desk, target: str, to: str, force: bool, stop: bool) -> None:
    """`edgectl session migrate FN/SESSION --to NODE [--force] [--stop]`."""
    session = arguments.session_key(target)
    how = {name: True for name, wanted in (("force", force), ("stop", stop)) if wanted}
    with progress.shown(desk.connect(), session):
        _session(desk, "session.migrate", {**session, "to": arguments.node_name(to), **how})


def _session(desk: Desk, verb: str, params: dict[str, Any]) -> None:
    with desk.about(params["function"], params["session"]) as mesh:
        desk.show_map(mesh.request(verb, params)[0])


def dead(desk: Desk, function: str | None) -> None:
    """`edgectl dead ls [FN]`."""
    params: dict[str, Any] = {"function": arguments.function_name(function)} if function else {}
    rows: list[dict[str, Any]] = []
    with desk.about(function) if function else desk.connect() as mesh:
        while True:
            page = mesh.request("session.dead", params)[0]
            rows += page["dead"]
            if page["after"] is None:
                break
            params["after"] = page["after"]
    desk.show_rows(rows, DEAD_COLUMNS)


def dead_edit(desk: Desk, verb: str, target: str, alarm: str | None) -> None:
    """`edgectl dead replay|drop FN/SESSION [ALARM]`."""
    params = arguments.session_key(target)
    _session(desk, verb, params if alarm is None else {**params, "alarm": alarm})


def conflicts(desk: Desk, function: str | None) -> None:
    """`edgectl session conflicts [FN]`."""
    params = {"function": arguments.function_name(function)} if function else {}
    desk.show_rows(_ask(desk, "session.conflicts", params), CONFLICT_COLUMNS)


def frozen(desk: Desk, function: str | None) -> None:
    """`edgectl session frozen [FN]`."""
    params = {"function": arguments.function_name(function)} if function else {}
    desk.show_rows(_ask(desk, "session.frozen", params), FROZEN_COLUMNS)


def accept(desk: Desk, target: str) -> None:
    """`edgectl session accept FN/SESSION`."""
    with desk.connect() as mesh:
        desk.show_rows(mesh.request("session.accept", arguments.session_key(target))[0], FROZEN_COLUMNS)


def conflict(desk: Desk, act: str, id_: str, file: Path | None = None) -> None:
    """`edgectl session export|restore|discard ID`."""
    with desk.connect() as mesh:
        said, state = mesh.request("session.conflict", {"id": id_, "do": act})
    if file is not None:
        file.write_bytes(state or b"")
    desk.show_map(said)


def forget(desk: Desk, node: str) -> None:
    """`edgectl node forget NODE`."""
    with desk.connect() as mesh:
        desk.show_map(mesh.request("node.forget", {"node": arguments.node_name(node)})[0])


def drain(desk: Desk, node: str | None, wait: bool) -> None:
    """`edgectl drain [NODE]`: until no session is left there, with progress on stderr."""
    params = _of_node(node)
    with desk.connect() as mesh:
        while True:
            said = mesh.request("node.drain", params)[0]
            if not wait or said.get("state") != "draining":
                break
            _show_progress(said)
            time.sleep(DRAIN_LOOK)
    if sys.stderr.isatty():
        click.echo(err=True)
    desk.show_map(said)


def _show_progress(said: dict[str, Any]) -> None:
    """On a terminal only; a session that has a reason to stay is named with it."""
    if sys.stderr.isatty():
        why = next((row["reason"] for row in said.get("first", ()) if row.get("reason")), "")
        text = f"{said.get('left')} sessions left {why}"
        click.echo(f"\r\033[K{printable(text)[:100]}", nl=False, err=True)


def undrain(desk: Desk, node: str | None) -> None:
    """`edgectl undrain [NODE]`."""
    desk.show_map(_ask(desk, "node.undrain", _of_node(node)))


def _of_node(node: str | None) -> dict[str, Any]:
    return {} if node is None else {"node": arguments.node_name(node)}


def events(desk: Desk, watch: bool) -> None:
    """`edgectl events [--watch]`: a line per event, in JSON as well while it goes on."""
    with _until_interrupted(watch), desk.connect() as mesh:
        _show_items(desk, mesh.stream("mesh.events", {"follow": watch}), _event_line, watch)


def _event_line(item: Any) -> str:
    about = {key: value for key, value in item.items() if key not in ("at", "node", "event")}
    return f"{item.get('at')}  {item.get('node')}  {item.get('event')}  {cell(about)}"


def top(desk: Desk, every: float, once: bool) -> None:
    """`edgectl top`: renewed until interrupted; in JSON, or with `once`, one picture."""
    from rich.console import Console
    from rich.live import Live

    from .top import draw

    with _until_interrupted(not once), desk.connect() as mesh:
        if desk.json:
            return click.echo(to_json(_picture(mesh).document()))
        console = Console()
        if once or not console.is_terminal:
            return console.print(draw(_picture(mesh)))
        with Live(draw(_picture(mesh)), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(draw(_picture(mesh)), refresh=True)


def _picture(mesh: Mesh) -> "Picture":
    from .top import Picture

    lists = [mesh.request(verb, {})[0] for verb in ("mesh.nodes", "mesh.load")]
    events = [item for item in mesh.stream("mesh.events", {}) if isinstance(item, dict) and "event" in item]
    nodes, load = ([row for row in rows if isinstance(row, dict)] for rows in lists if isinstance(rows, list))
    return Picture(nodes, load, events)


def discover(desk: Desk, mesh: str | None, wait: float) -> None:
    """`edgectl discover [MESH]`: what announces itself on this LAN; asks no node."""
    from edged_protocol.discovery import discover as search

    try:
        found = search(None if mesh is None else arguments.mesh_name(mesh), wait)
    except OSError as error:
        raise click.ClickException(f"cannot look for nodes: {error}") from error
    if not found:
        click.echo(f"nobody announces itself here{f' for {mesh}' if mesh else ''}; does the network pass multicast?", err=True)
    desk.show_rows([one._asdict() for one in found], ("mesh", "node", "address"))


def logs(desk: Desk, function: str, follow: bool) -> None:
    """`edgectl logs FN [-f]`: a line per item, in JSON as well while it goes on."""
    name = arguments.function_name(function)
    with _until_interrupted(follow), desk.about(name) as mesh:
        _show_items(desk, mesh.stream("function.logs", {"name": name, "follow": follow}), _log_line, follow)


@contextmanager
def _until_interrupted(follow: bool) -> Iterator[None]:
    """What goes on for ever is ended by an interrupt, and ends well."""
    try:
        yield
    except KeyboardInterrupt:
        if not follow:
            raise


def _show_items(desk: Desk, items: Iterable[Any], line: Callable[[Any], str], endless: bool) -> None:
    """In JSON one list, as of every command; of what does not end, an object on each line."""
    rows: list[Any] = []
    for item in items:
        if isinstance(item, dict) and "missing" in item:
            click.echo(printable(f"{item.get('node')}: {item['missing']}"), err=True)
        elif desk.json and not endless:
            rows.append(item)
        elif desk.json or not isinstance(item, dict):
            click.echo(to_json(item, None))
        else:
            click.echo(printable(line(item)))
    if desk.json and not endless:
        click.echo(to_json(rows))


def _log_line(item: Any) -> str:
    origin = "/".join(str(item[name]) for name in ("node", "container") if name in item)
    return f"{origin}  {item.get('line', '')}"
