"""The `edgectl` program (DESIGN §9): its commands are rows of two tables.

Decides options, help and exit codes. Refuses to know the wire and how results look.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from edged_protocol.client import Unreachable
from edged_protocol.errors import CallError
from edged_protocol.limits import MAX_TIMEOUT_MS

from . import arguments, commands, policy
from .addresses import targets
from .commands import CALL_SECONDS, Desk
from .failures import INTERRUPTED, UNREACHABLE, exit_code
from .render import printable

EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 rejected (not run), 5 unknown outcome, "
    "6 unreachable, 130 interrupted."
)
_WHERE = "(--node, --admin, EDGED_NODE or EDGED_ADMIN say where a node is)"
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


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
_SECONDS = click.FloatRange(min=0, max=MAX_TIMEOUT_MS / 1000, min_open=True)
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
        "What happened on all nodes. With -o json each line is a JSON object.",
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
            click.Option(["--every"], metavar="S", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="seconds between two looks"),
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
            click.Option(["--wait"], metavar="S", type=click.FloatRange(min=0.1, max=60), default=2.0, show_default=True, help="seconds to listen"),
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
        "What FN's containers printed, on all nodes. With -o json each line is a JSON object.",
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


class Command(click.Command):
    """A command that takes negative numbers as arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arguments.shield_numbers(args))


class Tool(click.Group):
    """The group that turns failures into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail(ctx, "interrupted", INTERRUPTED)
        except Unreachable as error:
            _fail(ctx, f"no answer from the mesh: {error}\n{_WHERE}", UNREACHABLE)
        except CallError as error:
            _fail(ctx, _explained(error), exit_code(error))


def _fail(ctx: click.Context, text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        click.echo(printable(line), err=True)
    ctx.exit(code)


def _explained(error: CallError) -> str:
    trace = error.meta.get("traceback")
    told = f"{trace}\n{error}" if isinstance(trace, str) else str(error)
    return "\n".join([told, *getattr(error, "__notes__", ())])


def _command(row: Row) -> click.Command:
    def callback(**options: Any) -> None:
        row.function(click.get_current_context().find_object(Desk), **options)

    return (Command if row.name == "call" else click.Command)(
        row.name,
        callback=callback,
        params=list(row.params),
        help=row.help,
        epilog=f"Example: {row.example}",
        context_settings=HELP_OPTIONS,
    )


@click.group(cls=Tool, context_settings=HELP_OPTIONS, epilog=EXIT_CODES)
@click.version_option(package_name="edged")
@click.option("--node", metavar="ADDR", help="host:port of a node; default: $EDGED_NODE")
@click.option("--admin", metavar="SOCK", help="a node's admin socket; default: $EDGED_ADMIN")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="for people, or one JSON document",
)
@click.pass_context
def main(ctx: click.Context, node: str | None, admin: str | None, output: str) -> None:
    """Look after a mesh of edged nodes.

    Example: edgectl --node 127.0.0.1:7400 nodes
    """
    try:
        ctx.obj = Desk(tuple(targets(node, admin, os.environ)), output == "json")
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@main.group("session", context_settings=HELP_OPTIONS)
def session_group() -> None:
    """Look at one session, change its mode, move it.

    Example: edgectl session get counter/kitchen
    """


@main.group("node", context_settings=HELP_OPTIONS)
def node_group() -> None:
    """Decide about a node that is lost.

    Example: edgectl node forget hall-3
    """


@main.group("dead", context_settings=HELP_OPTIONS)
def dead_group() -> None:
    """Alarms whose tries have all failed.

    Example: edgectl dead ls
    """


@main.group("policy", context_settings=HELP_OPTIONS)
def policy_group() -> None:
    """What the mesh does with sessions by itself, and why.

    Example: edgectl policy what-if
    """


for _row in COMMANDS:
    main.add_command(_command(_row))
for _row in SESSION_COMMANDS:
    session_group.add_command(_command(_row))
for _row in CONFLICT_COMMANDS:
    session_group.add_command(_command(_row))
for _row in NODE_COMMANDS:
    node_group.add_command(_command(_row))
for _row in POLICY_COMMANDS:
    policy_group.add_command(_command(_row))
for _row in DEAD_COMMANDS:
    dead_group.add_command(_command(_row))

if __name__ == "__main__":
    main()
