"""The `edgectl` program (DESIGN §9): its groups, and in them the commands that rows.py has rows of.

Decides the options before the command, how help is laid out, and with which text and exit code a failure ends. Refuses
to know what a command takes and does, the wire, and how results look.
"""

import os
from typing import Any, NoReturn

import click

from edged_protocol.client import Unreachable
from edged_protocol.errors import CallError

from . import arguments
from .addresses import targets
from .commands import Desk
from .failures import INTERRUPTED, UNREACHABLE, exit_code
from .program import Program, complain
from .render import printable
from .rows import (
    COMMANDS,
    CONFLICT_COMMANDS,
    DEAD_COMMANDS,
    NODE_COMMANDS,
    POLICY_COMMANDS,
    SESSION_COMMANDS,
    Row,
)

EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 rejected (not run), 5 unknown outcome, "
    "6 unreachable, 130 interrupted."
)
_WHERE = "(--node, --admin, EDGED_NODE or EDGED_ADMIN say where a node is)"
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command that takes negative numbers as arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, arguments.shield_numbers(args))


class Tool(Program):
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
        complain(printable(line))
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
