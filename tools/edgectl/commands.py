"""What each command asks of the node and what of the answer it shows (DESIGN §9).

Plain functions over one connection; refuses to know how options are declared and how failures end.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edged_protocol.bundle import pack_directory
from edged_protocol.errors import Code, UnknownOutcome, call_error

from . import arguments
from .addresses import Target
from .client import Call, Operator, connect
from .render import listing, printable, table, to_json
from .upload import upload

TIMINGS = ("queue_us", "run_us", "state_us")
NODE_COLUMNS = ("name", "address", "state", "containers", "sessions", "labels")
FUNCTION_COLUMNS = ("name", "version", "hash", "nodes")
SESSION_COLUMNS = ("function", "session", "mode", "node", "epoch", "version")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where to ask and how to show: what the global options say."""

    targets: tuple[Target, ...]
    json: bool

    def connect(self) -> Operator:
        """A connection for one command. Raises Unreachable."""
        return connect(self.targets, "edgectl")

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
    with desk.connect() as operator:
        return operator.request(verb, params)


def status(desk: Desk) -> None:
    """`edgectl status`."""
    desk.show_map(_ask(desk, "node.status", {}))


def nodes(desk: Desk) -> None:
    """`edgectl nodes`."""
    desk.show_rows(_ask(desk, "mesh.nodes", {}), NODE_COLUMNS)


def functions(desk: Desk) -> None:
    """`edgectl functions`."""
    desk.show_rows(_ask(desk, "function.list", {}), FUNCTION_COLUMNS)


def deploy(desk: Desk, directory: Path) -> None:
    """`edgectl deploy DIR`."""
    if not (directory / "function.toml").is_file():
        raise click.ClickException(f"{directory} has no function.toml")
    try:
        data = pack_directory(directory)
    except (ValueError, OSError) as error:
        raise click.ClickException(f"{directory}: {error}") from error
    with desk.connect() as operator:
        hash_ = _send(operator, data)
        desk.show_map(operator.request("function.deploy", {"hash": hash_}))


def _send(operator: Operator, data: bytes) -> str:
    if not sys.stderr.isatty():
        return upload(operator, data, lambda have: None)
    with click.progressbar(length=len(data), label="upload", file=sys.stderr) as bar:
        return upload(operator, data, lambda have: bar.update(have - bar.pos))


def remove(desk: Desk, function: str) -> None:
    """`edgectl remove FN`."""
    name = arguments.function_name(function)
    _ask(desk, "function.remove", {"name": name})
    desk.show({"name": name}, lambda _: f"{name} removed")


def call(
    desk: Desk,
    target: str,
    method: str,
    words: tuple[str, ...],
    prefer: str | None,
    id_: str | None,
    timeout: float,
) -> None:
    """`edgectl call FN[/SESSION] [METHOD] [ARG…]`."""
    function, session = arguments.function_session(target)
    args = arguments.values(arguments.unshield(words))
    call_id = arguments.call_id(id_, session)
    method = arguments.method_name(method)
    with desk.connect() as operator:
        try:
            said = operator.call(Call(function, session, method, args, call_id, prefer, timeout))
        except UnknownOutcome:
            if call_id is not None:
                click.echo(f"repeating it with --id {call_id.hex()} is safe", err=True)
            raise
    document = {
        "result": said.value,
        **{name: said.meta.get(name) for name in ("node", "mode", "epoch", "version")},
        "timings": {name: said.meta.get(name) for name in TIMINGS},
    }
    desk.show(document, lambda _: to_json(said.value))


def sessions(desk: Desk, function: str | None) -> None:
    """`edgectl sessions [FN]`."""
    params = {"function": arguments.function_name(function)} if function else {}
    desk.show_rows(_ask(desk, "session.list", params), SESSION_COLUMNS)


def session_get(desk: Desk, target: str) -> None:
    """`edgectl session get FN/SESSION`."""
    desk.show_map(_ask(desk, "session.get", arguments.session_key(target)))


def session_move(desk: Desk, verb: str, target: str, to: str | None) -> None:
    """`edgectl session localize|externalize|migrate FN/SESSION [--to NODE]`."""
    params = arguments.session_key(target)
    if to is not None:
        params["to"] = arguments.node_name(to)
    desk.show_map(_ask(desk, verb, params))


def logs(desk: Desk, function: str, follow: bool) -> None:
    """`edgectl logs FN [-f]`: a line per item, in JSON as well; an interrupt ends `-f` well."""
    params = {"name": arguments.function_name(function), "follow": follow}
    with desk.connect() as operator:
        try:
            for item in operator.stream("function.logs", params, follow=follow):
                click.echo(to_json(item, None) if desk.json else _log_line(item))
        except KeyboardInterrupt:
            if not follow:
                raise


def _log_line(item: Any) -> str:
    if not isinstance(item, dict):
        return printable(to_json(item, None))
    origin = "/".join(str(item[name]) for name in ("node", "container") if name in item)
    return printable(f"{origin}  {item.get('line', '')}")
