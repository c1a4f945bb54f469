"""The commands of `edgectl` (DESIGN §9): a row each, in a table for each group.

Decides what a command is called, takes, and says of itself. Refuses to know how rows become a program, what a node is
asked, and how results look. A decorator above each function was the alternative: it puts options and help where requests
are made, and leaves nothing that tests can go through row by row.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from edged_protocol.limits import MAX_TIMEOUT_MS

from . import commands, policy
from .arguments import Seconds
from .commands import CALL_SECONDS, Desk


class Row(NamedTuple):
    """One command: what it is called, does, says of itself and takes."""

    name: str
    function: Callable[..., None]
    help: str
    example: str
    params: tuple[click.Parameter, ...] = ()


def _argument(name: str, metavar: str, **more: Any) -> click.Argument:
    return click.Argument([name], metavar=metavar, **more)


_FUNCTION = _argument("function", "FN")
_SESSION = _argument("target", "FN/SESSION")
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_SECONDS = Seconds(min=0, max=MAX_TIMEOUT_MS / 1000, min_open=True)
_CALL = (
    _argument("target", "FN[/SESSION]"),
    _argument("method", "[METHOD]", default=""),
    _argument("words", "[ARG]...", nargs=-1),
    click.Option(
        ["--prefer"], type=click.Choice(["local", "remote", "any"]), help="the mode after it"
    ),
    click.Option(
        ["--id", "id_"],
        metavar="HEX",
        help="call id, 32 hex digits: a session runs a call once per id and remembers its answer",
    ),
    click.Option(
        ["--retry"],
        is_flag=True,
        help="with --id: this id was tried before and may have run; "
        "404 then says that it is too old to be remembered, and it is not run again",
    ),
    click.Option(
        ["--timeout"],
        type=_SECONDS,
        metavar="S",
        default=CALL_SECONDS,
        show_default=True,
        help="seconds",
    ),
)
_TO = click.Option(["--to"], metavar="NODE", help="default: the node that is asked")
_TO_REQUIRED = click.Option(["--to"], metavar="NODE", required=True, help="where it shall live")


def _move(verb: str) -> Callable[..., None]:
    def command(desk: Desk, target: str, to: str | None = None) -> None:
        commands.session_move(desk, verb, target, to)

    return command


def _dead(verb: str) -> Callable[..., None]:
    def command(desk: Desk, target: str, alarm: str | None) -> None:
        commands.dead_edit(desk, verb, target, alarm)

    return command


def _conflict(act: str) -> Callable[..., None]:
    def command(desk: Desk, id_: str, file: Path | None = None) -> None:
        commands.conflict(desk, act, id_, file)

    return command


def _rollout(verb: str) -> Callable[..., None]:
    def command(desk: Desk, function: str) -> None:
        commands.rollout(desk, verb, function)

    return command


COMMANDS = (
    Row("status", commands.status, "What the node is and does.", "edgectl status"),
    Row("nodes", commands.nodes, "The mesh's nodes.", "edgectl -o json nodes"),
    Row(
        "drain",
        commands.drain,
        "Let all sessions leave NODE. It gets nothing new until undrain or its restart, and stays a broker. "
        "Default: the node that is asked. An interrupt ends the waiting, not the drain.",
        "edgectl drain hall-3",
        (
            _argument("node", "[NODE]", required=False),
            click.Option(["--wait/--no-wait"], default=True, help="until no session is left there"),
        ),
    ),
    Row(
        "undrain",
        commands.undrain,
        "Let NODE serve again.",
        "edgectl undrain hall-3",
        (_argument("node", "[NODE]", required=False),),
    ),
    Row(
        "events",
        commands.events,
        "What happened on all nodes. With -o json a list; with --watch, an object on each line.",
        "edgectl events --watch",
        (click.Option(["-w", "--watch"], is_flag=True, help="go on until interrupted"),),
    ),
    Row(
        "top",
        commands.top,
        "The whole mesh at a glance. Nodes, pools, queues, sessions and the last events, renewed until interrupted; "
        "with -o json once.",
        "edgectl top --every 0.5",
        (
            click.Option(["--every"], metavar="S", type=Seconds(min=0.1), default=1.0, show_default=True, help="seconds between two looks"),
            click.Option(["--once"], is_flag=True, help="one picture"),
        ),
    ),
    Row(
        "discover",
        commands.discover,
        "Nodes announced here by mDNS. Of all meshes, or of MESH; no node is asked.",
        "edgectl discover plant-7",
        (
            _argument("mesh", "[MESH]", required=False),
            click.Option(["--wait"], metavar="S", type=Seconds(min=0.1, max=60), default=2.0, show_default=True, help="seconds to listen"),
        ),
    ),
    Row("functions", commands.functions, "What is deployed, and where.", "edgectl functions"),
    Row(
        "deploy",
        commands.deploy,
        "Deploy the function in directory DIR to the mesh.",
        "edgectl deploy configs/functions/counter",
        (
            _argument("directory", "DIR", type=_DIRECTORY),
            click.Option(
                ["--canary"],
                metavar="PERCENT",
                type=click.IntRange(1, 99),
                help="only for so many of the sessions, beside the version that is deployed",
            ),
        ),
    ),
    Row(
        "promote",
        _rollout("function.promote"),
        "Give FN's canary to all.",
        "edgectl promote counter",
        (_FUNCTION,),
    ),
    Row(
        "rollback",
        _rollout("function.rollback"),
        "Take FN's canary away. Without one, go back to the version before.",
        "edgectl rollback counter",
        (_FUNCTION,),
    ),
    Row("remove", commands.remove, "Serve FN no longer.", "edgectl remove counter", (_FUNCTION,)),
    Row(
        "call",
        commands.call,
        "Call a function. Each ARG is a JSON value, or a string where it is no JSON.",
        "edgectl call counter/kitchen incr 2 --prefer local",
        _CALL,
    ),
    Row(
        "sessions",
        commands.sessions,
        "The sessions, of all functions or of FN.",
        "edgectl sessions counter",
        (_argument("function", "[FN]", required=False),),
    ),
    Row(
        "logs",
        commands.logs,
        "What FN's containers printed, on all nodes. With -o json a list; with --follow, an object on each line.",
        "edgectl logs counter -f",
        (_FUNCTION, click.Option(["-f", "--follow"], is_flag=True, help="go on until interrupted")),
    ),
)
SESSION_COMMANDS = (
    Row(
        "get",
        commands.session_get,
        "One session.",
        "edgectl session get counter/kitchen",
        (_SESSION,),
    ),
    Row(
        "localize",
        _move("session.localize"),
        "Keep its state in one container's memory.",
        "edgectl session localize counter/kitchen --to hall-3",
        (_SESSION, _TO),
    ),
    Row(
        "externalize",
        _move("session.externalize"),
        "Keep its state in the store.",
        "edgectl session externalize counter/kitchen",
        (_SESSION,),
    ),
    Row(
        "migrate",
        commands.session_migrate,
        "Move a local-state session to another node while it is served. On a terminal stderr shows how far it is.",
        "edgectl session migrate counter/kitchen --to hall-4",
        (
            _SESSION,
            _TO_REQUIRED,
            click.Option(["--force"], is_flag=True, help="however long its calls have to wait"),
            click.Option(["--stop"], is_flag=True, help="copy nothing before its calls wait"),
        ),
    ),
    Row(
        "end",
        commands.session_end,
        "End it: its state and its alarms go. The next call begins it anew.",
        "edgectl session end counter/kitchen",
        (_SESSION,),
    ),
    Row(
        "explain",
        policy.session_explain,
        "Why it is where it is, with the numbers.",
        "edgectl session explain counter/kitchen",
        (_SESSION,),
    ),
)
_FUNCTION_OPTIONAL = _argument("function", "[FN]", required=False)
CONFLICT_COMMANDS = (
    Row(
        "frozen",
        commands.frozen,
        "Sessions that the store has lost something of. Their calls are refused until somebody accepts what it has.",
        "edgectl session frozen counter",
        (_argument("function", "[FN]", required=False),),
    ),
    Row(
        "accept",
        commands.accept,
        "Let a frozen session go on with what the store has. Calls that were acknowledged beyond that are gone, but for a "
        "local-state session whose node still has them.",
        "edgectl session accept counter/kitchen",
        (_SESSION,),
    ),
    Row(
        "conflicts",
        commands.conflicts,
        "Superseded copies of sessions. What their node had acknowledged beyond the record when another one took over.",
        "edgectl session conflicts counter",
        (_argument("function", "[FN]", required=False),),
    ),
    Row(
        "export",
        _conflict("export"),
        "Write a copy's state to FILE. As its function packed it.",
        "edgectl session export hall-3:0a1b2c3d4e5f copy.msgpack",
        (_argument("id_", "ID"), _argument("file", "FILE", type=click.Path(dir_okay=False, path_type=Path))),
    ),
    Row(
        "restore",
        _conflict("restore"),
        "Let a copy become the session. The session has to be remote-state; what it replaces is kept as a copy.",
        "edgectl session restore hall-3:0a1b2c3d4e5f",
        (_argument("id_", "ID"),),
    ),
    Row("discard", _conflict("discard"), "Forget a superseded copy.", "edgectl session discard hall-3:0a1b2c3d4e5f", (_argument("id_", "ID"),)),
)
NODE_COMMANDS = (
    Row(
        "forget",
        commands.forget,
        "NODE is lost for good. Others may take over the sessions that wait for it (on_partition = hold). "
        "If it is not, and serves on, its sessions have two owners.",
        "edgectl node forget hall-3",
        (_argument("node", "NODE"),),
    ),
)
POLICY_COMMANDS = (
    Row("get", policy.get, "Who chooses the modes, and what was measured.", "edgectl policy get"),
    Row(
        "freeze",
        partial(policy.still, "policy.freeze"),
        "Let the mesh move nothing by itself. On all nodes, until thaw; applications and operators go on.",
        "edgectl policy freeze",
    ),
    Row("thaw", partial(policy.still, "policy.thaw"), "Let the mesh move sessions again.", "edgectl policy thaw"),
    Row(
        "explain",
        policy.explain,
        "The last plans and moves, with reasons. To undo one, move the session back: it then stays there for ten minutes.",
        "edgectl policy explain counter",
        (_FUNCTION_OPTIONAL,),
    ),
    Row(
        "what-if",
        policy.what_if,
        "Latency by number of local sessions. With what the mesh measures now, of all functions, or of FN with the others as they are; whoever chooses now.",
        "edgectl policy what-if counter --plot",
        (_FUNCTION_OPTIONAL, click.Option(["--plot"], is_flag=True, help="draw it in the terminal")),
    ),
)

DEAD_COMMANDS = (
    Row(
        "ls",
        commands.dead,
        "Alarms whose tries have all failed, of all functions or of FN.",
        "edgectl dead ls counter",
        (_argument("function", "[FN]", required=False),),
    ),
    Row(
        "replay",
        _dead("session.replay"),
        "Try the dead letters of a session again, or the one named.",
        "edgectl dead replay counter/kitchen tea",
        (_SESSION, _argument("alarm", "[ALARM]", required=False)),
    ),
    Row(
        "drop",
        _dead("session.drop"),
        "Forget the dead letters of a session, or the one named.",
        "edgectl dead drop counter/kitchen",
        (_SESSION, _argument("alarm", "[ALARM]", required=False)),
    ),
)
