"""The demo: three nodes, a store 20 ms away, a fleet of robot arms, and an account of every call.

Decides the exit code: 0 when every count is right, 1 when one is off or something failed, 130 when it was
interrupted before the verdict. Whatever ends it, no process and no file of it stays.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import click
import desk
import trio
from acts import EDGES, FULL, ONE_WAY, QUICK, Story
from desk import DeskFailed
from fleet import WATCHED, Fleet
from nodes import NodeFailed, Nodes, free_port
from proxy import DelayProxy
from screen import Screen
from watch import StoryFailed

from edged_protocol.errors import CallError

OK, OFF, INTERRUPTED = 0, 1, 130

EXAMPLES = """\b
Examples:
  python tools/demo/run.py                      the whole story, about 40 s
  python tools/demo/run.py --keep               and leave the mesh up, with commands to try
  python tools/demo/run.py --quick --json FILE  a short form; the verdict as JSON
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.option("--arms", default=24, show_default=True, type=click.IntRange(WATCHED, 200))
@click.option(
    "--rate",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.2, 50),
    help="calls a second, each arm",
)
@click.option("--quick", is_flag=True, help="shorter acts: for trying, not for quoting figures")
@click.option("--keep", is_flag=True, help="leave the mesh up until Ctrl-C")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write verdict and figures")
def main(arms: int, rate: float, quick: bool, keep: bool, out: Path | None) -> None:
    """Run a mesh of real daemons on loopback and account for every call.

    Three nodes, their state store behind a line that takes 20 ms there and back, and a fleet of simulated
    robot arms. One arm turns abnormal, its session turns local-state, moves from node to node under load and
    back to the store. Exit code 0 only if no call was lost and none counted twice.
    """
    run = partial(play, arms, rate, quick, keep, out)
    sys.exit(trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True))


async def play(arms: int, rate: float, quick: bool, keep: bool, out: Path | None) -> int:
    """One performance; the exit code."""
    with tempfile.TemporaryDirectory(prefix="edged-demo-") as root, Screen() as screen:
        proxy = DelayProxy(("127.0.0.1", free_port()), ONE_WAY)
        nodes = Nodes(Path(root))
        story = Story(screen, nodes, proxy, Fleet(arms, rate), QUICK if quick else FULL)
        code = INTERRUPTED
        async with trio.open_nursery() as outer:
            await outer.start(proxy.run)
            with trio.CancelScope() as scope:
                await outer.start(interrupts, scope, nodes)
                try:
                    code = await told(story, screen)
                    save(out, story, code, screen.seconds)
                    if keep:
                        await contained(screen, partial(kept, screen, nodes))
                finally:
                    with trio.CancelScope(shield=True):
                        await nodes.stop()
            outer.cancel_scope.cancel()
        screen.say(closing(code, screen.seconds, story), "bold green" if code == OK else "bold red")
    return code


async def interrupts(
    scope: trio.CancelScope,
    nodes: Nodes,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The first SIGINT or SIGTERM ends the story, a second one the nodes at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if scope.cancel_called:
                nodes.hurry()
            scope.cancel()


async def told(story: Story, screen: Screen) -> int:
    """The story's exit code."""
    ended = await contained(screen, story.tell)
    return OK if ended and right(story) else OFF


async def contained(screen: Screen, part: Callable[[], Awaitable[None]]) -> bool:
    """Whether `part` came to its end; what went wrong is shown."""
    failures: list[BaseException] = []
    try:
        await part()
    except* (StoryFailed, NodeFailed, DeskFailed, CallError) as group:
        failures = flat(group)
    for failure in failures:
        screen.say(f"FAILED: {failure}", "red")
    return not failures


def flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in it, without their groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def right(story: Story) -> bool:
    """Whether there is a verdict, and nothing is off."""
    return bool(story.checks) and all(check.ok for check in story.checks)


def save(out: Path | None, story: Story, code: int, seconds: float) -> None:
    """Write the verdict and the figures, if a file is wanted."""
    checks = [check._asdict() for check in story.checks]
    said = {"ok": code == OK, "seconds": round(seconds, 1), "checks": checks, **story.figures}
    if out is not None:
        out.write_text(json.dumps(said, indent=1) + "\n")


def closing(code: int, seconds: float, story: Story) -> str:
    """The last line."""
    if code == OK:
        return f"Every call counted once; nothing of the demo is left running. {seconds:.1f} s"
    if code == INTERRUPTED:
        return "Interrupted; nothing of the demo is left running."
    off = [check.name for check in story.checks if not check.ok]
    return f"OFF: {', '.join(off) or 'the story did not reach its end'}"


def to_try(addresses: dict[str, str]) -> list[list[str]]:
    """Commands that work on the mesh of the demo, in this order."""
    first, second = addresses[EDGES[0]], addresses[EDGES[1]]
    return [
        desk.words("nodes", node=first),
        desk.words("sessions", node=first),
        desk.words("call", "counter/mine", "incr", "5", node=first),
        desk.words("session", "localize", "counter/mine", "--to", EDGES[1], node=first),
        desk.words("call", "counter/mine", "incr", "5", node=first),
        desk.words("session", "migrate", "counter/mine", "--to", EDGES[2], node=second),
        desk.words("session", "get", "counter/mine", node=second),
        desk.words("call", f"arm-monitor/arm-{WATCHED}", "report", node=second),
        desk.words("session", "externalize", "counter/mine", node=first),
        desk.words("status", node=second),
    ]


async def kept(screen: Screen, nodes: Nodes) -> None:
    """Leave the mesh up until a signal."""
    screen.act(7, "The mesh stays up until Ctrl-C; try")
    for command in to_try({node.name: node.address for node in nodes.running}):
        screen.command(command)
    await nodes.watch()


if __name__ == "__main__":
    main()
